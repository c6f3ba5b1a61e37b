"""Priority rings keep order, keep their bounds, and own their items exactly once."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.rings import RingsModel

from gateway._fast.ring import EVERY_CLASS, PriorityRings


class Item:
    """Something that can be counted and weakly referenced, and may close a cycle."""

    rings: PriorityRings | None = None


def test_the_first_class_goes_first_and_the_oldest_of_it() -> None:
    rings = PriorityRings([4, 4])
    for cls, item in ((1, "b1"), (0, "a1"), (1, "b2"), (0, "a2")):
        assert rings.push(cls, item, 0)
    assert [rings.pop(EVERY_CLASS) for _ in range(5)] == ["a1", "a2", "b1", "b2", None]


def test_only_allowed_classes_are_served() -> None:
    rings = PriorityRings([4, 4, 4])
    rings.push(0, "a", 0)
    rings.push(2, "c", 0)
    assert rings.peek_class(0b110) == 2
    assert rings.pop(0b110) == "c"
    assert rings.pop(0b110) is None
    assert rings.peek_class(0b110) == -1
    assert rings.pop(0) is None
    assert len(rings) == 1


def test_refuses_when_the_class_is_full_and_changes_nothing() -> None:
    rings = PriorityRings([2, 1])
    assert rings.push(0, "a", 5)
    assert rings.push(0, "b", 6)
    assert not rings.push(0, "c", 7)
    assert (rings.depth(0), rings.room(0), rings.oldest_stamp(0), len(rings)) == (2, 0, 5, 2)
    assert rings.push(1, "d", 8)


def test_wraps_around_many_times() -> None:
    rings = PriorityRings([3])
    for n in range(20):
        assert rings.push(0, n, n)
        assert rings.push(0, -n - 1, n)
        assert rings.oldest_stamp(0) == n
        assert (rings.pop(1), rings.pop(1)) == (n, -n - 1)


def test_sixteen_classes_are_told_apart() -> None:
    rings = PriorityRings([1] * 16)
    for cls in reversed(range(16)):
        assert rings.push(cls, f"item {cls}", cls)
    assert [rings.oldest_stamp(cls) for cls in range(16)] == list(range(16))
    assert [rings.pop(EVERY_CLASS) for _ in range(16)] == [f"item {cls}" for cls in range(16)]


def test_a_batch_goes_in_as_far_as_there_is_room() -> None:
    rings = PriorityRings([3])
    rings.push(0, "a", 1)
    assert rings.push_many(0, ["b", "c", "d"], [2, 3, 4]) == 2
    assert rings.push_many(0, ["e"], [5]) == 0
    assert [rings.pop(1) for _ in range(4)] == ["a", "b", "c", None]
    assert rings.push_many(0, [], []) == 0
    assert rings.peek_class(1) == -1


@pytest.mark.parametrize(
    ("items", "stamps", "error"),
    [
        (["a", "b"], [1], ValueError),
        (["a", None], [1, 2], TypeError),
        (["a", "b"], [1, -2], ValueError),
        (["a", "b"], [1, 2**63], OverflowError),
        (["a", "b"], [1, 2.5], TypeError),
        (["a", "b"], [1, None], TypeError),
    ],
)
def test_a_batch_with_a_fault_leaves_the_rings_alone(
    items: list[object], stamps: list[int], error: type[Exception]
) -> None:
    rings = PriorityRings([4])
    with pytest.raises(error):
        rings.push_many(0, items, stamps)
    assert len(rings) == 0
    assert rings.pop(1) is None


def test_clear_empties_every_class_and_leaves_them_usable() -> None:
    rings = PriorityRings([2, 2])
    rings.push_many(0, ["a", "b"], [1, 2])
    rings.push(1, "c", 3)
    rings.clear()
    assert (len(rings), rings.peek_class(EVERY_CLASS), rings.oldest_stamp(0)) == (0, -1, -1)
    assert rings.push_many(0, ["d", "e", "f"], [4, 5, 6]) == 2
    assert rings.pop(EVERY_CLASS) == "d"


def test_reports_capacity_and_room() -> None:
    rings = PriorityRings((3, 5))
    rings.push(1, "a", 0)
    assert [(rings.capacity(cls), rings.room(cls), rings.depth(cls)) for cls in (0, 1)] == [
        (3, 3, 0),
        (5, 4, 1),
    ]


def test_owns_each_item_once() -> None:
    item = Item()
    before = sys.getrefcount(item)
    rings = PriorityRings([3])
    rings.push(0, item, 0)
    rings.push_many(0, [item, item, item], [0, 0, 0])
    assert sys.getrefcount(item) == before + 3
    rings.push(0, item, 0)
    assert sys.getrefcount(item) == before + 3
    rings.pop(1)
    assert sys.getrefcount(item) == before + 2
    rings.clear()
    assert sys.getrefcount(item) == before
    rings.push(0, item, 0)
    del rings
    assert sys.getrefcount(item) == before


def test_empty_slots_neither_gain_nor_lose_none() -> None:
    rings = PriorityRings([8])
    before = sys.getrefcount(None)
    for _ in range(1000):
        rings.push(0, "a", 0)
        rings.push_many(0, ["b", "c"], [0, 0])
        for _ in range(4):
            rings.pop(1)
        rings.clear()
    assert abs(sys.getrefcount(None) - before) < 100


@pytest.fixture
def only_explicit_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("only_explicit_collections")
def test_a_cycle_through_the_rings_is_collected() -> None:
    item = Item()
    item.rings = PriorityRings([2])
    item.rings.push(0, item, 0)
    gone = weakref.ref(item)
    del item
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_a_destructor_may_push_while_the_rings_are_cleared() -> None:
    rings = PriorityRings([2])

    class PushesBack:
        def __del__(self) -> None:
            assert len(rings) < 2
            rings.push(0, "from a destructor", 1)

    rings.push_many(0, [PushesBack(), PushesBack()], [0, 0])
    rings.clear()
    assert [rings.pop(1) for _ in range(3)] == ["from a destructor", "from a destructor", None]


def test_falsy_items_are_items() -> None:
    rings = PriorityRings([3])
    assert rings.push_many(0, [0, "", False], [0, 0, 0]) == 3
    assert [rings.pop(1) for _ in range(3)] == [0, "", False]


@pytest.mark.parametrize("capacities", [[], [1] * 17, [0], [1, -1], [2**24 + 1], [2**23, 2**23 + 1]])
def test_the_door_refuses_what_is_out_of_range(capacities: list[int]) -> None:
    with pytest.raises(ValueError, match=r"is -?\d+, must be 1\.\.\d+"):
        PriorityRings(capacities)


@pytest.mark.parametrize("cls", [-1, 2, 16, 1000])
def test_a_class_that_does_not_exist_is_refused(cls: int) -> None:
    rings = PriorityRings([1, 1])
    with pytest.raises(ValueError, match=r"class is -?\d+, must be 0\.\.1"):
        rings.push(cls, "a", 0)
    for method in (rings.depth, rings.capacity, rings.room, rings.oldest_stamp):
        with pytest.raises(ValueError, match=r"class is -?\d+, must be 0\.\.1"):
            method(cls)


def test_refuses_stamps_and_masks_out_of_range() -> None:
    rings = PriorityRings([1])
    with pytest.raises(ValueError, match="stamp is -1, must be 0 or more"):
        rings.push(0, "a", -1)
    with pytest.raises(OverflowError):
        rings.push(0, "a", 2**63)
    with pytest.raises(OverflowError):
        rings.pop(-1)
    with pytest.raises(OverflowError):
        rings.pop(2**32)
    assert len(rings) == 0


def test_none_is_refused_not_followed() -> None:
    rings = PriorityRings([1])
    with pytest.raises(TypeError):
        rings.push(0, None, 0)
    with pytest.raises(TypeError):
        rings.push_many(0, None, [0])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        rings.push_many(0, ["a"], None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        rings.pop(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        PriorityRings(None)  # type: ignore[arg-type]


CLASSES = 3


class RingsBesideModel(RuleBasedStateMachine):
    @initialize(capacities=st.lists(st.integers(1, 5), min_size=CLASSES, max_size=CLASSES))
    def make(self, capacities: list[int]) -> None:
        self.next_item = 0
        self.native = PriorityRings(capacities)
        self.model = RingsModel(capacities)

    def new_item(self) -> int:
        self.next_item += 1
        return self.next_item

    @rule(cls=st.integers(0, CLASSES - 1), stamp=st.integers(0, 2**63 - 1))
    def push(self, cls: int, stamp: int) -> None:
        item = self.new_item()
        assert self.native.push(cls, item, stamp) is self.model.push(cls, item, stamp)

    @rule(cls=st.integers(0, CLASSES - 1), stamps=st.lists(st.integers(0, 100), max_size=6))
    def push_many(self, cls: int, stamps: list[int]) -> None:
        items: list[object] = [self.new_item() for _ in stamps]
        assert self.native.push_many(cls, items, stamps) == self.model.push_many(cls, items, stamps)

    @rule(allowed_mask=st.integers(0, 2**CLASSES - 1))
    def pop(self, allowed_mask: int) -> None:
        assert self.native.peek_class(allowed_mask) == self.model.peek_class(allowed_mask)
        assert self.native.pop(allowed_mask) == self.model.pop(allowed_mask)

    @rule()
    def clear(self) -> None:
        self.native.clear()
        self.model.clear()

    @invariant()
    def depths_and_stamps_agree(self) -> None:
        assert len(self.native) == len(self.model)
        for cls in range(CLASSES):
            assert self.native.room(cls) == self.model.room(cls)
            assert self.native.depth(cls) == len(self.model.queues[cls])
            assert self.native.oldest_stamp(cls) == self.model.oldest_stamp(cls)


TestRingsBesideModel = RingsBesideModel.TestCase
TestRingsBesideModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)

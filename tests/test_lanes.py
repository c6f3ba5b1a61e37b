"""Order per contact: one at a time, in the order of acceptance, whatever fails and waits; other contacts go on."""

import random

import msgspec
import pytest
from builders import WALL_MS, MemoryStore, inbound
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import NS_PER_S, FakeClock
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.store.backlog import Backlog
from gateway.store.lanes import Lanes


def contact(record: InboundRecord) -> str | None:
    return record.lane or None


class Rig:
    """A backlog with lanes, and who is out of each."""

    def __init__(self, slots: int = 64, aside_max: int = 1000) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)

        async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
            return await self.store.read_inbound(InboundClass(cls), after_seq, limit)

        self.queue: Backlog[InboundRecord] = Backlog(
            len(InboundClass),
            slots,
            aside_max,
            read_page,
            lambda r: r.received_ms,
            self.clock,
            lane_of=contact,
        )

    def push(self, *lanes: str) -> int:
        """The number of the last one."""
        seq = 0
        for lane in lanes:
            seq = self.store.next_seq()
            self.queue.push(
                inbound(seq, InboundClass.MESSAGE, [Kind.MESSAGE], lane=lane, received_ms=WALL_MS)
            )
        return seq

    def take(self) -> int | None:
        record = self.queue.take()
        return None if record is None else record.seq

    def taken(self, seq: int) -> InboundRecord:
        return self.queue._taken[seq]


def test_the_next_of_a_contact_waits_until_the_one_before_has_ended() -> None:
    rig = Rig()
    rig.push("a", "a", "b")
    assert [rig.take(), rig.take(), rig.take()] == [1, 3, None]
    assert (rig.queue.behind(), rig.queue.total()) == (1, 3)
    rig.queue.settle(rig.taken(1))
    assert rig.take() == 2


def test_a_retry_keeps_its_place_before_those_behind_it() -> None:
    rig = Rig()
    rig.push("a", "a", "a")
    assert rig.take() == 1
    rig.queue.defer(rig.taken(1), rig.clock.now_ns() + NS_PER_S)
    assert rig.take() is None
    rig.clock.advance_ns(NS_PER_S)
    assert rig.take() == 1
    rig.queue.settle(rig.taken(1))
    assert [rig.take(), rig.take()] == [2, None]


def test_what_has_no_contact_waits_for_nobody() -> None:
    rig = Rig()
    rig.push("", "", "")
    assert [rig.take(), rig.take(), rig.take()] == [1, 2, 3]


def test_what_is_released_goes_before_what_is_fresh_and_is_no_retry() -> None:
    rig = Rig()
    rig.push("a", "a", "b", "c")
    assert [rig.take(), rig.take()] == [1, 3]
    rig.queue.settle(rig.taken(1))
    assert (rig.queue.delayed(), rig.queue.depth(InboundClass.MESSAGE)) == (0, 2)
    assert [rig.take(), rig.take()] == [2, 4]


@pytest.mark.parametrize("is_released", [False, True])
def test_one_that_waits_behind_another_can_be_withdrawn(is_released: bool) -> None:
    rig = Rig()
    rig.push("a", "a", "a")
    assert [rig.take(), rig.take()] == [1, None]
    if is_released:
        rig.queue.settle(rig.taken(1))
    withdrawn = rig.queue.withdraw(2, InboundClass.MESSAGE)
    assert withdrawn is not None
    assert withdrawn.seq == 2
    with pytest.raises(KeyError):
        rig.queue.withdraw(2, InboundClass.MESSAGE)
    if not is_released:
        assert rig.take() is None
        rig.queue.settle(rig.taken(1))
    assert rig.take() == 3
    rig.queue.reinstate(msgspec.structs.replace(withdrawn, cls=InboundClass.MESSAGE))
    assert rig.take() is None, "3 has the lane now"
    rig.queue.settle(rig.taken(3))
    assert rig.take() == 2
    rig.queue.settle(rig.taken(2))
    assert rig.queue.total() == rig.queue.behind() == rig.queue.memory_bytes == 0


def test_a_retry_that_is_withdrawn_lets_the_next_go() -> None:
    rig = Rig()
    rig.push("a", "a")
    assert [rig.take(), rig.take()] == [1, None]
    rig.queue.defer(rig.taken(1), rig.clock.now_ns() + NS_PER_S)
    assert rig.queue.withdraw(1, InboundClass.MESSAGE) is not None
    assert rig.take() == 2


def test_one_that_is_withdrawn_and_comes_back_changed_is_the_one_that_goes() -> None:
    lanes: Lanes[InboundRecord] = Lanes(contact)
    holder, behind = (inbound(seq, lane="a") for seq in (1, 2))
    assert [lanes.enter(holder), lanes.enter(behind)] == [True, False]
    lanes.remove(2)
    changed = msgspec.structs.replace(behind, attempts=1)
    assert not lanes.enter(changed)
    assert lanes.leave(holder) is changed
    assert lanes.leave(changed) is None
    assert (lanes._holders, lanes._behind, len(lanes)) == ({}, {}, 0)


def test_one_that_waits_in_another_lane_now_is_not_given_by_the_old_one() -> None:
    lanes: Lanes[InboundRecord] = Lanes(contact)
    first, other = inbound(1, lane="a"), inbound(2, lane="b")
    assert [lanes.enter(first), lanes.enter(other)] == [True, True]
    moving = inbound(3, lane="a")
    assert not lanes.enter(moving)
    lanes.remove(3)
    moved = msgspec.structs.replace(moving, lane="b")
    assert not lanes.enter(moved)
    assert lanes.leave(first) is None
    assert lanes.leave(other) is moved


def test_a_lane_that_nobody_holds_takes_no_memory() -> None:
    lanes: Lanes[InboundRecord] = Lanes(contact)
    records = [inbound(seq, lane="a") for seq in range(1, 4)]
    assert [lanes.enter(record) for record in records] == [True, False, False]
    lanes.remove(2)
    assert [lanes.leave(records[0]), lanes.leave(records[2])] == [records[2], None]
    assert (lanes._holders, lanes._behind, len(lanes)) == ({}, {}, 0)


@given(seed=st.integers(0, 2**32))
def test_every_contact_gets_all_of_its_own_in_order_one_at_a_time(seed: int) -> None:
    rng = random.Random(seed)
    rig = Rig(slots=rng.choice([2, 4, 64]), aside_max=rng.choice([3, 8, 1000]))
    sent: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    out: dict[int, InboundRecord] = {}
    for _ in range(rng.randint(1, 120)):
        match rng.choice(["push", "take", "take", "settle", "defer", "time"]):
            case "push" if rig.queue.depth(InboundClass.MESSAGE) < rig.queue.slots:
                lane = rng.choice("abcd")
                sent.setdefault(lane, []).append(rig.push(lane))
            case "take" if (record := rig.queue.take()) is not None:
                assert record.lane not in {other.lane for other in out.values()}, "two of one contact at once"
                assert ended.get(record.lane, []) == [s for s in sent[record.lane] if s < record.seq]
                out[record.seq] = record
            case "settle" if out:
                record = out.pop(rng.choice(sorted(out)))
                ended.setdefault(record.lane, []).append(record.seq)
                rig.queue.settle(record)
            case "defer" if out:
                record = out.pop(rng.choice(sorted(out)))
                rig.queue.defer(record, rig.clock.now_ns() + rng.randint(0, 3))
            case "time":
                rig.clock.advance_ns(1)
            case _:
                pass
        free = {lane for lane in sent if len(ended.get(lane, [])) < len(sent[lane])} - {
            r.lane for r in out.values()
        }
        assert rig.queue.total() == sum(map(len, sent.values())) - sum(map(len, ended.values()))
        if not free:
            assert rig.queue.take() is None
    rig.clock.advance_ns(100)
    while out or rig.queue.total():
        for record in out.values():
            ended.setdefault(record.lane, []).append(record.seq)
            rig.queue.settle(record)
        out.clear()
        while (record := rig.queue.take()) is not None:
            out[record.seq] = record
        assert out or not rig.queue.total(), "something waits and nobody can have it"
    assert ended == sent


def test_what_comes_from_another_class_is_forgotten_when_it_has_ended() -> None:
    """A class fed by class changes or a schedule alone must not remember every number that passed."""
    rig = Rig()
    for _ in range(50):
        seq = rig.push("")
        record = rig.queue.withdraw(seq, InboundClass.MESSAGE)
        assert record is not None
        rig.queue.reinstate(msgspec.structs.replace(record, cls=InboundClass.RECEIPT))
        assert rig.take() == seq
        rig.queue.settle(rig.taken(seq))
    assert sum(map(len, rig.queue._ahead)) == 0

"""Strict order, a floor for bulk, a cap for replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budget.classes import ClassShares
from gateway.events import SendClass

ALL = 0b1111
REPLY, HIGH, NORMAL, BULK = (1 << cls for cls in SendClass)


def play(shares: ClassShares, ready: int, sends: int) -> list[int]:
    """How many sends of each class go while the classes in `ready` always have something."""
    counts = [0] * len(SendClass)
    for _ in range(sends):
        cls = shares.choose(ready)
        shares.sent(cls, ready)
        counts[cls] += 1
    return counts


def test_order_is_strict_without_shares() -> None:
    assert play(ClassShares(0, 100), ALL, 1000) == [1000, 0, 0, 0]
    assert play(ClassShares(0, 100), HIGH | NORMAL | BULK, 1000) == [0, 1000, 0, 0]


def test_bulk_gets_its_floor_whatever_else_waits() -> None:
    counts = play(ClassShares(5, 100), ALL, 10_000)
    assert counts == [9_501, 0, 0, 499], "credit grows first, then it is spent"


def test_replies_leave_their_rest_to_the_others_in_order() -> None:
    counts = play(ClassShares(0, 80), ALL, 10_000)
    assert counts == [8_001, 1_999, 0, 0], "credit grows first, then it is spent"


def test_replies_alone_are_not_capped() -> None:
    assert play(ClassShares(5, 80), REPLY, 1000) == [1000, 0, 0, 0]


def test_both_shares_hold_together() -> None:
    counts = play(ClassShares(5, 80), ALL, 10_000)
    assert counts[SendClass.BULK] >= 500 - 1
    assert counts[SendClass.REPLY] <= 8_000 + 1
    assert sum(counts) == 10_000


def test_an_idle_class_saves_nothing_up() -> None:
    shares = ClassShares(5, 80)
    play(shares, REPLY | NORMAL, 1000)
    assert play(shares, ALL, 10)[SendClass.BULK] == 0


@given(
    floor=st.integers(0, 50),
    share=st.integers(50, 100),
    ready=st.lists(st.integers(1, ALL), min_size=1, max_size=300),
)
def test_what_is_chosen_is_ready_and_shares_are_kept_over_any_run(
    floor: int, share: int, ready: list[int]
) -> None:
    shares = ClassShares(floor, share)
    with_bulk = bulk = with_others = replies = 0
    for mask in ready:
        cls = shares.choose(mask)
        assert mask >> cls & 1
        shares.sent(cls, mask)
        if mask & BULK:
            with_bulk += 1
            bulk += cls == SendClass.BULK
        else:
            with_bulk = bulk = 0
        if mask & ~REPLY:
            with_others += 1
            replies += cls == SendClass.REPLY
        else:
            with_others = replies = 0
        # While bulk has been waiting without a break it has had its share, less one send under way to it.
        assert bulk >= with_bulk * floor // 100 - 1
        if floor + (100 - share) <= 50:
            assert replies <= with_others * share / 100 + 2


@pytest.mark.parametrize(("floor", "share"), [(51, 80), (-1, 80), (5, 49), (5, 101)])
def test_shares_outside_their_range_are_refused(floor: int, share: int) -> None:
    with pytest.raises(AssertionError):
        ClassShares(floor, share)

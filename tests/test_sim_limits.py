"""The checks of limits that are not the plan: each finds what is one too many, and nothing else."""

from gateway.clock import NS_PER_S
from gateway.events import TpsKind
from gateway.sim import limits
from gateway.sim.counter import WireCounter
from gateway.sim.workload import Push

ONE_EACH = dict.fromkeys(TpsKind, 1)
TENTH_NS = NS_PER_S // 10


def counted(*sends_ns: int, served_ns: tuple[int, ...] = ()) -> WireCounter:
    counter = WireCounter(ONE_EACH)
    for at_ns in served_ns:
        counter.served(TpsKind.DELIVERED, at_ns, at_ns)
    for at_ns in sends_ns:
        counter.sent(at_ns, at_ns, 10)
    return counter


def to_one(*sends_ns: int) -> list[tuple[int, Push]]:
    return [(at_ns, Push(0, str(at_ns), to="a")) for at_ns in sends_ns]


# -- smoothing


def test_what_is_saved_may_go_at_once_and_then_the_rate() -> None:
    assert limits.bursts([0, 0, TENTH_NS, 2 * TENTH_NS], 1, 2.0, 10.0) == []
    assert limits.bursts([0, 0, TENTH_NS - 1], 1, 2.0, 10.0) == [], "a nanosecond is rounding"
    (found,) = limits.bursts([0, 0, TENTH_NS // 2], 1, 2.0, 10.0)
    assert found.startswith("the send at 0.050000 s is 0.50 events more")


def test_a_dear_send_takes_what_it_costs_of_what_is_saved() -> None:
    assert limits.bursts([0, 2 * TENTH_NS], 2, 2.0, 10.0) == []
    assert limits.bursts([0, TENTH_NS], 2, 2.0, 10.0)


# -- pairs


def test_a_recipient_gets_a_burst_and_then_one_an_interval_in_any_span() -> None:
    assert limits.pairs(to_one(5, 5, 5 + NS_PER_S, 5 + 2 * NS_PER_S), NS_PER_S, 2, []) == []
    assert len(limits.pairs(to_one(5, 5, 4 + NS_PER_S), NS_PER_S, 2, [])) == 1
    # After a long silence the burst is there again, and no more than that.
    assert len(limits.pairs(to_one(0, 9 * NS_PER_S, 9 * NS_PER_S, 9 * NS_PER_S), NS_PER_S, 2, [])) == 1


def test_groups_other_recipients_and_what_was_before_a_restart_are_not_of_the_pair() -> None:
    check = limits.pairs
    group, other = Push(0, "g", members=3, to="a"), Push(0, "b", to="b")
    assert check([*to_one(5), (5, group), (5, other)], NS_PER_S, 1, []) == []
    assert check(to_one(5, 7), NS_PER_S, 1, [6]) == []
    assert len(check(to_one(5, 7), NS_PER_S, 1, [8])) == 1


# -- 429


def test_nothing_goes_for_two_seconds_after_429() -> None:
    assert limits.slowed(counted(0, 2 * NS_PER_S), [0], [], 2.0, 10.0) == []
    (found,) = limits.slowed(counted(0, 2 * NS_PER_S - 1), [0], [], 2.0, 10.0)
    assert found == "1 sends in the 2 s after 429 at 0.000000 s"
    assert limits.slowed(counted(0, NS_PER_S), [0], [NS_PER_S], 2.0, 10.0) == [], "a restart knows of no 429"


def test_after_the_pause_all_together_is_slower_than_before() -> None:
    """2 saved, and 0.8 of 10 a second."""
    slow = [2 * NS_PER_S + 1 + n * NS_PER_S // 8 for n in range(80)]
    assert limits.slowed(counted(0, *slow), [0], [], 2.0, 10.0) == []
    receipts = tuple(at_ns for at_ns in slow[::8])
    (found,) = limits.slowed(counted(0, *slow, served_ns=receipts), [0], [], 2.0, 10.0)
    assert "after the pause for 429 at 0.000000 s" in found


def test_arrivals_that_alone_are_more_are_not_the_senders_fault() -> None:
    flood = tuple(2 * NS_PER_S + 1 + n * TENTH_NS for n in range(20))
    assert limits.slowed(counted(0, 4 * NS_PER_S, served_ns=flood), [0], [], 2.0, 10.0) == []


# -- the floor


def test_with_a_floor_the_plan_may_be_passed_by_its_share_and_no_more() -> None:
    """A plan of 10 and a floor of 20 %: two sends, one saved up and what is not whole, beside a full second."""

    def violations(sends: int, arrivals: int, floor_percent: int) -> list[str]:
        counter = WireCounter(ONE_EACH, floor_percent)
        for _ in range(arrivals):
            counter.served(TpsKind.RECEIVE, 0, 0)
        for n in range(sends):
            counter.sent(1 + n, 1 + n, 10)
        return counter.violations()

    assert violations(4, 10, 20) == []
    assert len(violations(5, 10, 20)) == 1
    assert len(violations(1, 10, 0)) == 1
    # Arrivals that leave sends more than the floor: passing the plan then is no floor's business.
    assert len(violations(8, 3, 20)) == 1

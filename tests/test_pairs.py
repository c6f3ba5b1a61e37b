"""The pair limit books a slot for each send: exact, in order, bounded."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.budget.pairs import PairLimit
from gateway.clock import NS_PER_S

T0 = 1_000 * NS_PER_S
INTERVAL_NS = 6 * NS_PER_S
BURST = 45


def test_a_burst_goes_at_once_and_then_one_an_interval() -> None:
    pairs = PairLimit(INTERVAL_NS, BURST)
    slots = [pairs.reserve("1", T0) for _ in range(BURST + 3)]
    assert slots == [T0] * BURST + [T0 + INTERVAL_NS * n for n in (1, 2, 3)]


def test_what_is_not_used_is_saved_up_to_the_burst_to_the_nanosecond() -> None:
    pairs = PairLimit(INTERVAL_NS, 2)
    assert [pairs.reserve("1", T0) for _ in range(2)] == [T0, T0]
    assert pairs.reserve("1", T0 + INTERVAL_NS - 1) == T0 + INTERVAL_NS
    assert pairs.reserve("1", T0 + 2 * INTERVAL_NS) == T0 + 2 * INTERVAL_NS
    later_ns = T0 + 100 * INTERVAL_NS
    assert [pairs.reserve("1", later_ns) - later_ns for _ in range(3)] == [0, 0, INTERVAL_NS]


def test_recipients_do_not_know_each_other_and_a_plus_is_no_difference() -> None:
    pairs = PairLimit(INTERVAL_NS, 1)
    assert pairs.reserve("1", T0) == T0
    assert pairs.reserve("2", T0) == T0
    assert pairs.reserve("+1", T0) == T0 + INTERVAL_NS


def test_recipients_whose_burst_is_whole_again_are_forgotten() -> None:
    pairs = PairLimit(INTERVAL_NS, BURST)
    for at in range(1_000):
        pairs.reserve(str(at), T0)
    assert len(pairs) == 1_000
    for at in range(1_000):
        pairs.reserve("again", T0 + INTERVAL_NS + at)
    assert len(pairs) == 1
    assert pairs.forgotten_early == 0


def test_one_who_is_owed_much_keeps_nobody_from_being_forgotten() -> None:
    pairs = PairLimit(INTERVAL_NS, 1)
    for _ in range(100):
        pairs.reserve("busy", T0)
    for at in range(50):
        pairs.reserve(str(at), T0)
    for at in range(100):
        pairs.reserve("later", T0 + INTERVAL_NS + at)
    assert len(pairs) == 2
    assert pairs.reserve("busy", T0 + INTERVAL_NS) == T0 + 100 * INTERVAL_NS


def test_recipients_are_bounded() -> None:
    pairs = PairLimit(INTERVAL_NS, 1, recipients_max=10)
    for at in range(25):
        pairs.reserve(str(at), T0)
    assert len(pairs) == 10
    assert pairs.forgotten_early == 15


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3 * NS_PER_S)), max_size=40),
)
def test_no_stretch_of_time_holds_more_than_its_share(burst: int, sends: list[tuple[str, int]]) -> None:
    """Of one recipient: in any closed span of length t at most burst + t / interval, and slots in order."""
    interval_ns = NS_PER_S
    pairs = PairLimit(interval_ns, burst)
    now_ns = T0
    slots: dict[str, list[int]] = {"a": [], "b": []}
    for to, delta_ns in sends:
        now_ns += delta_ns
        slots[to].append(pairs.reserve(to, now_ns))
        assert slots[to][-1] >= now_ns
    for booked in slots.values():
        assert booked == sorted(booked)
        for first, first_ns in enumerate(booked):
            for last in range(first, len(booked)):
                span = Fraction(booked[last] - first_ns, interval_ns)
                assert last - first + 1 <= burst + span

"""The last hour, second by second: exact over whole seconds, bounded, and nothing to do while idle."""

from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.arrivals import ArrivalMeter
from gateway._fast.history import HOUR_S, SecondsHistory
from gateway._fast.window import SlidingWindow
from gateway.budget.metered import MeteredBudget
from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.budget.usage import SPANS_S
from gateway.clock import NS_PER_S
from gateway.events import TpsKind

START_NS = 5_000_000_123
"""No whole second: seconds are counted from the start, not from the clock's own."""

SEND, READ = TpsKind.SEND, TpsKind.READ


def at(seconds: float) -> int:
    return START_NS + int(seconds * NS_PER_S)


def test_a_span_holds_the_whole_seconds_that_have_ended() -> None:
    history = SecondsHistory(START_NS)
    history.record(SEND, 3, at(0.5))
    history.record(SEND, 4, at(1.5))
    assert history.count(SEND, 1, at(0.999)) == 0
    assert history.count(SEND, 1, at(1)) == 3
    assert history.count(SEND, 1, at(2)) == 4
    assert history.count(SEND, 60, at(2)) == 7
    assert history.count(READ, 60, at(2)) == 0


def test_an_event_leaves_a_span_on_the_nanosecond() -> None:
    history = SecondsHistory(START_NS)
    history.record(SEND, 1, START_NS)
    for span in SPANS_S:
        assert history.count(SEND, span, at(span + 1) - 1) == 1
        assert history.count(SEND, span, at(span + 1)) == 0


def test_a_rate_is_over_the_seconds_since_the_start_while_they_are_fewer() -> None:
    history = SecondsHistory(START_NS)
    assert history.rate_per_s(SEND, 60, at(0.9)) == 0.0
    history.record(SEND, 12, START_NS)
    assert history.rate_per_s(SEND, 60, at(1)) == 12.0
    assert history.rate_per_s(SEND, 3600, at(12)) == 1.0
    assert history.rate_per_s(SEND, 60, at(60)) == 0.2
    assert history.observed_s(300, at(12)) == 12
    assert history.observed_s(300, at(400)) == 300


def test_an_event_told_late_counts_in_its_own_second() -> None:
    history = SecondsHistory(START_NS)
    history.record(SEND, 1, at(100))
    history.record(SEND, 1, at(98))
    assert [history.count(SEND, 1, at(second)) for second in (99, 100, 101)] == [1, 0, 1]


def test_an_event_older_than_an_hour_or_than_the_start_is_left_out() -> None:
    history = SecondsHistory(START_NS)
    history.record(SEND, 5, START_NS - 1)
    history.record(SEND, 1, at(HOUR_S + 1))
    history.record(SEND, 5, at(0.5))
    assert history.count(SEND, HOUR_S, at(HOUR_S + 2)) == 1


def test_a_pause_of_days_leaves_nothing_behind() -> None:
    history = SecondsHistory(START_NS)
    for second in range(HOUR_S + 10):
        history.record(SEND, 1, at(second))
    assert history.count(SEND, HOUR_S, at(HOUR_S + 10)) == HOUR_S
    days_s = 5 * 86_400
    assert history.count(SEND, HOUR_S, at(days_s)) == 0
    history.record(SEND, 2, at(days_s))
    assert history.count(SEND, HOUR_S, at(days_s + 1)) == 2


def test_a_count_stays_at_its_most() -> None:
    history = SecondsHistory(START_NS)
    for hour in range(3):
        history.record(SEND, 10**12, at(hour * HOUR_S))
    assert history.count(SEND, 1, at(2 * HOUR_S + 1)) == 2**32 - 1


_STEPS = st.lists(
    st.tuples(
        # Steps within a second, over a few, and over more than the ring holds.
        st.one_of(st.integers(0, NS_PER_S), st.integers(0, 400 * NS_PER_S), st.integers(0, 8000 * NS_PER_S)),
        st.sampled_from(TpsKind),
        st.integers(0, 50),
    ),
    max_size=30,
)


@given(
    steps=_STEPS, wait_ns=st.integers(0, 5000 * NS_PER_S), span=st.sampled_from([1, 2, 60, 300, 3599, 3600])
)
def test_it_answers_as_a_list_of_all_events_would(
    steps: list[tuple[int, TpsKind, int]], wait_ns: int, span: int
) -> None:
    history, now_ns, events = SecondsHistory(START_NS), START_NS, []
    for delta_ns, kind, count in steps:
        now_ns += delta_ns
        history.record(kind, count, now_ns)
        events.append(((now_ns - START_NS) // NS_PER_S, kind, count))
        end = (now_ns - START_NS) // NS_PER_S
        for one in TpsKind:
            expected = sum(n for second, k, n in events if k is one and end - span <= second < end)
            assert history.count(one, span, now_ns) == expected
    end = (now_ns + wait_ns - START_NS) // NS_PER_S
    for one in TpsKind:
        expected = sum(n for second, k, n in events if k is one and end - span <= second < end)
        assert history.count(one, span, now_ns + wait_ns) == expected


def test_what_a_budget_counts_is_in_its_history() -> None:
    plain = TpsBudget(10, dict.fromkeys(TpsKind, 1), 5, START_NS)
    history = SecondsHistory(START_NS)
    budget = MeteredBudget(plain, history)
    arrivals = SlidingWindow(NS_PER_S, 64)
    meter = ArrivalMeter(plain.core, history, (1, 1, 2, 0), arrivals)
    opens_ns = START_NS + WINDOW_NS
    meter.charge(TpsKind.DELIVERED, 3, opens_ns)
    meter.charge(TpsKind.READ, 2, opens_ns)
    assert arrivals.used(opens_ns) == 3 * 2
    ArrivalMeter(plain.core, history, (1, 1, 1, 1), None).charge(TpsKind.RECEIVE, 1, opens_ns)
    now_ns = opens_ns
    while (free_at_ns := budget.try_send(now_ns)) > now_ns:
        now_ns = free_at_ns
    assert budget.try_send(now_ns) > now_ns  # refused, so not counted
    later_ns = now_ns + 2 * NS_PER_S
    for kind in TpsKind:
        assert history.count(kind, 60, later_ns) == plain.totals[kind], kind
    assert plain.totals[TpsKind.SEND] == 1


def test_the_hour_is_whole_and_what_has_been_overwritten_is_not_told() -> None:
    history = SecondsHistory(START_NS, rows=6)
    history.record(5, 7, at(10))
    history.record(5, 2, at(HOUR_S))
    history.record(5, 1, at(0))
    assert history.count(5, HOUR_S, at(HOUR_S)) == 8, "the first second of the hour too"
    history.record(5, 5, at(HOUR_S + 11))
    assert history.count(5, HOUR_S, at(20)) == 0, "its place has what came an hour later"
    assert history.count(5, 1, at(HOUR_S + 12)) == 5

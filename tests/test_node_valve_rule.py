"""When the receipt valve closes and opens: seldom, late, and always again."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.node.valve_rule import (
    CLOSE_AFTER_NS,
    CLOSE_AT,
    OPEN_AFTER_NS,
    OPEN_BELOW,
    REST_NS,
    SILENCE_NS,
    ValveRule,
)

T0 = 1_000 * NS_PER_S
TICK_NS = 100 * NS_PER_MS


def tell(rule: ValveRule, pressure: float, begin_ns: int, end_ns: int) -> None:
    """The same pressure from `begin_ns` to `end_ns`, both included, every 100 ms."""
    for now_ns in range(begin_ns, end_ns, TICK_NS):
        rule.tell(pressure, now_ns)
    rule.tell(pressure, end_ns)


def closed_rule() -> tuple[ValveRule, int]:
    """A rule that has just closed for the first time, and when."""
    rule = ValveRule(T0)
    tell(rule, 1.0, T0, T0 + CLOSE_AFTER_NS)
    assert rule.try_change(T0 + CLOSE_AFTER_NS)
    return rule, T0 + CLOSE_AFTER_NS


def test_closes_after_five_seconds_of_pressure_and_not_a_nanosecond_earlier() -> None:
    rule = ValveRule(T0)
    tell(rule, CLOSE_AT, T0, T0 + CLOSE_AFTER_NS)
    assert not rule.try_change(T0 + CLOSE_AFTER_NS - 1)
    assert not rule.is_closed
    assert rule.try_change(T0 + CLOSE_AFTER_NS)
    assert rule.is_closed


@pytest.mark.parametrize("pressure", [CLOSE_AT - 0.01, 0.0])
def test_a_moment_of_less_pressure_begins_the_five_seconds_anew(pressure: float) -> None:
    rule = ValveRule(T0)
    tell(rule, 1.0, T0, T0 + CLOSE_AFTER_NS - TICK_NS)
    rule.tell(pressure, T0 + CLOSE_AFTER_NS)
    again_ns = T0 + CLOSE_AFTER_NS + TICK_NS
    tell(rule, 1.0, again_ns, again_ns + CLOSE_AFTER_NS)
    assert not rule.is_due(again_ns + CLOSE_AFTER_NS - 1)
    assert rule.is_due(again_ns + CLOSE_AFTER_NS)


def test_silence_is_no_pressure() -> None:
    rule = ValveRule(T0)
    rule.tell(1.0, T0)
    assert not rule.is_due(T0 + CLOSE_AFTER_NS), "one word is no run of five seconds"
    tell(rule, 1.0, T0 + CLOSE_AFTER_NS, T0 + CLOSE_AFTER_NS + NS_PER_S)
    assert not rule.is_due(T0 + CLOSE_AFTER_NS + NS_PER_S)


def test_a_lagging_loop_does_not_break_the_run() -> None:
    rule = ValveRule(T0)
    for now_ns in (T0, T0 + SILENCE_NS, T0 + 2 * SILENCE_NS, T0 + CLOSE_AFTER_NS):
        rule.tell(1.0, now_ns)
    assert rule.is_due(T0 + CLOSE_AFTER_NS)


def test_opens_after_a_minute_of_little_pressure_and_not_a_nanosecond_earlier() -> None:
    rule, closed_ns = closed_rule()
    calm_ns = closed_ns + REST_NS
    tell(rule, OPEN_BELOW, closed_ns, calm_ns - 1)
    tell(rule, OPEN_BELOW - 0.01, calm_ns, calm_ns + OPEN_AFTER_NS)
    assert not rule.try_change(calm_ns + OPEN_AFTER_NS - 1)
    assert rule.try_change(calm_ns + OPEN_AFTER_NS)
    assert not rule.is_closed


def test_stays_closed_five_minutes_however_calm_it_is() -> None:
    rule, closed_ns = closed_rule()
    tell(rule, 0.0, closed_ns, closed_ns + REST_NS)
    assert rule.opens_ns() == closed_ns + REST_NS
    assert not rule.is_due(closed_ns + REST_NS - 1)
    assert rule.is_due(closed_ns + REST_NS)


def test_stays_open_five_minutes_however_high_the_pressure_is() -> None:
    rule, closed_ns = closed_rule()
    opened_ns = closed_ns + REST_NS + OPEN_AFTER_NS
    assert rule.try_change(opened_ns)
    tell(rule, 1.0, opened_ns, opened_ns + REST_NS)
    assert not rule.is_due(opened_ns + REST_NS - 1)
    assert rule.is_due(opened_ns + REST_NS)


def test_the_rest_counts_from_when_the_node_was_told() -> None:
    rule, closed_ns = closed_rule()
    rule.took_effect(closed_ns + 40 * NS_PER_S)
    assert rule.opens_ns() == closed_ns + 40 * NS_PER_S + REST_NS


@pytest.mark.parametrize(
    ("closed_for_ns", "opens_after_ns"),
    [
        (0, REST_NS),
        (REST_NS - 100 * NS_PER_S, 100 * NS_PER_S),
        (10 * REST_NS, OPEN_AFTER_NS),
        (-REST_NS, REST_NS),
    ],
    ids=["just closed", "a while ago", "long ago", "by a clock that was ahead"],
)
def test_starts_closed_and_opens_by_the_clock_alone(closed_for_ns: int, opens_after_ns: int) -> None:
    rule = ValveRule(T0, closed_for_ns=closed_for_ns)
    assert rule.opens_ns() == T0 + opens_after_ns
    assert not rule.is_due(T0 + opens_after_ns - 1)
    assert rule.is_due(T0 + opens_after_ns)


PRESSURES = st.sampled_from([0.0, OPEN_BELOW - 0.01, OPEN_BELOW, 0.6, CLOSE_AT - 0.01, CLOSE_AT, 1.0])
STRETCHES = st.lists(
    # Pressure, for how long in steps of 100 ms, and silence afterwards in ns.
    st.tuples(
        PRESSURES,
        st.integers(1, 4_000),
        st.sampled_from([0, 0, 0, SILENCE_NS, SILENCE_NS + 1, OPEN_AFTER_NS, 2 * REST_NS]),
    ),
    max_size=12,
)


def stayed(told: list[tuple[int, float]], low: float, high: float, begin_ns: int, end_ns: int) -> bool:
    """Whether pressure was in [low, high) all the time; it is 0 from the last word before a silence."""
    before = [item for item in told if item[0] <= begin_ns][-1:]
    inside = [item for item in told if begin_ns < item[0] <= end_ns]
    spans = [*before, *inside, (end_ns, -1.0)]
    assert before, "there is no word before the first"
    for (at_ns, pressure), (next_ns, _) in pairwise(spans):
        is_quiet = next_ns - at_ns > SILENCE_NS
        if not low <= (0.0 if is_quiet else pressure) < high:
            return False
    return True


@given(stretches=STRETCHES, starts_closed=st.booleans())
def test_never_flaps_closes_only_under_pressure_opens_only_in_calm_and_always_opens(
    stretches: list[tuple[float, int, int]], starts_closed: bool
) -> None:
    """Whatever pressure does. The model looks at the whole history each time, where the rule keeps four numbers."""
    now_ns = T0
    rule = ValveRule(now_ns, closed_for_ns=0 if starts_closed else None)
    told = [(now_ns, 0.0)]  # a start is calm
    changes = [(now_ns, True)] if starts_closed else []

    def try_change() -> None:
        if rule.try_change(now_ns):
            changes.append((now_ns, rule.is_closed))
            if rule.is_closed:
                assert stayed(told, CLOSE_AT, 1.1, now_ns - CLOSE_AFTER_NS, now_ns)
            else:
                assert stayed(told, 0.0, OPEN_BELOW, now_ns - OPEN_AFTER_NS, now_ns)

    for pressure, ticks, silence_ns in stretches:
        for _ in range(ticks):
            now_ns += TICK_NS
            opens_ns = rule.opens_ns()
            rule.tell(pressure, now_ns)
            told.append((now_ns, pressure))
            try_change()
            after_ns = rule.opens_ns()
            if after_ns is not None:
                assert after_ns > now_ns
                assert opens_ns is None or after_ns >= opens_ns, "a timer set before is never late"
        now_ns += silence_ns
        try_change()
    for (earlier_ns, was), (later_ns, became) in pairwise(changes):
        assert later_ns - earlier_ns >= REST_NS
        assert was != became
    opens_ns = rule.opens_ns()
    assert (opens_ns is not None) == rule.is_closed
    if opens_ns is not None:
        assert opens_ns - now_ns <= REST_NS, "the last change is a rest ago at most, the last word a minute"
        now_ns = max(opens_ns, now_ns)
        try_change()
        assert not rule.is_closed

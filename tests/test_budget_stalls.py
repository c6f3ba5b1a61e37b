"""The TPS budget under a loop that stands still at random moments, while sends wait and events arrive."""

import random
from bisect import bisect_right

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.budget.tps import BURST_MIN_NS, DEBT_MAX_NS, WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_S
from gateway.events import TpsKind
from gateway.sim import limits
from gateway.sim.workload import poisson_ns

START_NS = 7 * NS_PER_S


@st.composite
def _stalls_ns(draw: st.DrawFn) -> list[tuple[int, int]]:
    """One to four stalls of 0.1 to 10 s, with any time between them."""
    found = []
    at_ns = START_NS
    for _ in range(draw(st.integers(1, 4))):
        at_ns += draw(st.integers(0, 3 * NS_PER_S))
        length_ns = draw(st.integers(NS_PER_S // 10, 10 * NS_PER_S))
        found.append((at_ns, at_ns + length_ns))
        at_ns += length_ns
    return found


@settings(max_examples=200, deadline=None)
@given(
    tps=st.sampled_from([10, 15, 20, 80, 250]),
    headroom_percent=st.sampled_from([0, 5]),
    share=st.sampled_from([0.0, 0.1, 0.3]),
    stalls_ns=_stalls_ns(),
    is_pacer_first=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_a_loop_that_stands_still_costs_time_and_neither_the_plan_nor_the_rate_after_it(
    tps: int,
    headroom_percent: int,
    share: float,
    stalls_ns: list[tuple[int, int]],
    is_pacer_first: bool,
    seed: int,
) -> None:
    """Sends wait at all times, events arrive all along, and what comes during a stall is charged at its end."""
    b = TpsBudget(tps, dict.fromkeys(TpsKind, 1), headroom_percent, START_NS)
    recovered_ns = stalls_ns[-1][1] + DEBT_MAX_NS + WINDOW_NS
    span_s = max(20, 1000 // tps)
    end_ns = recovered_ns + span_s * NS_PER_S
    # What comes in a stall is looked at when the loop goes on, before the pacer is asked or after it.
    arrivals = (
        next((e + is_pacer_first for s, e in stalls_ns if s <= at_ns <= e), at_ns)
        for at_ns in poisson_ns(random.Random(seed), START_NS / NS_PER_S, end_ns / NS_PER_S, share * tps)
    )
    sends_ns: list[int] = []
    known_ns: list[int] = []
    arrival_ns = next(arrivals, end_ns)
    ask_ns = START_NS
    while (now_ns := min(ask_ns, arrival_ns)) < end_ns:
        while arrival_ns <= now_ns:
            b.charge(TpsKind.DELIVERED, 1, now_ns)
            known_ns.append(now_ns)
            arrival_ns = next(arrivals, end_ns)
        if ask_ns > now_ns:
            continue
        free_at_ns = b.try_send(now_ns)
        if free_at_ns == now_ns:
            sends_ns.append(now_ns)
            begin_ns = now_ns - NS_PER_S
            in_second = len(sends_ns) - bisect_right(sends_ns, begin_ns)
            assert in_second + len(known_ns) - bisect_right(known_ns, begin_ns) <= tps
        ask_ns = next((e for s, e in stalls_ns if s <= free_at_ns < e), free_at_ns)
    aim_per_s = tps * (100 - headroom_percent) / 100
    saved = 1 + max(1.0, BURST_MIN_NS / NS_PER_S * aim_per_s)
    assert limits.bursts(sends_ns, 1, saved, aim_per_s) == [], "no burst beyond what smoothing saves"
    used = sum(at_ns >= recovered_ns for at_ns in sends_ns + known_ns)
    # Less a few that arrivals in a clump may have owed when the span began.
    assert used >= 0.99 * span_s * aim_per_s - 5, "the rate is used again"

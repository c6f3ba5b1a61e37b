"""What one decision about a send costs from Python, in ns, beside other rate limiters in the same run.

Each row is a loop over prepared arguments; the empty loop is taken off. Medians over rounds, rows in turn.
Ours takes the time as an argument; the others read a clock themselves, so one row of ours reads it too.
The others run in favourable conditions: rooms that are granted from are far from full (aiolimiter,
pyrate-limiter), or hold at most a thousand entries (limits, which shifts all of them at each grant).
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import compare
from aiolimiter import AsyncLimiter
from limits import RateLimitItemPerDay
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, Limiter, Rate

from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_S
from gateway.events import TpsKind

TPS: Final = 1000
TARGET_NS: Final = 80
COSTS: Final = dict.fromkeys(TpsKind, 1)
LIMITS_ENTRIES: Final = 1000
"""Entries that `limits` holds at most while it grants: what a window at 1000 TPS has."""


def empty(count: int) -> int:
    """The loop that all rows have."""
    start_ns = time.perf_counter_ns()
    for _ in repeat(NS_PER_S, count):
        pass
    return time.perf_counter_ns() - start_ns


def bare_call(count: int) -> int:
    """`abs`: what a call with one argument costs when nothing is done."""
    start_ns = time.perf_counter_ns()
    for now_ns in repeat(NS_PER_S, count):
        abs(now_ns)
    return time.perf_counter_ns() - start_ns


def _full_budget() -> tuple[TpsBudget, int]:
    """A budget that has just granted what it can, and that time."""
    budget = TpsBudget(TPS, COSTS, 0, NS_PER_S)
    now_ns = 10 * NS_PER_S
    while budget.try_send(now_ns) == now_ns:
        pass
    return budget, now_ns


def ours_refused(count: int) -> int:
    """A full window and an empty bucket: the answer is when to ask again."""
    budget, full_ns = _full_budget()
    try_send = budget.try_send
    start_ns = time.perf_counter_ns()
    for now_ns in repeat(full_ns, count):
        try_send(now_ns)
    taken_ns = time.perf_counter_ns() - start_ns
    assert try_send(full_ns) > full_ns, "was to be refused"
    return taken_ns


def ours_refused_with_clock(count: int) -> int:
    """As the pacer asks: with the clock's reading."""
    now_ns = time.monotonic_ns()
    budget = TpsBudget(TPS, COSTS, 0, now_ns)
    # Arrivals fill the window and put the bucket in debt: refused for seconds, and never by the first second.
    budget.charge(TpsKind.RECEIVE, 5 * TPS, now_ns)
    try_send, clock = budget.try_send, time.monotonic_ns
    start_ns = time.perf_counter_ns()
    for _ in repeat(NS_PER_S, count):
        try_send(clock())
    return time.perf_counter_ns() - start_ns


def ours_granted(count: int) -> int:
    """At the pace of the plan, the window as full as it gets: each send is granted and counted."""
    budget = TpsBudget(TPS, COSTS, 0, NS_PER_S)
    step_ns = WINDOW_NS // TPS + 1
    begin_ns = 10 * NS_PER_S
    times = range(begin_ns, begin_ns + step_ns * count, step_ns)
    prepared = list(times)
    try_send = budget.try_send
    start_ns = time.perf_counter_ns()
    for now_ns in prepared:
        try_send(now_ns)
    taken_ns = time.perf_counter_ns() - start_ns
    assert budget.totals[TpsKind.SEND] == count, "all were to be granted"
    return taken_ns


def ours_charge(count: int) -> int:
    """One arrival booked, a tenth of a millisecond after the one before."""
    budget = TpsBudget(TPS, COSTS, 0, NS_PER_S)
    begin_ns = 10 * NS_PER_S
    prepared = list(range(begin_ns, begin_ns + 100_000 * count, 100_000))
    charge, kind = budget.charge, TpsKind.RECEIVE
    start_ns = time.perf_counter_ns()
    for now_ns in prepared:
        charge(kind, 1, now_ns)
    return time.perf_counter_ns() - start_ns


def aiolimiter_refused(count: int) -> int:
    """`has_capacity` of a full bucket that leaks in hours."""

    async def run() -> int:
        limiter = AsyncLimiter(TPS, 1e9)
        for _ in range(TPS):
            await limiter.acquire()
        has_capacity = limiter.has_capacity
        start_ns = time.perf_counter_ns()
        for _ in repeat(NS_PER_S, count):
            has_capacity()
        taken_ns = time.perf_counter_ns() - start_ns
        assert not has_capacity(), "was to be refused"
        return taken_ns

    return asyncio.run(run())


def aiolimiter_granted(count: int) -> int:
    """`await acquire()` where it never waits."""

    async def run() -> int:
        limiter = AsyncLimiter(1e12, 1)
        acquire = limiter.acquire
        start_ns = time.perf_counter_ns()
        for _ in repeat(NS_PER_S, count):
            await acquire()
        return time.perf_counter_ns() - start_ns

    return asyncio.run(run())


def pyrate_refused(count: int) -> int:
    """`try_acquire` that does not block, of a full window of a day."""
    with Limiter(Rate(TPS, Duration.DAY)) as limiter:
        for _ in range(TPS):
            limiter.try_acquire("number", blocking=False)
        try_acquire = limiter.try_acquire
        start_ns = time.perf_counter_ns()
        for _ in repeat(NS_PER_S, count):
            try_acquire("number", blocking=False)
        taken_ns = time.perf_counter_ns() - start_ns
        assert not try_acquire("number", blocking=False), "was to be refused"
        return taken_ns


def pyrate_granted(count: int) -> int:
    """The same with room for all."""
    with Limiter(Rate(count + 1, Duration.DAY)) as limiter:
        try_acquire = limiter.try_acquire
        start_ns = time.perf_counter_ns()
        for _ in repeat(NS_PER_S, count):
            try_acquire("number", blocking=False)
        taken_ns = time.perf_counter_ns() - start_ns
        assert try_acquire("number", blocking=False), "was to be granted"
        return taken_ns


def limits_refused(count: int) -> int:
    """`hit` of a full moving window of a day."""
    item = RateLimitItemPerDay(TPS)
    hit = MovingWindowRateLimiter(MemoryStorage()).hit
    for _ in range(TPS):
        hit(item, "number")
    start_ns = time.perf_counter_ns()
    for _ in repeat(NS_PER_S, count):
        hit(item, "number")
    taken_ns = time.perf_counter_ns() - start_ns
    assert not hit(item, "number"), "was to be refused"
    return taken_ns


def limits_granted(count: int) -> int:
    """`hit` with room, a thousand for each of many numbers."""
    item = RateLimitItemPerDay(LIMITS_ENTRIES + 1)
    hit = MovingWindowRateLimiter(MemoryStorage()).hit
    names = [str(index // LIMITS_ENTRIES) for index in range(count)]
    start_ns = time.perf_counter_ns()
    for name in names:
        hit(item, name)
    taken_ns = time.perf_counter_ns() - start_ns
    assert hit(item, "0"), "was to be granted"
    return taken_ns


ROWS: Final[dict[str, Callable[[int], int]]] = {
    "a call that does nothing": bare_call,
    "refused: TpsBudget.try_send": ours_refused,
    "refused: TpsBudget.try_send, clock read": ours_refused_with_clock,
    "refused: aiolimiter has_capacity": aiolimiter_refused,
    "refused: pyrate-limiter try_acquire": pyrate_refused,
    "refused: limits MovingWindow hit": limits_refused,
    "granted: TpsBudget.try_send": ours_granted,
    "granted: aiolimiter acquire": aiolimiter_granted,
    "granted: pyrate-limiter try_acquire": pyrate_granted,
    "granted: limits MovingWindow hit": limits_granted,
    "arrival: TpsBudget.charge": ours_charge,
}
AGAINST: Final = {"refused": "refused: TpsBudget.try_send", "granted": "granted: TpsBudget.try_send"}
OURS: Final = (*AGAINST.values(), "arrival: TpsBudget.charge")
PACKAGES: Final = ("aiolimiter", "pyrate-limiter", "limits")


def measure(rounds: int, count: int) -> dict[str, list[float]]:
    """Per row, ns a decision in each round; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    for number in range(rounds + 1):
        loop_ns = empty(count)
        for name, row in ROWS.items():
            each_ns = (row(count) - loop_ns) / count
            if number:
                taken[name].append(round(each_ns, 1))
    return taken


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        compare.headline(result, "decisions"),
        f"{'ns a decision':42}{'median':>9}{'range':>16}{'ratio':>8}",
    ]
    medians = {name: statistics.median(values) for name, values in result["ns"].items()}
    for name, values in result["ns"].items():
        base = AGAINST.get(name.partition(":")[0])
        ratio = f"{medians[name] / medians[base]:.1f}" if base else ""
        spread = f"{min(values):.0f}-{max(values):.0f}"
        lines.append(f"{name:42}{medians[name]:9.0f}{spread:>16}{ratio:>8}")
    lines.append(
        f"target: ours at most {TARGET_NS} ns: "
        + "; ".join(f"{name} {'met' if medians[name] <= TARGET_NS else 'MISSED'}" for name in OURS)
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds measured (default 9), after one more")
    parser.add_argument("--count", type=int, default=20_000, help="decisions a row and round (default 20000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.rounds < 1 or options.count < 1:
        sys.exit("--rounds and --count must be at least 1")
    head = {**compare.about(PACKAGES), "rounds": options.rounds, "count": options.count, "tps": TPS}
    result = {**head, "ns": measure(options.rounds, options.count)}
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The TPS budget beside other pacing policies, in virtual time: what a message waits, what is used, what is lost."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from gateway.sim.mixed import draw
from gateway.sim.pacing import ONE_EACH, PacingRun
from gateway.sim.policies import Debit, Naive, Policy, Real
from gateway.sim.workload import campaign

HEADROOM_PERCENT = 5
STORM_S = 600.0
AFTERMATH_S = 300.0
"""Messages written that long after the groups were pushed make the column "storm"."""
GROUPS = 10

POLICIES: dict[str, Callable[[int, int], Policy]] = {
    "naive": Naive,
    "debit": lambda tps, now_ns: Debit(tps, ONE_EACH, HEADROOM_PERCENT, now_ns),
    "gateway": lambda tps, now_ns: Real(tps, ONE_EACH, HEADROOM_PERCENT, now_ns),
}
COLUMNS = {
    "used": "used %",
    "p50": "p50 s",
    "p99": "p99 s",
    "worst": "worst s",
    "storm_p99": "storm p99",
    "last_group": "last group",
    "lost": "lost",
    "beyond": "beyond plan",
}


def play(case: tuple[str, int, int, int, float]) -> dict[str, float]:
    """One run: (policy, tps, groups, seed, minutes)."""
    policy, tps, groups, seed, minutes = case
    workload = campaign(seed, minutes, groups=groups, storm_at_s=STORM_S)
    report = PacingRun(tps, seed, workload, POLICIES[policy]).play()
    groups_s = report.group_sends_s()
    beyond, _ = report.counter.worst_windows()
    served = sum(report.number.served.values())
    return {
        "used": 100 * served / (tps * minutes * 60),
        "p50": report.wait_s(0.5),
        "p99": report.wait_s(0.99),
        "worst": report.wait_s(1.0),
        "storm_p99": report.wait_s(0.99, STORM_S, STORM_S + AFTERMATH_S) if groups else 0.0,
        "last_group": groups_s[-1] - STORM_S if groups_s else 0.0,
        "lost": report.number.lost_messages,
        "beyond": max(0, -beyond),
    }


def replay(seed: int) -> int:
    """Play one mixed run of the test suite, and say what it broke."""
    mixed = draw(seed)
    print(mixed.describe())
    report = mixed.play()
    found = mixed.violations(report)
    print(f"served {report.number.served}, used {mixed.used(report):.4f} of the rate aimed at")
    print("\n".join(found) if found else "every invariant holds")
    return 1 if found else 0


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every policy on every plan, without and with groups: medians over the seeds, and the worst p99."""
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for groups in (0, GROUPS):
            what = f"{groups} messages to groups of 256 on top" if groups else "campaign"
            print(f"\n{what}, medians of {options.seeds} seeds, {options.minutes:g} minutes")
            print(
                f"{'TPS':>4} {'policy':8}", *(f"{title:>11}" for title in COLUMNS.values()), f"{'p99 max':>9}"
            )
            for tps in options.tps:
                for policy in POLICIES:
                    seeds = range(1, options.seeds + 1)
                    rows = list(pool.map(play, [(policy, tps, groups, n, options.minutes) for n in seeds]))
                    medians = {column: statistics.median(row[column] for row in rows) for column in COLUMNS}
                    worst_p99 = max(row["p99"] for row in rows)
                    values = (f"{medians[column]:>11.2f}" for column in COLUMNS)
                    print(f"{tps:>4} {policy:8}", *values, f"{worst_p99:>9.2f}", flush=True)
                    results.append({"tps": tps, "policy": policy, "groups": groups, "runs": rows, **medians})
    return results


def main() -> int:
    """Print the tables, or replay one seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs per policy and plan (default 5)")
    parser.add_argument("--minutes", type=float, default=120.0, help="virtual minutes of a run (default 120)")
    parser.add_argument("--tps", type=int, nargs="+", default=[10, 20], help="plans (default 10 20)")
    parser.add_argument("--json", type=Path, help="write every run's figures to this file")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one mixed run of the tests instead")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    if options.minutes * 60 <= STORM_S + AFTERMATH_S:
        parser.error(f"--minutes: {options.minutes:g} end before the storm does; at least 16")
    started = time.perf_counter()
    results = compare(options)
    elapsed_s = time.perf_counter() - started
    virtual_hours = sum(len(result["runs"]) for result in results) * options.minutes / 60
    print(f"\n{virtual_hours:.0f} virtual hours in {elapsed_s:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"minutes": options.minutes, "results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

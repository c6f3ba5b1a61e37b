"""Rows of one operation each, ours beside the usual library, in ns from Python: rounds in turn, medians, ratios.

A row is called with a count, and returns how many ns so many operations took. `empty` is the loop that all have; the
rows of this directory take it off themselves or use `timed`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

Row = Callable[[int], int]

ROUNDS: Final = 7


def timed(call: Callable[[Any], object], arguments: Iterable[Any]) -> int:
    """Time of `call` for each of the arguments, the loop taken off, ns."""
    prepared = list(arguments)
    start_ns = time.perf_counter_ns()
    for _argument in prepared:
        pass
    loop_ns = time.perf_counter_ns() - start_ns
    start_ns = time.perf_counter_ns()
    for argument in prepared:
        call(argument)
    return time.perf_counter_ns() - start_ns - loop_ns


def about(packages: Iterable[str]) -> dict[str, Any]:
    """Where and when; the macro benchmarks have the same in `record.py`."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    kernel = ".".join(platform.release().split(".")[:2])
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {kernel}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version(name) for name in packages},
        "load_1min_at_start": round(os.getloadavg()[0], 2),
    }


def headline(result: Mapping[str, Any], what: str) -> str:
    """The first lines of every table."""
    packages = "".join(f"; {name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['date']}; {result['machine']}; {result['python']}{packages}\n"
        f"{result['rounds']} rounds of {result['count']:,} {what}; load {result['load_1min_at_start']}"
    )


def measure(groups: Mapping[str, Mapping[str, Row]], rounds: int, count: int) -> dict[str, dict[str, Any]]:
    """By group and row, ns an operation over the rounds; the first round warms up."""
    taken: dict[str, dict[str, list[float]]] = {
        group: {name: [] for name in rows} for group, rows in groups.items()
    }
    for number in range(rounds + 1):
        for group, rows in groups.items():
            for name, row in rows.items():
                each_ns = row(count) / count
                if number:
                    taken[group][name].append(round(each_ns, 1))
    return {
        group: {
            name: {"ns": round(statistics.median(values), 1), "low": min(values), "high": max(values)}
            for name, values in rows.items()
        }
        for group, rows in taken.items()
    }


def report(result: Mapping[str, Any]) -> str:
    """The table people read: in each group the first row is ours, and the ratio is of the others to it."""
    lines = [headline(result, "operations")]
    for group, rows in result["groups"].items():
        lines.append(f"{group:46}{'ns':>9}{'range':>18}{'ratio':>8}")
        ours = next(iter(rows.values()))["ns"]
        for name, row in rows.items():
            spread = f"{row['low']:.0f}-{row['high']:.0f}"
            lines.append(f"  {name:44}{row['ns']:9.0f}{spread:>18}{row['ns'] / ours:8.1f}")
    return "\n".join(lines)


def main(
    about_this: str | None, groups: Mapping[str, Mapping[str, Row]], packages: Iterable[str], count: int
) -> None:
    """The command of a file of rows."""
    parser = argparse.ArgumentParser(
        description=about_this, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"measured (default {ROUNDS}), after one more"
    )
    parser.add_argument("--count", type=int, default=count, help=f"a row and round (default {count})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.rounds < 1 or options.count < 1:
        sys.exit("--rounds and --count must be at least 1")
    result = {**about(packages), "rounds": options.rounds, "count": options.count}
    result["groups"] = measure(groups, options.rounds, options.count)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")

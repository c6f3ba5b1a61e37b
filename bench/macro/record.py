"""What a recorded result says about its run: when, on what machine, with what, and how busy it was."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any


def machine() -> str:
    """The processor by name, its cores, and the kernel's version."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {kernel}"


def scheduling() -> str:
    """How the kernel schedules this process: `normal, nice 0`, or `fifo 50` under `chrt -f 50`."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        return f"fifo {os.sched_getparam(0).sched_priority}"
    return f"normal, nice {os.getpriority(os.PRIO_PROCESS, 0)}"


def about(*packages: str) -> dict[str, Any]:
    """The head of a result."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version(name) for name in packages},
        "scheduling": scheduling(),
        "load_1min_at_start": round(os.getloadavg()[0], 2),
    }


def headline(result: dict[str, Any]) -> str:
    """The first lines of every table."""
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['date']}; {result['machine']}; {result['python']}; {packages}\n"
        f"load at the start: {result['load_1min_at_start']}; scheduling: {result['scheduling']}"
    )


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Keep the result, if it is to be kept."""
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def percentile(ordered: list[float], percent: float) -> float:
    """Nearest rank: the smallest value that `percent` of all do not exceed."""
    assert ordered, "no values"
    return ordered[max(0, -(-int(len(ordered) * percent) // 100) - 1)]


def target(
    what: str, value: float | None, bound: float, unit: str, *, at_least: bool = False
) -> dict[str, Any]:
    """A target and what was measured, None: not measured here. `report.py` makes the README's table of these."""
    is_met = None if value is None else (value >= bound if at_least else value <= bound)
    measured = None if value is None else round(value, 3)
    return {
        "what": what,
        "value": measured,
        "bound": bound,
        "unit": unit,
        "at_least": at_least,
        "is_met": is_met,
    }


def show_target(row: dict[str, Any]) -> str:
    """One line of a table."""
    verdict = {True: "met   ", False: "MISSED", None: "  -   "}[row["is_met"]]
    measured = "not measured" if row["value"] is None else f"{row['value']:,.3g} {row['unit']}"
    return f"{verdict} {row['what']}: {measured}, {'at least' if row['at_least'] else 'at most'} {row['bound']:g}"


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes away, however we end; SIGTERM ends us as Ctrl-C does, so that servers are stopped."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with TemporaryDirectory(prefix="wa-gateway-bench-") as made:
            yield Path(made)
    finally:
        signal.signal(signal.SIGTERM, before)

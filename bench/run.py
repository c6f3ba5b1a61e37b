"""Every benchmark in turn: peers and gateway in the same run, on one machine. Then the tables and plots are made anew.

Results go to `results/` as JSON, and from there into bench/README.md, README.md and PNGs (`report.py`). `--quick` has
fewer and shorter rounds, keeps its results in var/bench-quick and changes nothing else. `--long` runs what takes minutes
each (storms, goodput, memory of receipts, pacing at all rates, the studies) instead. What fails is named at the end, and
the exit status is 1 then.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

BENCH: Final = Path(__file__).resolve().parent
ROOT: Final = BENCH.parent
RESULTS: Final = BENCH / "results"
QUICK_RESULTS: Final = ROOT / "var" / "bench-quick"
STOP_S: Final = 30.0
"""A benchmark that is told to end stops its servers first."""


class Step(NamedTuple):
    """A script, the name of its result, and its arguments."""

    script: str
    arguments: str = ""
    quick: str = ""
    name: str = ""
    """Of the result, where one script makes two."""

    @property
    def result(self) -> str:
        return (self.name or Path(self.script).stem) + ".json"

    @property
    def is_there(self) -> bool:
        return (BENCH / self.script).exists()


_MICRO_QUICK: Final = "--rounds 2 --count 2000"
SUITE: Final = (
    Step("micro/bucket.py", quick=_MICRO_QUICK),
    Step("micro/window.py", quick=_MICRO_QUICK),
    Step("micro/rings.py", quick=_MICRO_QUICK),
    Step("micro/seen.py", "--rounds 5", "--rounds 1 --count 2000"),
    Step("micro/ledger.py", "--rounds 5", "--rounds 1 --count 2000 --messages 20000"),
    Step("micro/decode.py", quick=_MICRO_QUICK),
    Step("micro/decision.py", "--rounds 5", _MICRO_QUICK),
    Step("micro/http_front.py", quick="--rounds 1"),
    Step("micro/http_client.py", "--rounds 3", "--rounds 1 --count 2000"),
    Step("macro/ingest.py", quick="--connections 24 --rounds 2 --seconds 0.6"),
    Step("macro/relay.py", quick="--rounds 1 --scale 0.4"),
    Step("macro/push.py", quick="--rounds 1 --seconds 0.6"),
    Step("macro/waiting.py", quick="--marks 1000 10000 30000 --window 5000 --bodies-to 20000"),
    Step(
        "macro/pacing.py",
        "--rates 20 250 --seconds 3 --rounds 1 --node",
        "--rates 250 --seconds 1 --rounds 1 --grants 100",
        "pacing_short",
    ),
    Step("macro/idle.py", "--seconds 10", "--seconds 2 --settle 1"),
)
LONG: Final = (
    Step("macro/storm.py"),
    Step("macro/goodput.py", f"--png {RESULTS / 'goodput.png'}"),
    Step("macro/receipts_memory.py"),
    Step("macro/receipts_memory.py", "--full-early", name="receipts_memory-full-early"),
    Step("macro/pacing.py", "--node"),
    Step("macro/pacing_study.py"),
    Step("macro/pacing_side_by_side.py", "--minutes 20"),
)


def run(step: Step, arguments: str, results: Path) -> bool:
    """Run one and keep its result; whether it ended well. It stops its own servers, also when we are told to end."""
    command = [sys.executable, str(BENCH / step.script), *arguments.split()]
    print(f"\n== {step.script} {arguments}".rstrip(), flush=True)
    begin = time.monotonic()
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [*command, "--json", str(results / step.result)], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}
    )
    try:
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    print(f"-- {time.monotonic() - begin:.0f} s", flush=True)
    return status == 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="four minutes, with wider ranges")
    which.add_argument("--long", action="store_true", help="an hour, of what the others leave out")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these, as `ingest` or `decode`")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    results = QUICK_RESULTS if options.quick else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    steps: tuple[Step, ...] = LONG if options.long else SUITE
    if options.only:
        steps = tuple(step for step in steps if Path(step.script).stem in options.only)
    failed = []
    begin = time.monotonic()
    for step in steps:
        arguments = step.quick if options.quick else step.arguments
        if not step.is_there:
            print(f"\n== {step.script}: not in this version", flush=True)
        elif not run(step, arguments, results):
            failed.append(step.script)
    print(f"\nall in {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    report = [sys.executable, str(BENCH / "report.py"), "--results", str(results)]
    if subprocess.run([*report, "--print"] if options.quick else report, cwd=ROOT, check=False).returncode:
        failed.append("report.py")
    if failed:
        sys.exit(f"FAILED: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Whether the hot path has become more expensive, by instructions and not by time, so that any machine can tell.

Each step of `hot_paths.py` runs under `valgrind --tool=callgrind` in a process of its own, forked from one that has
imported everything: N of them less none of them, over N. Random hashes, the collector and addresses are off or fixed, so
two runs differ by less than 0.5 %. The counts are kept in `instructions.json`, by what made the code they count: Python
with its compiler, and the processor's architecture. More than the tolerance above them fails (exit status 1).
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

KEPT: Final = Path(__file__).with_name("instructions.json")
MARKS: Final = Path(__file__).parent / "micro" / "native" / "marks.c"
TOLERANCE: Final = 0.05
WARM_UP: Final = 64
"""Times a step is done before it is counted: Python specialises code that has run a few times."""
PACKAGES: Final = ("Cython", "msgspec", "orjson")
SKIPPED: Final = 0
"""Exit status where there is no valgrind: nobody is kept from working, and the message says what was not checked."""
PREFIX: Final = "wa-gateway-bench-"

Counts = dict[str, float]


def key() -> str:
    """What the counts of a step depend on besides our code."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}, {platform.machine()}"


def environment() -> dict[str, str]:
    """What the process that is measured sees: nothing but what finds the code, for its size moves the stack.

    What an allocation costs depends on what the heap is like at that moment, which is chance. Least so with malloc
    instead of Python's pools, and when whatever is freed goes into a list to be taken from again.
    """
    own = str(Path(__file__).resolve().parents[1])
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONHASHSEED": "0",
        "PYTHONMALLOC": "malloc",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=60000",
    }


def steps() -> list[str]:
    """Their names. Asked of a process of its own, which also compiles what the measured one then finds compiled."""
    command = [sys.executable, str(Path(__file__).resolve()), "--list"]
    asked = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return asked.stdout.splitlines()


def run_steps(names: list[str], directory: Path) -> None:
    """Under callgrind: each step in a child, none and N of it, told apart by the names of the dumps."""
    import hot_paths  # noqa: PLC0415 - only the process that is measured needs the gateway

    library = ctypes.CDLL("./marks.so")
    gc.collect()
    gc.disable()
    for name in names:
        step = hot_paths.STEPS[name]
        for count in (0, step.times):
            child = os.fork()
            if child == 0:
                # A directory each, whose name is as long as any other's.
                scratch = directory / f"{names.index(name):03}-{count:06}"
                scratch.mkdir()
                hot_paths.use_scratch(str(scratch))
                step.prepare(min(WARM_UP, step.times))()
                run = step.prepare(count)
                library.begin()
                run()
                library.end(f"{count} {name}".encode())
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(f"the step {name!r} failed")


def measure(names: list[str]) -> Counts:
    """Instructions of each step. RuntimeError when it can't be measured."""
    with TemporaryDirectory(prefix=PREFIX) as made:
        directory = Path(made)
        marks = directory / "marks.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", marks, MARKS], check=True)
        command = [
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            "--callgrind-out-file=out.%p",
            sys.executable,
            str(Path(__file__).resolve()),
            # The directory's name is by chance, and what is measured must not hear of it.
            *("--within", ".", "--steps", *names),
        ]
        ended = subprocess.run(
            command, cwd=directory, env=environment(), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"the run under valgrind failed:\n{ended.stderr[-3000:]}{ended.stdout[-500:]}")
        totals = _totals(directory)
    return {name: _each(name, totals) for name in names}


def _totals(directory: Path) -> dict[str, int]:
    """Instructions between the marks, by the name given at the end."""
    found = {}
    for path in directory.glob("out.*"):
        head = path.read_text(errors="replace")
        trigger = re.search(r"^desc: Trigger: Client Request: (.*)$", head, re.MULTILINE)
        total = re.search(r"^(?:summary|totals): (\d+)", head, re.MULTILINE)
        if trigger and total:
            found[trigger[1]] = int(total[1])
    return found


def _each(name: str, totals: dict[str, int]) -> float:
    counts = {
        int(what.partition(" ")[0]): total for what, total in totals.items() if what.partition(" ")[2] == name
    }
    if len(counts) != 2:
        raise RuntimeError(f"valgrind has {len(counts)} counts of {name!r} instead of two")
    (none, nothing), (many, total) = sorted(counts.items())
    assert none == 0, counts
    return round((total - nothing) / many, 1)


def compare(counts: Counts, kept: Counts, tolerance: float) -> tuple[list[str], list[str], list[str]]:
    """The table, the steps that have become too expensive, and those that are not as they were kept otherwise."""
    lines = [f"{'instructions':40}{'now':>12}{'kept':>12}{'change':>9}"]
    worse, others = [], []
    for name, now in counts.items():
        was = kept.get(name)
        if was is None:
            lines.append(f"{name:40}{now:12,.0f}{'-':>12}{'new':>9}")
            others.append(name)
            continue
        change = now / was - 1
        mark = ""
        if change > tolerance:
            worse.append(name)
            mark = "  MORE"
        elif change < -tolerance:
            others.append(name)
            mark = "  less"
        lines.append(f"{name:40}{now:12,.0f}{was:12,.0f}{change:+9.1%}{mark}")
    return lines, worse, others


def check(counts: Counts, kept: dict[str, Any] | None, tolerance: float) -> int:
    """Say how it is; the exit status."""
    if kept is None:
        print("\n".join(compare(counts, {}, tolerance)[0]))
        print(
            f"nothing is kept for {key()}: not checked. `python bench/instructions.py --update` keeps these"
        )
        return 0
    lines, worse, others = compare(counts, kept["instructions"], tolerance)
    print("\n".join(lines))
    changed = {name: number for name, number in kept["versions"].items() if version(name) != number}
    if changed:
        print(f"kept with {changed}; here are { ({name: version(name) for name in changed}) }")
    if worse:
        print(f"FAILED: more than {tolerance:.0%} above what is kept: {', '.join(worse)}")
        return 1
    if others:
        print("passed; some are cheaper or new: `python bench/instructions.py --update` keeps that")
    else:
        print(f"passed: none more than {tolerance:.0%} above what is kept")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="keep these counts as what it may cost")
    parser.add_argument("--steps", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"default {TOLERANCE}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    parser.add_argument(
        "--kept", type=Path, default=KEPT, metavar="FILE", help="instead of instructions.json"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the steps")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        import hot_paths  # noqa: PLC0415 - see run_steps

        print("\n".join(hot_paths.STEPS))
        return
    if options.within:
        run_steps(options.steps, options.within)
        return
    if shutil.which("valgrind") is None:
        print(
            "NOT CHECKED: valgrind is not installed, and it counts the instructions (apt-get install valgrind)"
        )
        sys.exit(SKIPPED)
    names = steps()
    unknown = set(options.steps or ()) - set(names)
    if unknown:
        sys.exit(f"no such step: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    counts = measure(options.steps or names)
    every = json.loads(options.kept.read_text()) if options.kept.exists() else {}
    if options.json:
        options.json.write_text(json.dumps(counts, indent=1) + "\n")
    if options.update:
        before = every.get(key(), {}).get("instructions", {}) if options.steps else {}
        every[key()] = {
            "versions": {name: version(name) for name in PACKAGES},
            "instructions": before | counts,
        }
        options.kept.write_text(json.dumps(every, indent=1) + "\n")
    sys.exit(check(counts, every.get(key()), options.tolerance))


if __name__ == "__main__":
    main()

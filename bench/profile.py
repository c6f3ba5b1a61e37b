"""Where the gateway's time goes: py-spy, perf and Cython's annotation of one that is under load.

A gateway is started on a core of its own, the load of the benchmarks on the other, and what they record is put into
`--out`: `py-spy.svg` (a flame graph by thread), `py-spy.txt` (the functions with the most samples), `perf.txt` (the same of
native code and kernel), `annotate/*.html`, and `annotate.txt` (the lines that touch Python most). A tool that is not
installed is named. How to read them: docs/profiling.md.
"""

import argparse
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).with_name("macro")))
import record
from load import CLOSED, Loads, post, webhook_body
from push import REQUEST
from servers import FULL, LOAD_CORE, SYNC, Contender, split

ROOT: Final = Path(__file__).resolve().parents[1]
WARM_UP_S: Final = 1.0
SAMPLES_PER_S: Final = 500
TOP: Final = 40
WORST_LINES: Final = 8

Recorder = Callable[[int, float, Path], str]
"""(process, seconds, directory) to what to say of it."""


def record_py_spy(pid: int, seconds: float, out: Path) -> str:
    """Stacks of Python, with the native frames of extensions where py-spy can unwind them."""
    program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        return "MISSING py-spy: pip install py-spy"
    raw, flame = out / "py-spy.raw", out / "py-spy.svg"
    options = ["--pid", str(pid), "--rate", str(SAMPLES_PER_S), "--threads", "--nonblocking"]
    commands = [
        [
            program,
            "record",
            *options,
            *more,
            "--duration",
            f"{max(1, round(seconds))}",
            "--format",
            form,
            "--output",
            str(path),
        ]
        for form, path, more in (("raw", raw, ["--function"]), ("flamegraph", flame, []))
    ]
    for command in commands:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            return f"FAILED py-spy: {ended.stderr.strip().splitlines()[-1:]}"
    (out / "py-spy.txt").write_text(_functions(raw.read_text()))
    raw.unlink()
    return f"py-spy: {flame}, py-spy.txt"


def _functions(raw: str) -> str:
    """Of stacks with their counts: each function's own share, and with all it calls."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = max(1, sum(own.values()))
    lines = [f"{'own':>7}{'whole':>8}  of {total} samples"]
    lines += [
        f"{count / total:7.1%}{whole[frame] / total:8.1%}  {frame}" for frame, count in own.most_common(TOP)
    ]
    return "\n".join(lines) + "\n"


def record_perf(pid: int, seconds: float, out: Path) -> str:
    """Functions of native code and of the kernel. By the clock: virtual machines often have no counters."""
    program = shutil.which("perf")
    if program is None:
        return "MISSING perf: the distribution's linux-perf"
    samples = out / "perf.data"
    command = [program, "record", "-e", "cpu-clock", "-F", "999", "-g", "-p", str(pid), "-o", str(samples)]
    ended = subprocess.run(
        [*command, "--", "sleep", str(seconds)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        return f"FAILED perf: {ended.stderr.strip().splitlines()[-1:]}"
    told = subprocess.run(
        [
            program,
            "report",
            "--stdio",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.3",
            "-i",
            str(samples),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (out / "perf.txt").write_text(told.stdout)
    return f"perf: {out / 'perf.txt'}, and perf.data for `perf report`"


def annotate(_pid: int, _seconds: float, out: Path) -> str:
    """Which lines of the Cython files touch Python, and how much."""
    program = shutil.which("cython", path=str(Path(sys.executable).parent)) or shutil.which("cython")
    if program is None:
        return "MISSING cython: pip install Cython"
    made = out / "annotate"
    made.mkdir(exist_ok=True)
    lines = []
    for source in sorted((ROOT / "gateway" / "_fast").glob("*.pyx")):
        target = made / f"{source.stem}.c"
        subprocess.run(
            [program, "-3", "--annotate", str(source), "-o", str(target)],
            capture_output=True,
            check=True,
            cwd=ROOT,
        )
        target.unlink()
        lines += _yellow(source, made / f"{source.stem}.html")
    (out / "annotate.txt").write_text("\n".join(lines) + "\n")
    return f"Cython: {made}/*.html, annotate.txt"


def _yellow(source: Path, page: Path) -> list[str]:
    """The lines of a file with the highest scores, which are about how many calls into Python a line has."""
    scored = re.findall(r'class="cython line score-(\d+)".*?<span class="">(\d+)</span>', page.read_text())
    worst = sorted(((int(score), int(number)) for score, number in scored if score != "0"), reverse=True)
    text = source.read_text().splitlines()
    lines = [f"{source.name}: {len(worst)} of {len(text)} lines touch Python"]
    return lines + [
        f"  {score:4} {number:4}: {text[number - 1].strip()}" for score, number in worst[:WORST_LINES]
    ]


TOOLS: Final[dict[str, Recorder]] = {"py-spy": record_py_spy, "perf": record_perf, "annotate": annotate}
WORK: Final = {
    "relay": (post("/webhook", webhook_body()), 200, ""),
    "ingest": (post("/webhook", webhook_body()), 200, "isolated"),
    "push": (REQUEST, 202, "suspended"),
}
"""The request, its answer, and the state that leaves everything else out."""


def profile(options: argparse.Namespace, directory: Path, out: Path) -> None:
    """The load runs in a thread of ours as long as tools record."""
    request, status, state = WORK[options.work]
    with Loads(directory, LOAD_CORE) as loads:
        loads.start_sink()
        name = next(name for name, sync in SYNC.items() if sync == options.sync)
        if options.sync != "full" and not split([name])[0]:
            sys.exit(f"{name}: {split([name])[1][name]}")
        queue_max = {"SEND_QUEUE_MAX": "10000000"}
        with Contender(name, directory / "gateway", loads.sink_url).start(
            Contender.run_gateway, **queue_max
        ) as server:
            if state:
                server.set_state(state)
            loads.run(server.port, request, 24, rate=options.rate, seconds=WARM_UP_S, status=status)
            pid, done = server.processes[0].pid, threading.Event()

            def keep_loaded() -> None:
                while not done.is_set():
                    loads.run(server.port, request, 24, rate=options.rate, seconds=1.0, status=status)

            loader = threading.Thread(target=keep_loaded)
            loader.start()
            try:
                for tool in options.tools:
                    print(TOOLS[tool](pid, options.seconds, out), flush=True)
            finally:
                done.set()
                loader.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", nargs="+", choices=[*TOOLS], default=[*TOOLS], metavar="TOOL")
    parser.add_argument(
        "--work", choices=[*WORK], default="relay", help="webhook to backend, to the 200 alone, or pushes"
    )
    parser.add_argument("--sync", choices=[*SYNC.values()], default=SYNC[FULL], help="how durable")
    parser.add_argument(
        "--rate", type=float, default=CLOSED, help="events a second; 0, the default: flat out"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="a tool (default 5)")
    parser.add_argument("--out", type=Path, default=Path("var/profile"), help="default var/profile")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tools == ["annotate"]:
        print(annotate(0, 0.0, options.out))
        return
    with record.scratch() as directory:
        profile(options, directory, options.out)


if __name__ == "__main__":
    main()

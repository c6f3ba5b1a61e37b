"""How many webhooks a second a server answers with 200, by the number of connections, and what one costs.

A closed loop: each connection sends the next webhook when the last one is answered. The server has one core with its
store, the load has the other. Ours takes webhooks and forwards none (`isolated`), as the peers put them into a list of
Redis or nowhere. `full` is on disk before the 200, `os` has been given to the operating system, `memory` is nowhere else;
Redis syncs its file before it answers (`appendfsync always`). Each round is `--seconds`, servers in turn; the first
one warms up. Medians, and the range of the rounds.

- CPU us: time on a CPU over the webhooks answered, all threads and processes of the server, Redis included
- p99 ms: of a closed loop, so of a server that is full: what matters is a rate it can serve, see `relay.py`
- load busy: share of its core that the load needed. Near 100 % it is the load that was measured
- commits: with `--syncs`, fsync and fdatasync calls of one more round under `strace`, whose rate means nothing
"""

import argparse
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import record
from load import Loads, middle, post, quantiles, webhook_body
from servers import (
    AIOHTTP_REDIS,
    FASTAPI_REDIS,
    FULL,
    INGEST,
    LOAD_CORE,
    MEMORY,
    NGINX,
    SERVER_CORE,
    Contender,
    say_absent,
    split,
)

CONNECTIONS: Final = (6, 12, 24, 64)
JUDGED_AT: Final = 24
"""Connections at which the targets hold: what one callback worker of a node has."""
TARGETS: Final = ((FULL, FASTAPI_REDIS, 8.0), (FULL, AIOHTTP_REDIS, 4.0), (MEMORY, NGINX, 0.8))
"""Ours against a peer, and how many times its rate it must have at least."""
STRACE_S: Final = 1.0
PACKAGES: Final = ("uvloop", "aiohttp")

Row = dict[str, Any]


_SYNC_CALLS: Final = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) .*(?:fsync|fdatasync)$", re.MULTILINE)
"""In the table of `strace -c`."""
WEBHOOK: Final = post("/webhook", webhook_body())


def one_round(
    server: Contender,
    loads: Loads,
    connections: int,
    seconds: float,
    request: bytes = WEBHOOK,
    status: int = 200,
) -> Row:
    """One measurement."""
    cpu_before, wait_before = server.cpu_ns(), server.cpu_wait_ns()
    loaded = loads.run(server.port, request, connections, seconds=seconds, status=status)
    loaded.require_ok(server.name)
    return {
        "per_s": round(loaded.per_s),
        "cpu_us": round((server.cpu_ns() - cpu_before) / loaded.ok / 1e3, 2),
        "cpu_wait": round((server.cpu_wait_ns() - wait_before) / 1e9 / loaded.seconds, 3),
        "load_busy": round(loaded.told["cpu_s"] / loaded.seconds, 3),
        "answer_ms": quantiles(loads.answer_ms(loaded)),
    }


def summary(name: str, connections: int, rounds: list[Row]) -> Row:
    """Medians of the rounds, and their range."""
    rates = [row["per_s"] for row in rounds]
    return {
        "server": name,
        "connections": connections,
        "per_s": middle(rates),
        "per_s_low": min(rates),
        "per_s_high": max(rates),
        "cpu_us": middle(row["cpu_us"] for row in rounds),
        "cpu_wait": middle(row["cpu_wait"] for row in rounds),
        "load_busy": max(row["load_busy"] for row in rounds),
        "p50_ms": middle(row["answer_ms"]["p50"] for row in rounds),
        "p99_ms": middle(row["answer_ms"]["p99"] for row in rounds),
    }


def count_syncs(server: Contender, loads: Loads, connections: int) -> Row:
    """What a strace of one round has seen; the server is as it is for a moment more, then it goes on alone."""
    traces = [loads.directory / f"strace-{process.pid}" for process in server.processes]
    tracers = [
        subprocess.Popen(
            ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", trace, "-p", str(process.pid)],
            stderr=subprocess.PIPE,
        )
        for trace, process in zip(traces, server.processes, strict=True)
    ]
    for tracer in tracers:
        assert tracer.stderr is not None
        tracer.stderr.readline()  # "attached"
    try:
        loaded = loads.run(server.port, WEBHOOK, connections, seconds=STRACE_S)
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.wait()
    calls = 0
    for trace in traces:
        calls += sum(map(int, _SYNC_CALLS.findall(trace.read_text())))
    return {"server": server.name, "webhooks": loaded.ok, "syncs": calls}


def measure(options: argparse.Namespace, directory: Path) -> Row:
    """All servers at all numbers of connections."""
    names, absent = split(list(INGEST))
    rows: list[Row] = []
    syncs: list[Row] = []
    with Loads(directory, LOAD_CORE) as loads:
        for connections in options.connections:
            rounds: dict[str, list[Row]] = {name: [] for name in names}
            with ExitStack() as stack:
                servers = [
                    stack.enter_context(
                        Contender(name, directory / f"{connections}-{at}", loads.sink_url).start(INGEST[name])
                    )
                    for at, name in enumerate(names)
                ]
                for number in range(options.rounds + 1):
                    for server in servers:
                        row = one_round(server, loads, connections, options.seconds)
                        if number:
                            rounds[server.name].append(row)
                if options.syncs and connections == options.connections[-1]:
                    syncs = [count_syncs(server, loads, connections) for server in servers]
            rows += [summary(name, connections, rounds[name]) for name in names]
            print(table(rows[-len(names) :]), flush=True)
    return {"rows": rows, "missing": absent, "syncs": syncs}


def targets(result: Row) -> list[Row]:
    """What was to be reached, and what was."""
    rates = {row["server"]: row["per_s"] for row in result["rows"] if row["connections"] == JUDGED_AT}
    found = []
    for ours, peer, least in TARGETS:
        what = f"ingest, {ours} / {peer}, {JUDGED_AT} connections"
        ratio = rates[ours] / rates[peer] if ours in rates and peer in rates else None
        found.append(record.target(what, ratio, least, "x", at_least=True))
    return found


def table(rows: list[Row]) -> str:
    """The rows of one number of connections."""
    lines = [
        f"{rows[0]['connections']} connections",
        f"{'':24}{'per s':>9}{'range':>18}{'CPU us':>9}{'p50 ms':>9}{'p99 ms':>9}{'load busy':>11}",
    ]
    lines += [
        f"{row['server']:24}{row['per_s']:9,.0f}{row['per_s_low']:9,.0f}-{row['per_s_high']:<8,.0f}"
        f"{row['cpu_us']:9.1f}{row['p50_ms']:9.2f}{row['p99_ms']:9.2f}{row['load_busy']:11.0%}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, nargs="+", default=list(CONNECTIONS), metavar="N")
    parser.add_argument("--rounds", type=int, default=3, help="measured (default 3), after one more")
    parser.add_argument("--seconds", type=float, default=1.2, help="of a round (default 1.2)")
    parser.add_argument("--syncs", action="store_true", help="count the servers' fsyncs at last")
    record.add_option(parser)
    options = parser.parse_args()
    if options.syncs and shutil.which("strace") is None:
        sys.exit("--syncs needs strace")
    result = record.about(*PACKAGES) | {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cores": {"server": SERVER_CORE, "load": LOAD_CORE},
    }
    print(record.headline(result), flush=True)
    with record.scratch() as directory:
        result |= measure(options, directory)
    result["targets"] = targets(result)
    for row in result["syncs"]:
        print(f"{row['server']}: {row['syncs']:,} fsyncs for {row['webhooks']:,} webhooks")
    print("\n".join(say_absent(result["missing"]) + [record.show_target(row) for row in result["targets"]]))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

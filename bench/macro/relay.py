"""From webhook to backend: CPU of one event, and how much later it is there, at fixed arrival rates.

An open loop: webhooks are due at Poisson times whatever the server does, and an event's latency counts from when it was
due, so one that could not even be sent in time has waited too (no coordinated omission). `flat out` is a closed loop of
24 connections instead. The server has one core, load and backend the other. Each round waits until every event that was
answered 200 is at the backend, by its number; servers in turn, and the first round warms up. Medians of the rounds,
and the range of their p99. `direct` is the load before the backend without a server: what the machine takes.

- CPU us: time on a CPU over the events of a round, all threads and processes of the server, until all were delivered
- there ms: from due to at the backend; answer ms: from due to the node's 200
- served: events a second at the backend. `BEHIND n`: so many were not there when the last one was due, so the rate is more
  than the server can do, and its latencies say how long it was loaded, not how good it is
- lost: answered 200 and not at the backend a while later; twice: at the backend more than once
- waited: time a second that the server was ready to run while another process had its core: the machine's noise
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import record
from load import CLOSED, Loaded, Loads, middle, post, quantiles, webhook_body
from servers import (
    AIOHTTP,
    FORWARD,
    FULL,
    LOAD_CORE,
    MEMORY,
    NGINX,
    SERVER_CORE,
    SYNC,
    Contender,
    say_absent,
    split,
)

SECONDS: Final = {20.0: 8.0, 200.0: 3.0, 1000.0: 3.0, 4000.0: 3.0, CLOSED: 1.5}
"""Of a round, by its rate: at 20/s a p99 needs them."""
DIRECT: Final = "direct"
OPEN_CONNECTIONS: Final = 64
CLOSED_CONNECTIONS: Final = 24
QUIET_S: Final = 4.0
"""Without any event at the backend, after which one that is missing is lost."""
SETTLE_S: Final = 0.1
"""For the outcomes to be committed, which is part of an event's cost."""
BEHIND_SHARE: Final = 0.02
CPU_TARGETS: Final = (
    (MEMORY, NGINX, 1.3),
    (FULL, NGINX, 2.2),
    (MEMORY, AIOHTTP, 0.25),
    (FULL, AIOHTTP, 0.25),
)
LATENCY_TARGETS: Final = ((1000.0, "p50", 1.5), (1000.0, "p99", 10.0), (20.0, "p99", 5.0))
PACKAGES: Final = ("uvloop", "aiohttp")

Row = dict[str, Any]


def rate_name(rate: float) -> str:
    """As tables have it."""
    return f"{rate:,.0f}/s" if rate else "flat out"


def one_round(server: Contender | None, loads: Loads, rate: float, seconds: float) -> Row:
    """One measurement; without a server it is the direct one."""
    request = post("/webhook", webhook_body())
    port = server.port if server else loads.sink_port
    connections = OPEN_CONNECTIONS if rate else CLOSED_CONNECTIONS
    cpu_before, wait_before = (server.cpu_ns(), server.cpu_wait_ns()) if server else (0, 0)
    twice_before, sink_before, begin_ns = loads.duplicates(), loads.sink_cpu_s(), time.monotonic_ns()
    loaded = loads.run(port, request, connections, rate=rate, seconds=seconds)
    end_ns = time.monotonic_ns()
    lost = loads.wait_received(loaded, QUIET_S)
    time.sleep(SETTLE_S)
    events = max(1, loaded.ok)
    first_ns, last_ns = loads.received_between(loaded)
    behind = loads.behind(loaded) if rate else 0
    load_cpu_s = loaded.told["cpu_s"] + loads.sink_cpu_s() - sink_before
    return {
        "events": loaded.ok,
        "cpu_us": round((server.cpu_ns() - cpu_before) / events / 1e3, 2) if server else 0.0,
        "waited": round((server.cpu_wait_ns() - wait_before) / (end_ns - begin_ns), 3) if server else 0.0,
        "served_per_s": round((loaded.ok - lost) / max(1e-9, (last_ns - first_ns) / 1e9), 1),
        "behind": behind if behind > BEHIND_SHARE * loaded.ok else 0,
        "lost": lost,
        "twice": loads.duplicates() - twice_before,
        "failures": _failures(loaded),
        "load_busy": round(load_cpu_s / max(1e-9, loaded.seconds), 3),
        "there_ms": quantiles(loads.delivery_ms(loaded)),
        "answer_ms": quantiles(loads.answer_ms(loaded)),
    }


def _failures(loaded: Loaded) -> int:
    """Requests without the expected answer; ones that were never sent are only behind."""
    return int(loaded.told["wrong"] + loaded.told["broken"])


def summary(name: str, rate: float, rounds: list[Row]) -> Row:
    """Medians of the rounds, and what went wrong in any of them."""
    row: Row = {"server": name, "rate": rate, "samples": min(round_["events"] for round_ in rounds)}
    for what in ("cpu_us", "served_per_s", "waited", "load_busy"):
        row[what] = middle(round_[what] for round_ in rounds)
    row["cpu_us_low"] = min(round_["cpu_us"] for round_ in rounds)
    row["cpu_us_high"] = max(round_["cpu_us"] for round_ in rounds)
    for what in ("there_ms", "answer_ms"):
        told = [round_[what] for round_ in rounds if "p50" in round_[what]]
        row[what] = {end: middle(times[end] for times in told) for end in ("p50", "p99", "p999") if told}
        row[what] |= {"p99_low": min(t["p99"] for t in told), "p99_high": max(t["p99"] for t in told)}
    row["behind"] = middle(round_["behind"] for round_ in rounds)
    for what in ("lost", "twice", "failures"):
        row[what] = sum(round_[what] for round_ in rounds)
    return row


def measure(options: argparse.Namespace, directory: Path) -> Row:
    """All servers at all rates."""
    names, absent = split(list(FORWARD))
    rows: list[Row] = []
    with Loads(directory, LOAD_CORE) as loads, ExitStack() as stack:
        loads.start_sink()
        servers: dict[str, Contender | None] = {DIRECT: None}
        for at, name in enumerate(names):
            made = Contender(name, directory / str(at), loads.sink_url)
            servers[name] = stack.enter_context(made.start(FORWARD[name]))
        for server in servers.values():
            one_round(server, loads, 1000.0, min(1.0, options.scale))
        for rate in options.rates:
            seconds = SECONDS.get(rate, 3.0) * options.scale
            rounds: dict[str, list[Row]] = {name: [] for name in servers}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    rounds[name].append(one_round(server, loads, rate, seconds))
            rows += [summary(name, rate, rounds[name]) for name in servers]
            print(table(rows[-len(servers) :]), flush=True)
    return {"rows": rows, "missing": absent}


def targets(result: Row) -> list[Row]:
    """What was to be reached, and what was."""
    rows = {(row["server"], row["rate"]): row for row in result["rows"]}
    found = []
    for rate in (1000.0, CLOSED):
        for ours, peer, most in CPU_TARGETS:
            mine, theirs = rows.get((ours, rate)), rows.get((peer, rate))
            ratio = mine["cpu_us"] / theirs["cpu_us"] if mine and theirs and theirs["cpu_us"] else None
            what = f"store-and-forward, CPU per event, {rate_name(rate)}, {ours} / {peer}"
            found.append(record.target(what, ratio, most, "x"))
    for rate, end, most in LATENCY_TARGETS:
        mine, direct = rows.get((FULL, rate)), rows.get((DIRECT, rate))
        added = mine["there_ms"][end] - direct["there_ms"]["p50"] if mine and direct else None
        found.append(
            record.target(
                f"added latency, {FULL}, {rate_name(rate)}, {end} less direct p50", added, most, "ms"
            )
        )
    return found


def table(rows: list[Row]) -> str:
    """The rows of one rate."""
    head = (
        f"{'':20}{'CPU us':>8}{'range':>15}{'waited':>8}{'served':>9}{'there p50':>11}{'p99':>8}{'p99.9':>8}"
        f"{'range of p99':>17}{'answer p50':>12}{'p99':>8}"
    )
    lines = [f"{rate_name(rows[0]['rate'])}, {rows[0]['samples']} events a round", head]
    for row in rows:
        there, answer = row["there_ms"], row["answer_ms"]
        cpu_range = f"{row['cpu_us_low']:.1f}-{row['cpu_us_high']:.1f}"
        p99_range = f"{there['p99_low']:.2f}-{there['p99_high']:.2f}"
        lines.append(
            f"{row['server']:20}{row['cpu_us']:8.1f}{cpu_range:>15}{row['waited']:8.0%}{row['served_per_s']:9,.0f}"
            f"{there['p50']:11.2f}{there['p99']:8.2f}{there['p999']:8.2f}{p99_range:>17}"
            f"{answer['p50']:12.2f}{answer['p99']:8.2f}{_remarks(row)}"
        )
    return "\n".join(lines)


def _remarks(row: Row) -> str:
    named = (("behind", "BEHIND"), ("lost", "LOST"), ("twice", "twice"), ("failures", "FAILED"))
    return "".join(f"  {word} {row[what]}" for what, word in named if row[what])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(SECONDS), metavar="N", help="a second; 0 is flat out"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measured (default 3), after a warm-up")
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds of a round (default 1)")
    record.add_option(parser)
    options = parser.parse_args()
    result = record.about(*PACKAGES) | {
        "rounds": options.rounds,
        "scale": options.scale,
        "seconds": {rate_name(rate): seconds for rate, seconds in SECONDS.items()},
        "cores": {"server": SERVER_CORE, "load and backend": LOAD_CORE},
        "ours": list(SYNC),
    }
    print(record.headline(result), flush=True)
    with record.scratch() as directory:
        result |= measure(options, directory)
    result["targets"] = targets(result)
    print("\n".join(say_absent(result["missing"]) + [record.show_target(row) for row in result["targets"]]))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

"""How exactly the budget paces in real time, per rate, beside other rate limiters in the same run.

One sender that always waits takes grants as fast as the pacer gives them, on uvloop. Per rate and pacer:

- worst: most grants in any one second `(t - 1 s, t]` of the whole run, which may be N at most;
- used: the rate after the first second, over N, measured over the time that a multiple of N grants took
  (so that a pacer with a pattern of one second is not judged by where its pattern was cut);
- late: how late a grant is, in µs, against the time that the pacer named for it. A grant that comes at once because
  the one before was late is measured against that one's due time and 1/N more, never before the window had room.
  Only for pacers that name a time: ours, and the sleeps, which name "1/N from now";
- off: how far a grant is from 1/N after the grant before, in µs, in either direction; for all pacers. Ours at no
  headroom leaves 0.5 % of the rate as a gap of 5 ms in each second (`WINDOW_NS`): one in N grants has it;
- CPU: of the process, in percent of a core.

`time.sleep, blocking` is no pacer but the machine's noise: how late the kernel wakes a thread that does nothing but
sleep 1/N, its slack of 50 us included. Idle cores wake later at low rates, for they sleep deeper.

The pacing error is judged by p99, which needs grants: ours and the noise take turns in --rounds rounds of --grants
grants at least, and a row has the median of the rounds' p50 and p99, the lowest and highest p99 beside it, the worst
second of all rounds, and the median of the rest. The peers, which name no time, have one round of --seconds.

With --node, then: the real gateway on a core of its own, paced at N less a headroom of 5 %, before a simulated node
on another core; no receipts, so that sends alone use the plan. Counted at the node: worst second, share of the
rate aimed at, and `off`. The pushes are taken by a gateway before it whose node is away, and wait in the store.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import time
from bisect import bisect_right
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import record
import uvloop
from pacers import PACERS
from processes import ServerProcess, free_port

from gateway.budget.tps import WINDOW_NS
from gateway.clock import NS_PER_S
from gateway.sim.node import SimNode
from gateway.sim.receipts import ReceiptModel

RATES: Final = (10, 15, 20, 80, 250, 1000)
NOISE: Final = "time.sleep, blocking"
NAMES_A_TIME: Final = ("ours", "asyncio.sleep", NOISE)
IN_ROUNDS: Final = ("ours", NOISE)
USED_MIN: Final = 0.99
LATE_P99_MAX_US: Final = 500
HEADROOM_PERCENT: Final = 5
SPARE_S: Final = 4.0
"""Pushes laid in beyond the seconds measured: the first second, and some that still wait at the end."""
PUSHERS: Final = 48
"""Pushes under way at once: the gateway commits what arrives together."""
TOKEN: Final = "a-token-of-the-benchmark"
PACKAGES: Final = ("uvloop", "aiohttp", "aiolimiter", "pyrate-limiter", "limits")

Row = dict[str, Any]


def worst_second(times_ns: list[int]) -> tuple[int, int]:
    """Most of `times_ns`, which ascend, in any `(t - 1 s, t]`, and the first such `t`."""
    worst, worst_ns = 0, 0
    for index, at_ns in enumerate(times_ns):
        count = index + 1 - bisect_right(times_ns, at_ns - NS_PER_S)
        if count > worst:
            worst, worst_ns = count, at_ns
    return worst, worst_ns


def rate_after(times_ns: list[int], after_ns: int, period: int) -> float:
    """Grants a second from `after_ns` on, over a multiple of `period` grants where there are so many."""
    first = bisect_right(times_ns, after_ns)
    count = len(times_ns) - 1 - first
    if count >= period:
        count -= count % period
    if count < 1:
        return 0.0
    return count * NS_PER_S / (times_ns[first + count] - times_ns[first])


def lateness_us(times_ns: list[int], named_ns: list[int], tps: int) -> list[float]:
    """How late each grant is, ascending; see the module."""
    late: list[float] = []
    due_ns = times_ns[0]
    for index, (at_ns, name_ns) in enumerate(zip(times_ns, named_ns, strict=True)):
        if name_ns:
            due_ns = name_ns
        else:
            due_ns = min(at_ns, due_ns + NS_PER_S // tps)
            if index >= tps:
                due_ns = max(due_ns, min(at_ns, times_ns[index - tps] + WINDOW_NS))
        late.append((at_ns - due_ns) / 1e3)
    return sorted(late)


def spacing_off_us(times_ns: list[int], per_s: float) -> list[float]:
    """How far each gap is from one interval, ascending."""
    interval_ns = NS_PER_S / per_s
    gaps = itertools.pairwise(times_ns)
    return sorted(abs(after_ns - before_ns - interval_ns) / 1e3 for before_ns, after_ns in gaps)


def over_rounds(rounds: list[Row]) -> Row:
    """One row of several rounds; see the module."""

    def median_of(name: str) -> dict[str, float] | None:
        ends = [row[name] for row in rounds if row[name] is not None]
        if not ends:
            return None
        middle = {end: round(statistics.median(e[end] for e in ends), 1) for end in ("p50", "p99")}
        p99s = [e["p99"] for e in ends]
        return {**middle, "p99_low": min(p99s), "p99_high": max(p99s), "max": max(e["max"] for e in ends)}

    return {
        "tps": rounds[0]["tps"],
        "pacer": rounds[0]["pacer"],
        "rounds": len(rounds),
        "grants": sum(row["grants"] for row in rounds),
        "worst": max(row["worst"] for row in rounds),
        "used": round(statistics.median(row["used"] for row in rounds), 5),
        "late_us": median_of("late_us"),
        "off_us": median_of("off_us"),
        "cpu_percent": round(statistics.median(row["cpu_percent"] for row in rounds), 2),
    }


def p50_p99_max(ordered: list[float]) -> dict[str, float] | None:
    if not ordered:
        return None
    ends = {"p50": record.percentile(ordered, 50), "p99": record.percentile(ordered, 99), "max": ordered[-1]}
    return {name: round(value, 1) for name, value in ends.items()}


async def pace(name: str, tps: int, seconds: float) -> Row:
    """One pacer at one rate, for one second and then `seconds`."""
    pacer = PACERS[name](tps)
    named_ns = [await pacer.next()]
    times_ns = [time.monotonic_ns()]
    cpu_ns = time.process_time_ns()
    end_ns = times_ns[0] + NS_PER_S + int(seconds * NS_PER_S)
    while times_ns[-1] < end_ns:
        named_ns.append(await pacer.next())
        times_ns.append(time.monotonic_ns())
    cpu_ns = time.process_time_ns() - cpu_ns
    pacer.close()
    return {
        "tps": tps,
        "pacer": name,
        "grants": len(times_ns),
        "worst": worst_second(times_ns)[0],
        "used": round(rate_after(times_ns, times_ns[0] + NS_PER_S, tps) / tps, 5),
        "late_us": p50_p99_max(lateness_us(times_ns, named_ns, tps)) if name in NAMES_A_TIME else None,
        "off_us": p50_p99_max(spacing_off_us(times_ns, tps)),
        "cpu_percent": round(100 * cpu_ns / (times_ns[-1] - times_ns[0]), 2),
    }


async def push(url: str, count: int) -> None:
    """Lay in `count` sends. RuntimeError when one is refused."""
    numbers = iter(range(count))

    async def pusher(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            to = str(15550110000 + number % 1000)
            body = {"to": to, "type": "text", "recipient_type": "individual", "text": {"body": str(number)}}
            async with session.post(f"{url}/v1/messages", json=body) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"a push was answered {answer.status}: {await answer.text()}")

    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=PUSHERS)
    async with (
        aiohttp.ClientSession(headers=headers, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(PUSHERS):
            group.create_task(pusher(session))


async def pace_through_node(tps: int, seconds: float, core: int, directory: Path) -> Row:
    """The gateway before a simulated node; see the module."""
    aim_per_s = tps * (100 - HEADROOM_PERCENT) / 100
    nowhere = f"http://127.0.0.1:{free_port()}"
    with await asyncio.to_thread(_start_gateway, directory, nowhere, tps, core) as gateway:
        await push(gateway.url, int(aim_per_s * (seconds + SPARE_S)))
    receipts = ReceiptModel(delivered_ratio=0.0, read_ratio=0.0)
    async with SimNode(tps=tps, user="admin", password="bench", receipts=receipts) as node:
        node.faults.is_rate_limited = False  # 50 requests a second: the node's own limit, not the number's
        node.settings.document["webhooks"]["message"].update(sent=False, delivered=False, read=False)
        with await asyncio.to_thread(_start_gateway, directory, node.url, tps, core) as gateway:
            sends = node.journal.sends
            while not sends:
                await asyncio.sleep(0.01)
            start_ns = sends[0].at_ns + NS_PER_S
            await asyncio.sleep((start_ns - time.monotonic_ns()) / NS_PER_S)
            cpu_ns = gateway.cpu_ns()
            await asyncio.sleep(seconds)
            cpu_ns, end_ns = gateway.cpu_ns() - cpu_ns, time.monotonic_ns()
            times_ns = [entry.at_ns for entry in sends]
            if node.journal.refusals:
                raise RuntimeError(f"the node refused: {node.journal.refusals}; {gateway.log_tail()}")
    worst, worst_ns = worst_second(times_ns)
    measured = [at_ns for at_ns in times_ns if at_ns > start_ns]
    return {
        "tps": tps,
        "aim_per_s": aim_per_s,
        "sends": len(times_ns),
        "worst": worst,
        "worst_at_s": round((worst_ns - times_ns[0]) / NS_PER_S, 3),
        "used_of_aim": round(rate_after(times_ns, start_ns, 1) / aim_per_s, 5),
        "off_us": p50_p99_max(spacing_off_us(measured, aim_per_s)),
        "gateway_cpu_percent": round(100 * cpu_ns / (end_ns - start_ns), 1),
    }


def _start_gateway(directory: Path, node_url: str, tps: int, core: int) -> ServerProcess:
    gateway = ServerProcess.gateway(
        directory,
        core,
        TPS=str(tps),
        TPS_HEADROOM=f"{HEADROOM_PERCENT}%",
        NODE_URL=node_url,
        NODE_USER="admin",
        NODE_PASSWORD="bench",  # the node is simulated
        NODE_CONNECTIONS="64",
        PUSH_TOKENS=TOKEN,
        LOG_LEVEL="error",
    )
    return gateway.wait_ready()


def _p50_p99(values: dict[str, float] | None) -> str:
    if values is None:
        return f"{'-':>10}{'-':>10}"
    return f"{values['p50']:10,.0f}{values['p99']:10,.0f}"


def _range(values: dict[str, float] | None) -> str:
    return f"{values['p99_low']:,.0f} to {values['p99_high']:,.0f}" if values else "-"


def show(row: Row) -> str:
    """A row of the first table."""
    late, off = _p50_p99(row["late_us"]) + f"{_range(row['late_us']):>16}", _p50_p99(row["off_us"])
    worst = f"{row['worst']}{'!' if row['worst'] > row['tps'] else ' '}"
    return (
        f"{row['tps']:>5} {row['pacer']:24}{worst:>7}{row['used']:>9.2%}{late}{off}{row['cpu_percent']:>8.2f}"
    )


def show_node(row: Row) -> str:
    """A row of the table at the node."""
    return (
        f"{row['tps']:>5} {row['aim_per_s']:8.1f}{row['sends']:8}{row['worst']:8}{row['worst_at_s']:8.1f}{row['used_of_aim']:10.2%}"
        f"{_p50_p99(row['off_us'])}{row['gateway_cpu_percent']:9.1f}"
    )


HEAD: Final = f"{'N':>5} {'pacer':24}{'worst ':>7}{'used':>9}{'late p50':>10}{'p99':>10}{'of rounds':>16}{'off p50':>10}{'p99':>10}{'CPU %':>8}"
NODE_HEAD: Final = f"{'N':>5} {'aim/s':>8}{'sends':>8}{'worst':>8}{'at s':>8}{'of aim':>10}{'off p50':>10}{'p99':>10}{'CPU %':>9}"


def misses(result: dict[str, Any]) -> list[str]:
    """Every target that this run did not meet."""
    found: list[str] = []
    noise_us = {row["tps"]: row["late_us"]["p99"] for row in result["pacers"] if row["pacer"] == NOISE}
    for row in result["pacers"]:
        if row["pacer"] != "ours":
            continue
        if row["worst"] > row["tps"]:
            found.append(f"N={row['tps']}: worst second {row['worst']}")
        if row["used"] < USED_MIN:
            found.append(f"N={row['tps']}: used {row['used']:.2%}")
        if row["late_us"]["p99"] > LATE_P99_MAX_US:
            noise = noise_us.get(row["tps"])
            found.append(
                f"N={row['tps']}: late p99 {row['late_us']['p99']:.0f} us, in rounds {_range(row['late_us'])} "
                f"(noise: {noise or '?'})"
            )
    for row in result.get("node", []):
        if row["worst"] > row["tps"]:
            found.append(f"N={row['tps']} at the node: worst second {row['worst']}")
        if row["used_of_aim"] < USED_MIN:
            found.append(f"N={row['tps']} at the node: {row['used_of_aim']:.2%} of the rate aimed at")
    return found


def run_rate(tps: int, options: argparse.Namespace) -> list[Row]:
    """Every pacer at one rate, in turns."""
    rounds: dict[str, list[Row]] = {name: [] for name in options.pacers}
    for number in range(options.rounds):
        for name in options.pacers:
            is_judged = name in IN_ROUNDS
            if number and not is_judged:
                continue
            seconds = max(options.seconds, options.grants / tps) if is_judged else options.seconds
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rounds[name].append(runner.run(pace(name, tps, seconds)))
    return [over_rounds(rows) for rows in rounds.values()]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All of it, printing each rate when it is there."""
    result = {
        **record.about(*PACKAGES),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "grants": options.grants,
        "pacers": [],
    }
    print(record.headline(result))
    print(
        f"{options.seconds:g} s each, after the first second; ours and the noise in {options.rounds} rounds of "
        f"{options.grants} grants at least; late and off in us; ! breaks the limit\n\n{HEAD}",
        flush=True,
    )
    for tps in options.rates:
        rows = run_rate(tps, options)
        result["pacers"] += rows
        print("\n".join(map(show, rows)), flush=True)
    if options.node:
        run_node(options, result)
    result["load_1min_at_end"] = round(os.getloadavg()[0], 2)
    print(f"\nload at the end: {result['load_1min_at_end']}")
    result["missed"] = misses(result)
    print("targets: " + ("; ".join(result["missed"]) + " MISSED" if result["missed"] else "all met"))
    return result


def run_node(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """The part at the node."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    result["cores_shared"] = len(cores) == 1
    print(
        f"\nthe gateway before a simulated node, counted there{' (ONE core for both)' if len(cores) == 1 else ''}"
    )
    print(NODE_HEAD)
    result["node"] = []
    for tps in options.rates:
        with (
            TemporaryDirectory(prefix="wa-gateway-bench-") as directory,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            row = runner.run(pace_through_node(tps, options.seconds, cores[0], Path(directory)))
        result["node"].append(row)
        print(show_node(row), flush=True)
    os.sched_setaffinity(0, set(cores))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="each, after the first second (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of ours and the noise (default 3)")
    parser.add_argument("--grants", type=int, default=200, help="of a round, at least (default 200)")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), metavar="N")
    parser.add_argument(
        "--pacers",
        nargs="*",
        default=list(PACERS),
        choices=[*PACERS],
        metavar="NAME",
        help=f"of {list(PACERS)}",
    )
    parser.add_argument("--node", action="store_true", help="then the real gateway before a simulated node")
    record.add_option(parser)
    options = parser.parse_args()
    if options.seconds <= 0 or not all(1 <= tps <= 1000 for tps in options.rates):
        sys.exit("--seconds must be above 0, each of --rates from 1 to 1000")
    if options.rounds < 1 or options.grants < 1:
        sys.exit("--rounds and --grants must be at least 1")
    record.write(options.json, run(options))


if __name__ == "__main__":
    main()

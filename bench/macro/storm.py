"""Receipt storms beside messages: what a storm does to how long messages take, and to the node's queue.

Customers write 20 messages a second. A message to ten groups of 256 makes 2,560 receipts within a second: once, and
ten times back to back, in rounds with quiet between; times are medians of the rounds, the queue is the longest of all.
Everything goes through the node's callback queue and its 24 connections, on a timetable (no coordinated omission); a
message has arrived when the backend has answered it.
The backend takes 50 ms (`fast`), takes 2 s (`slow`), or is down for a minute (`down`: its port is closed).
Two plain FIFO gateways get the same: `acks first` queues and then forwards, `forwards first` answers what the backend
answers. A message that has not arrived when a run ends has waited until then, marked `+`.
A commit is one write and its sync: acks can't be quicker than the disk, and in 40 ms of it a storm brings 100 callbacks.

Targets: p99 with storms at most 1.2 x that without, plus 5 ms; the node's callback queue never above 100; nothing lost:
every message arrives, each receipt has one outcome, and whoever asks the gateway for a message hears of all of them.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import arrivals
import overload_rig
import record
import uvloop
from overload_rig import ACK_FIRST, FORWARD_FIRST, GATEWAY, BenchBackend, Rig

from gateway.clock import NS_PER_S
from gateway.sim.journal import Callback

RATE: Final = 20.0
AFTER_S: Final = 2.0
"""A storm's receipts are not through when its last one comes: messages of so long after it count as of the storm."""
LEAD_S: Final = 0.2
FACTOR: Final = 1.2
EXTRA_MS: Final = 5.0
QUEUE_TARGET: Final = 100
DRAIN_S: Final = 60.0
DOWN_AT_S: Final = 3.0
PEERS_TAIL_S: Final = 10.0
"""A FIFO gateway is watched so long after the last storm; the whole of its queue takes minutes."""


class Scenario(NamedTuple):
    """A backend, and what is needed to see what it does."""

    latency_s: float
    workers: int
    """Requests under way to the backend at most, of every server."""
    warm_s: float
    """Messages before anything counts."""
    rounds_max: int
    has_peers: bool


SCENARIOS: Final = {
    "fast": Scenario(0.05, 16, 3.0, 100, has_peers=True),
    # 20 messages a second at 2 s are 40 under way: the default of 16 could not carry them without any storm.
    # A FIFO gateway has minutes to go after the first storm already at 50 ms.
    "slow": Scenario(2.0, 128, 30.0, 1, has_peers=False),
}
DOWN: Final = "down"
REST_S: Final = 0.3
"""After the last of a phase has been sent, for what is still on its way."""

Row = dict[str, Any]


class Phase:
    """Some seconds of traffic, and what came of it."""

    def __init__(
        self, rig: Rig, seconds: float, storms: int, rng: random.Random, *, storms_at_s: float = 0.0
    ) -> None:
        """Storms begin `storms_at_s` into it, one after the other."""
        begin_ns = time.monotonic_ns() + int(LEAD_S * NS_PER_S)
        self._rig = rig
        self.messages = arrivals.messages(begin_ns, seconds, RATE, rng)
        self.receipts: list[Callback] = []
        for number in range(storms):
            self.receipts += arrivals.storm(begin_ns + int((storms_at_s + number) * NS_PER_S), rng)
        self.queue_max = 0
        self.cpu_wait_ms = 0.0
        self.slowest_commit_ms: float | None = None
        """At most; None for a server that tells nothing."""

    async def play(self) -> "Phase":
        load, server = self._rig.load, self._rig.server
        commits = await self._commits()
        load.queue_max = 0
        waited_ns = server.cpu_wait_ns()
        await arrivals.play(self.messages + self.receipts, load.offer)
        # The next phase is thousands of objects to make, here, where the backend answers and takes the time too.
        await asyncio.sleep(REST_S)
        self.queue_max = load.queue_max
        self.cpu_wait_ms = (server.cpu_wait_ns() - waited_ns) / 1e6
        added = {bound: count - commits[bound] for bound, count in (await self._commits()).items()}
        if added:
            slowest_s = min(bound for bound, count in added.items() if count == max(added.values()))
            self.slowest_commit_ms = round(1000 * slowest_s, 1)
        return self

    async def _commits(self) -> dict[float, float]:
        """How many commits took at most so long, by the bound in seconds."""
        if self._rig.name != GATEWAY:
            return {}
        counts = (await self._rig.metrics()).by("le", "gateway_store_commit_seconds_bucket")
        return {float(bound): count for bound, count in counts.items()}


def row(rig: Rig, what: str, phases: list[Phase]) -> Row:
    """The figures of some phases, as of now: times are medians of the phases', what has a bound is the highest."""
    delivered, end_ns = rig.delivered(), time.monotonic_ns()
    messages = [message for phase in phases for message in phase.messages]
    spreads = [
        overload_rig.spread(overload_rig.latencies_ms(phase.messages, delivered, end_ns)) for phase in phases
    ]
    return {
        "server": rig.name,
        "what": what,
        "messages": len(messages),
        "receipts": sum(len(phase.receipts) for phase in phases),
        **{name: round(statistics.median(one[name] for one in spreads), 1) for name in spreads[0]},
        "p99_ms_rounds": [one["p99_ms"] for one in spreads],
        "not_arrived": overload_rig.unsettled(messages, delivered),
        "cpu_wait_ms": round(sum(phase.cpu_wait_ms for phase in phases)),
        "slowest_commit_ms": max(phase.slowest_commit_ms or 0.0 for phase in phases),
        "callback_queue_max": max(phase.queue_max for phase in phases),
        "callback_queue_rounds": [phase.queue_max for phase in phases],
    }


async def kept(rig: Rig, phases: list[Phase]) -> Row:
    """What became of everything: outcomes in the gateway's books, and its answers to questions about receipts."""
    metrics = await rig.metrics()
    receipts = [receipt for phase in phases for receipt in phase.receipts]
    ids = sorted({receipt.id for receipt in receipts})
    known = await rig.receipts(ids)
    return {
        "receipts": len(receipts),
        "accepted": int(metrics.total("gateway_accepted_total", {"kind": "delivered"})),
        "outcomes": metrics.by("outcome", "gateway_outcome_total", {"kind": "delivered"}),
        "dropped": metrics.by("reason", "gateway_receipts_dropped_total"),
        "waiting": int(metrics.total("gateway_waiting")),
        "difference": int(metrics.total("gateway_conservation_difference")),
        "known_when_asked": sum(known.values()),
        "requests_to_backend": int(metrics.total("gateway_forwards_total")),
        "refused_callbacks": dict(rig.load.reasons),
    }


def is_all_kept(books: Row) -> bool:
    counts = {
        books["receipts"],
        books["accepted"],
        books["known_when_asked"],
        int(sum(books["outcomes"].values())),
    }
    return len(counts) == 1 and not books["waiting"] and not books["difference"]


async def measure_gateway(scenario: Scenario, options: argparse.Namespace, rng: random.Random) -> Row:
    """Quiet, one storm and ten of them, in turns."""
    quiet: list[Phase] = []
    single: list[Phase] = []
    tens: list[Phase] = []
    drained_s: list[float] = []
    backend = BenchBackend(scenario.latency_s)
    async with overload_rig.running(
        GATEWAY, backend, connections=options.connections, workers=scenario.workers
    ) as rig:
        warm = await Phase(rig, scenario.warm_s, 1, rng).play()
        await rig.drain(DRAIN_S)
        start = row(rig, "start", [warm])
        for _ in range(min(options.rounds, scenario.rounds_max)):
            quiet.append(await Phase(rig, options.quiet, 0, rng).play())
            single.append(await Phase(rig, 1 + AFTER_S, 1, rng).play())
            tens.append(await Phase(rig, options.storms + AFTER_S, options.storms, rng).play())
            drained_s.append(round(await rig.drain(DRAIN_S), 1))
        return {
            "rows": [
                row(rig, "quiet", quiet),
                row(rig, "one storm", single),
                row(rig, f"{options.storms} storms", tens),
            ],
            "start": start,
            "kept": await kept(rig, [warm, *single, *tens]),
            "drained_s": drained_s,
        }


async def measure_peer(
    name: str, scenario: Scenario, options: argparse.Namespace, rng: random.Random
) -> list[Row]:
    """The same in the same order, once each."""
    backend = BenchBackend(scenario.latency_s)
    async with overload_rig.running(
        name, backend, connections=options.connections, workers=scenario.workers
    ) as rig:
        quiet = await Phase(rig, options.quiet, 0, rng).play()
        await rig.drain(2 * scenario.latency_s + 1)
        rows = [row(rig, "quiet", [quiet])]
        single = await Phase(rig, 1 + AFTER_S, 1, rng).play()
        await rig.drain(PEERS_TAIL_S)
        rows.append(row(rig, "one storm", [single]))
        ten = await Phase(rig, options.storms + AFTER_S, options.storms, rng).play()
        await rig.drain(PEERS_TAIL_S)
        return [*rows, row(rig, f"{options.storms} storms", [ten])]


async def measure_down(options: argparse.Namespace, rng: random.Random) -> Row:
    """A gateway without storms, one with ten and a FIFO with ten, side by side: their storms come one after the other."""
    async with AsyncExitStack() as stack:
        rigs = [
            await stack.enter_async_context(
                overload_rig.running(
                    name, BenchBackend(SCENARIOS["fast"].latency_s), connections=options.connections
                )
            )
            for name in (GATEWAY, GATEWAY, ACK_FIRST)
        ]
        seconds = DOWN_AT_S + options.down + AFTER_S
        step_s = max(0.0, options.down - options.storms) / 2
        phases = [
            Phase(rig, seconds, storms, rng, storms_at_s=DOWN_AT_S + at * step_s)
            for rig, storms, at in zip(rigs, (0, options.storms, options.storms), (0, 0.1, 1), strict=True)
        ]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_outage([rig.backend for rig in rigs], options.down))
            for phase in phases:
                tasks.create_task(phase.play())
        drained = await asyncio.gather(*(rig.drain(DRAIN_S) for rig in rigs))
        quiet, stormy, peer = rigs
        return {
            "rows": [
                row(quiet, "quiet", [phases[0]]),
                row(stormy, f"{options.storms} storms", [phases[1]]),
                row(peer, f"{options.storms} storms", [phases[2]]),
            ],
            "kept": await kept(stormy, [phases[1]]),
            "drained_s": [round(drained[1], 1)],
        }


async def _outage(backends: Sequence[BenchBackend], seconds: float) -> None:
    await asyncio.sleep(LEAD_S + DOWN_AT_S)
    for backend in backends:
        await backend.begin_outage("close")
    await asyncio.sleep(seconds)
    for backend in backends:
        await backend.end_outage()


async def measure(options: argparse.Namespace) -> dict[str, Row]:
    """All scenarios asked for, one after the other."""
    overload_rig.pin_load()
    rng = random.Random(options.seed)
    results = {}
    for name in options.scenarios:
        if name == DOWN:
            results[name] = await measure_down(options, rng)
            continue
        results[name] = await measure_gateway(SCENARIOS[name], options, rng)
        for peer in options.peers if SCENARIOS[name].has_peers else ():
            results[name]["rows"] += await measure_peer(peer, SCENARIOS[name], options, rng)
    return results


def judge(name: str, result: Row) -> list[str]:
    """The targets of one scenario, and whether they are met."""
    ours = [entry for entry in result["rows"] if entry["server"] == GATEWAY]
    base_ms = ours[0]["p99_ms"]
    bound_ms = FACTOR * base_ms + EXTRA_MS
    lines = []
    for entry in ours[1:]:
        is_met = entry["p99_ms"] <= bound_ms
        lines.append(
            _line(is_met, f"{name}, {entry['what']}: p99 {entry['p99_ms']:,} ms, at most {bound_ms:,.1f} ms")
        )
    longest = max(entry["callback_queue_max"] for entry in ours)
    lines.append(_line(longest <= QUEUE_TARGET, f"{name}: callback queue {longest}, at most {QUEUE_TARGET}"))
    missing = sum(entry["not_arrived"] for entry in ours)
    is_kept = is_all_kept(result["kept"]) and not missing
    outcomes = ", ".join(
        f"{count:,.0f} {outcome}" for outcome, count in result["kept"]["outcomes"].items() if count
    )
    dropped = ", ".join(
        f"{count:,.0f} {reason}" for reason, count in result["kept"]["dropped"].items() if count
    )
    said = f"{missing} messages missing, receipts {outcomes} (of these for themselves all but {dropped or 'none'})"
    lines.append(_line(is_kept, f"{name}: nothing lost: {said}"))
    return lines


def _line(is_met: bool, text: str) -> str:
    return f"{'met   ' if is_met else 'MISSED'} {text}"


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        record.headline(result),
        f"server on core {result['cores']['server']}, node and backend on {result['cores']['node and backend']}",
        f"{result['connections']} connections of the node; load at the end: {result['load_1min_at_end']}",
    ]
    for name, scenario in result["scenarios"].items():
        lines.append(
            f"\n{name:22}{'':14}{'messages':>9}{'receipts':>10}{'p50 ms':>11}{'p99 ms':>11}{'max ms':>11}"
            f"{'callback queue':>16}{'not arrived':>13}{'waited for CPU ms':>19}{'slowest commit ms':>19}"
        )
        for entry in scenario["rows"]:
            mark = "+" if entry["not_arrived"] else " "
            lines.append(
                f"{entry['server']:22}{entry['what']:14}{entry['messages']:9,}{entry['receipts']:10,}"
                f"{entry['p50_ms']:10,.1f} {entry['p99_ms']:10,.1f}{mark}{entry['max_ms']:10,.1f}{mark}"
                f"{entry['callback_queue_max']:15,}{entry['not_arrived']:13,}{entry['cpu_wait_ms']:19,}"
                f"{entry['slowest_commit_ms'] or '':>19}"
            )
        lines += judge(name, scenario)
        if "start" in scenario:
            start = scenario["start"]
            lines.append(
                f"       {name}, first {SCENARIOS[name].warm_s:g} s after the start, while the limit of requests is found: "
                f"p99 {start['p99_ms']:,} ms"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*SCENARIOS, DOWN]
    parser.add_argument("--scenarios", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument(
        "--peers", nargs="*", default=[ACK_FIRST, FORWARD_FIRST], choices=list(overload_rig.PEERS)
    )
    parser.add_argument("--rounds", type=int, default=3, help="quiet and one storm, in turns (default 3)")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds of quiet (default 10)")
    parser.add_argument("--storms", type=int, default=10, help="back to back (default 10)")
    parser.add_argument("--down", type=float, default=60.0, help="seconds without backend (default 60)")
    parser.add_argument(
        "--connections", type=int, default=24, help="of the node: 6, 12, 18 or 24 (default 24)"
    )
    parser.add_argument("--seed", type=int, default=1)
    record.add_option(parser)
    options = parser.parse_args()
    result: dict[str, Any] = {
        **overload_rig.about(),
        "connections": options.connections,
        "seed": options.seed,
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result["scenarios"] = runner.run(measure(options))
    result["load_1min_at_end"] = round(os.getloadavg()[0], 2)
    print(report(result))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

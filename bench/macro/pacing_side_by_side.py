"""Real gateways beside each other over HTTP: what incoming messages wait at the number, and what is lost.

For each plan of N TPS three simulated numbers run at the same time, each with a node, a backend that does not answer,
and a real `wa-gateway run` that differs from the others by its environment alone:

- naive: N sends a second, and nothing else counts;
- debit: the budget, without the fan-out window: groups go like anyone else;
- gateway: the defaults.

All get the workload of `pacing_study.py` with the same seed, now in real time: customers write at the same moments,
once a second on average (Poisson), to all of them; bulk sends to single customers never run out; after --storm minutes
ten bulk sends to ten groups of 256 come in. Receipts are drawn per number, from the same seed.

Counted at the node, in three spans: the campaign (from the first minute on, to the storm), the storm (to the end),
and the whole run from the first minute on:

- used: events that the number served, of N a second;
- p50, p99, max: wait of incoming messages between being written and being served, of those that were served, in s;
- model: p99 of the same policy in the same span of the same workload, in virtual time;
- oldest: how long the event at the head of the number's queue has waited when the run ends, in s;
- queue: events in it then; it holds 10,000, which is the simulator's assumption;
- lost: incoming messages that found it full; refused: sends that did;
- worst: most events in a second that ends with a send, of N, in the books of the gateway: of what its policy counts;
- at node: the same, of all kinds, counted there (`gateway.sim.rate`). The nodes share a process, and while it stands
  still (the longest: stall, in ms) sends and events pile up that nobody could know of: they count as one moment;
- groups: group sends that left; last: when the last did, s after the storm began; singles: other sends between
  the first and the last of them; silence: the longest time without one, in s.

p99/2h is what p99 would be over two hours of which this storm is a part and the rest is like the campaign before it:
what the study measures. A storm alone has p99 near its peaks, one after each group.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import record
import uvloop
from pacing_study import POLICIES
from processes import ServerProcess

from gateway.clock import NS_PER_S
from gateway.events import Kind
from gateway.sim.backend import SimBackend
from gateway.sim.exposition import Exposition
from gateway.sim.node import SimNode
from gateway.sim.pacing import PacingReport, PacingRun
from gateway.sim.rate import worst_second_at_a_send
from gateway.sim.workload import GROUP_MEMBERS, Workload, campaign

ENVIRONMENTS: Final[dict[str, dict[str, str]]] = {
    "naive": {
        "TPS_COST": "receive=0,send=1,delivered=0,read=0",
        "TPS_HEADROOM": "0%",
        "FANOUT_WINDOW": "0s",
    },
    "debit": {"FANOUT_WINDOW": "0s"},
    "gateway": {},
}
assert list(ENVIRONMENTS) == list(POLICIES), "each real gateway has its twin in the model"
GROUPS: Final = 10
FIRST_MINUTE_S: Final = 60.0
AHEAD: Final = 20
"""Campaign sends that wait in the gateway: a second of the fastest, so that work never runs out between two looks."""
LOOK_S: Final = 0.2
LISTEN_S: Final = 0.02
"""Between two looks at whether this process stands still."""
TOKEN: Final = "a-token-of-the-benchmark"
PACKAGES: Final = ("uvloop", "aiohttp")
STUDY_MESSAGES: Final = 2 * 3600 - 60
"""What customers write in two hours, less the first minute."""

USED_MIN_PERCENT: Final = 95
CAMPAIGN_P99_MAX_S: Final = 1.2
STORM_P99_MAX_S: Final = {10: 18.0, 20: 7.0}

Row = dict[str, Any]
Waits = list[tuple[float, float]]
"""(written, waited) of messages that were served, in s."""


class Number:
    """One number with its node, its gateway and its backend. `running` it once."""

    def __init__(self, tps: int, policy: str, seed: int, directory: Path) -> None:
        self.tps = tps
        self.policy = policy
        self.node = SimNode(tps=tps, seed=seed, user="admin", password="bench")
        self._backend = SimBackend(seed=seed, mode="silent", push_token=TOKEN)
        self._directory = directory
        self._accepted = 0
        self._served: dict[float, int] = {}
        """Events served by the number, at the moments of `mark`."""
        self._begin_ns = 0
        self._metrics_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._backend.running(), self.node:
            self._directory.mkdir()
            gateway = ServerProcess.gateway(
                self._directory,
                -1,
                TPS=str(self.tps),
                NODE_URL=self.node.url,
                NODE_USER="admin",
                NODE_PASSWORD="bench",  # the node is simulated
                MESSAGE_WEBHOOK_URL=self._backend.message_url,
                EVENT_WEBHOOK_URL=self._backend.event_url,
                PUSH_TOKENS=TOKEN,
                LOG_LEVEL="warning",
                **ENVIRONMENTS[self.policy],
            )
            try:
                await asyncio.to_thread(gateway.wait_ready)
                self.node.set_webhook(gateway.url + "/webhook")
                self._backend.gateway_url = gateway.url
                self._metrics_url = gateway.admin_url + "/metrics"
                yield
            finally:
                await asyncio.to_thread(gateway.stop)

    def begin(self, now_ns: int) -> None:
        """Second zero."""
        self._begin_ns = now_ns

    def mark(self, at_s: float) -> None:
        """Note what the number has served so far."""
        self._served[at_s] = sum(self.node.number.statistics().served.values())

    async def feed(self) -> None:
        """The endless campaign: AHEAD sends always wait, until cancelled."""
        for number in itertools.count():
            while self._accepted - len(self.node.journal.sends) >= AHEAD:
                await asyncio.sleep(LOOK_S)
            await self._push(str(15550110000 + number % 10_000), f"campaign {number}", is_group=False)

    async def storm(self) -> None:
        """Ten messages to ten full groups."""
        for number in range(GROUPS):
            group = self.node.create_group(GROUP_MEMBERS, f"group {number}")
            await self._push(group, f"group {number}", is_group=True)

    async def _push(self, to: str, text: str, *, is_group: bool) -> None:
        pushed = await self._backend.push(to, text, priority="bulk", is_group=is_group)
        if not pushed.is_accepted:
            raise RuntimeError(f"a push to {self.policy} at {self.tps} TPS was answered {pushed.status}")
        self._accepted += 1

    async def worst_in_books(self) -> int:
        """Most that the gateway has counted in one second in which it let a send go."""
        async with aiohttp.ClientSession() as session, session.get(self._metrics_url) as answer:
            return round(Exposition(await answer.text()).total("gateway_tps_window_max"))

    def waits(self) -> Waits:
        return [
            (
                (callback.made_ns - self._begin_ns) / NS_PER_S,
                (callback.served_ns - callback.made_ns) / NS_PER_S,
            )
            for callback in self.node.journal.callbacks
            if callback.kind is Kind.MESSAGE
        ]

    def used(self, begin_s: float, end_s: float) -> float:
        return (self._served[end_s] - self._served[begin_s]) / (self.tps * (end_s - begin_s))

    def sends_s(self, *, of_groups: bool) -> list[float]:
        """When sends to groups, or all others, reached the node."""
        return [
            (entry.at_ns - self._begin_ns) / NS_PER_S
            for entry in self.node.journal.sends
            if (entry.members > 1) is of_groups
        ]


def quantiles(waits: list[float]) -> dict[str, float | None]:
    """p50, p99 and max."""
    if not waits:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(waits)
    ends = {"p50": record.percentile(ordered, 50), "p99": record.percentile(ordered, 99), "max": ordered[-1]}
    return {name: round(wait_s, 3) for name, wait_s in ends.items()}


def p99_of_two_hours(calm: list[float], storm: list[float]) -> float | None:
    """p99 when the messages of `storm` are among those of two hours, and the rest waited like `calm`."""
    if not calm:
        return None
    calm_weight = max(0, STUDY_MESSAGES - len(storm)) / len(calm)
    weighted = sorted([(wait, 1.0) for wait in storm] + [(wait, calm_weight) for wait in calm], reverse=True)
    beyond = 0.01 * sum(weight for _, weight in weighted)
    for wait, weight in weighted:
        beyond -= weight
        if beyond < 0:
            return round(wait, 3)
    raise AssertionError("the last one is not beyond p99")


async def report(number: Number, model: PacingReport, storm_s: float, end_s: float) -> Row:
    """What one number's run came to."""
    waits = number.waits()
    spans = {"campaign": (FIRST_MINUTE_S, storm_s), "storm": (storm_s, end_s), "run": (FIRST_MINUTE_S, end_s)}
    by_span = {
        name: [wait for written_s, wait in waits if begin_s <= written_s < span_end_s]
        for name, (begin_s, span_end_s) in spans.items()
    }
    groups_s, singles_s = number.sends_s(of_groups=True), number.sends_s(of_groups=False)
    between = [at_s for at_s in singles_s if groups_s and groups_s[0] <= at_s <= groups_s[-1]]
    statistics = number.node.number.statistics()
    return {
        "tps": number.tps,
        "policy": number.policy,
        "spans": {
            name: {
                "used": round(number.used(*spans[name]), 4),
                "messages": len(by_span[name]),
                **quantiles(by_span[name]),
                "model_p99": round(model.wait_s(0.99, *spans[name]), 3) or None,
            }
            for name in spans
        },
        # A queue that never drains has no calm to come back to.
        "p99_of_two_hours": None
        if number.policy == "naive"
        else p99_of_two_hours(by_span["campaign"], by_span["storm"]),
        "oldest_s": round(statistics.oldest_wait_ns / NS_PER_S, 1),
        "queue": statistics.backlog,
        "lost_messages": statistics.lost_messages,
        "lost_receipts": statistics.lost_receipts,
        "refused_sends": statistics.refused_sends,
        "refusals": dict(number.node.journal.refusals),
        "callbacks_not_200": len(number.node.journal.bad_attempts),
        "worst_in_books": await number.worst_in_books(),
        "worst_second": worst_second_at_a_send(number.node.journal),
        "sends": len(singles_s) + len(groups_s),
        "groups": len(groups_s),
        "last_group_s": round(groups_s[-1] - storm_s, 1) if groups_s else None,
        "singles_between_groups": len(between),
        "longest_silence_s": round(max((b - a for a, b in itertools.pairwise(between)), default=0.0), 1),
    }


async def play(numbers: list[Number], workload: Workload, storm_s: float, end_s: float) -> float:
    """The workload on all numbers, in real time. The longest stall of this process, in s."""
    begin_ns = time.monotonic_ns()
    stall_s = 0.0

    async def until(at_s: float) -> None:
        await asyncio.sleep(at_s - (time.monotonic_ns() - begin_ns) / NS_PER_S)

    async def write() -> None:
        for message, at_ns in enumerate(workload.writes_ns):
            await until(at_ns / NS_PER_S)
            for number in numbers:
                number.node.receive_text(str(15550100100 + message % 100), f"message {message}")

    async def storm() -> None:
        await until(storm_s)
        for number in numbers:
            await number.storm()

    async def watch_stalls() -> None:
        nonlocal stall_s
        while True:
            due_s = time.monotonic() + LISTEN_S
            await asyncio.sleep(LISTEN_S)
            stall_s = max(stall_s, time.monotonic() - due_s)

    async def tell() -> None:
        for minute in itertools.count(1):
            await until(minute * 60)
            queues = (f"{n.tps} {n.policy} {n.node.number.statistics().backlog}" for n in numbers)
            print(f"minute {minute}, events in the queue: {', '.join(queues)}", flush=True)

    for number in numbers:
        number.begin(begin_ns)
    async with asyncio.TaskGroup() as tasks:
        traffic = [tasks.create_task(part) for part in (write(), storm(), tell(), watch_stalls())]
        traffic += [tasks.create_task(number.feed()) for number in numbers]
        for at_s in (FIRST_MINUTE_S, storm_s, end_s):
            await until(at_s)
            for number in numbers:
                number.mark(at_s)
        for task in traffic:
            task.cancel()
    return stall_s


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers side by side."""
    storm_s, end_s = options.storm * 60, options.minutes * 60
    workload = campaign(options.seed, options.minutes, groups=GROUPS, storm_at_s=storm_s)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="wa-gateway-bench-")))
        numbers = [
            Number(tps, policy, options.seed, directory / f"{tps}-{policy}")
            for tps in options.tps
            for policy in ENVIRONMENTS
        ]
        for number in numbers:
            await stack.enter_async_context(number.running())
        stall_s = await play(numbers, workload, storm_s, end_s)
        rows = []
        for number in numbers:
            model = PacingRun(number.tps, options.seed, workload, POLICIES[number.policy]).play()
            rows.append(await report(number, model, storm_s, end_s))
        return {"stall_ms": round(stall_s * 1_000, 1), "numbers": rows}


def misses(rows: list[Row]) -> list[str]:
    """Every target that the gateway did not meet."""
    found: list[str] = []
    for row in rows:
        if row["policy"] != "gateway":
            continue
        calm, name = row["spans"]["campaign"], f"N={row['tps']}"
        if round(100 * calm["used"]) < USED_MIN_PERCENT:
            found.append(f"{name}: used {calm['used']:.1%} in the campaign")
        if calm["p99"] is None or calm["p99"] >= CAMPAIGN_P99_MAX_S:
            found.append(f"{name}: p99 {calm['p99']} s in the campaign")
        p99_s, limit_s = row["p99_of_two_hours"], STORM_P99_MAX_S.get(row["tps"])
        if limit_s and (p99_s is None or p99_s >= limit_s):
            found.append(f"{name}: p99 {p99_s} s of two hours with the storm")
        if row["lost_messages"] or row["refused_sends"]:
            found.append(f"{name}: {row['lost_messages']} lost, {row['refused_sends']} refused")
        if row["groups"] < GROUPS:
            found.append(f"{name}: {row['groups']} of {GROUPS} group sends left")
        if row["worst_in_books"] > row["tps"]:
            found.append(f"{name}: worst second in the books {row['worst_in_books']}")
    return found


def show(rows: list[Row]) -> str:
    """The tables people read."""

    def cell(value: float | None, width: int = 9) -> str:
        return f"{'-':>{width}}" if value is None else f"{value:{width}.2f}"

    lines = []
    for span in ("campaign", "storm", "run"):
        lines.append(
            f"\n{span:10}{'N':>4}  {'used':>7}{'messages':>10}{'p50':>9}{'p99':>9}{'max':>9}{'model':>9}"
        )
        for row in rows:
            part = row["spans"][span]
            waits = "".join(cell(part[name]) for name in ("p50", "p99", "max", "model_p99"))
            lines.append(
                f"{row['policy']:10}{row['tps']:>4}  {part['used']:7.1%}{part['messages']:10}{waits}"
            )
    lines.append(
        f"\n{'at the end':10}{'N':>4}{'p99/2h':>9}{'oldest':>9}{'queue':>7}{'lost':>6}{'refused':>9}{'worst':>7}{'at node':>9}"
        f"{'groups':>8}{'last':>8}{'singles':>9}{'silence':>9}"
    )
    lines += [
        f"{row['policy']:10}{row['tps']:>4}{cell(row['p99_of_two_hours'])}{row['oldest_s']:9.1f}{row['queue']:7}"
        f"{row['lost_messages']:6}{row['refused_sends']:9}{row['worst_in_books']:7}{row['worst_second']:9}{row['groups']:8}"
        f"{cell(row['last_group_s'], 8)}{row['singles_between_groups']:9}{row['longest_silence_s']:9.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="real minutes of the run (default 20)")
    parser.add_argument("--storm", type=float, default=5.0, help="minute of the group sends (default 5)")
    parser.add_argument("--tps", type=int, nargs="+", default=[10, 20], metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    record.add_option(parser)
    options = parser.parse_args()
    if not 1 < options.storm < options.minutes:
        sys.exit("--storm must be after the first minute and before the end")
    result = {
        **record.about(*PACKAGES),
        "seed": options.seed,
        "minutes": options.minutes,
        "storm": options.storm,
    }
    print(record.headline(result), flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result |= runner.run(measure(options))
    print(show(result["numbers"]) + f"\nstall: {result['stall_ms']} ms")
    result["missed"] = misses(result["numbers"])
    print("\ntargets: " + ("; ".join(result["missed"]) + " MISSED" if result["missed"] else "all met"))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

"""One run: node, backend and a real gateway process, a scenario played on them, and the facts it leaves."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import aiohttp

from gateway.clock import NS_PER_S, Clock, SystemClock
from gateway.sim.backend import SimBackend
from gateway.sim.child import GatewayChild
from gateway.sim.facts import Facts, Span
from gateway.sim.node import SimNode
from gateway.sim.play import Player
from gateway.sim.serving import HOST
from gateway.sim.traffic import Scenario
from gateway.sim.watch import Watch

PUSH_TOKEN: Final = "token-of-the-simulated-backend"  # noqa: S105 (it opens nothing)
USER: Final = "admin"
PASSWORD: Final = "secret-of-the-sim"  # noqa: S105
SETTLE_POLL_S: Final = 0.1
STALL_LOOK_S: Final = 0.01
CRASH_AT: Final = 0.4
"""Where in the storm the gateway is killed: in the middle of the receipts, with sends waiting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    scenario: Scenario
    tps: int
    seed: int
    state_dir: Path
    gateway_env: Mapping[str, str] = field(default_factory=dict)
    """Set over the environment the run makes: to break a promise on purpose, or to try a setting."""
    is_crashing: bool = False
    """Kill the gateway in mid-storm and start it again on the same store."""


class Run:
    """Holds the parts while they live. StartError when the gateway does not start."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self._plan = plan
        self._out = out
        self._clock = SystemClock()
        self._node = SimNode(
            tps=plan.tps, seed=plan.seed, user=USER, password=PASSWORD, receipts=plan.scenario.receipts
        )
        self._gateway_url, self._admin_url = (f"http://{HOST}:{port}" for port in free_ports(2))
        self._backend = SimBackend(seed=plan.seed, gateway_url=self._gateway_url, push_token=PUSH_TOKEN)
        self._facts = Facts(plan.tps, self._node.journal, self._backend.ledger)

    async def facts(self) -> Facts:
        """Play the scenario from start to stop, and hand over what is left."""
        begin_ns = self._clock.now_ns()
        timeout = aiohttp.ClientTimeout(total=5)
        async with self._backend.running(), self._node, aiohttp.ClientSession(timeout=timeout) as session:
            child = GatewayChild(
                self._environment() | dict(self._plan.gateway_env),
                self._admin_url + "/readyz",
                self._plan.state_dir / "gateway.log",
            )
            try:
                await child.start(session)
                self._node.set_webhook(self._gateway_url + "/webhook")
                async with _noting_stalls(self._facts, self._clock):
                    await self._play(child, session)
                self._facts.exit_codes.append(await child.stop())
            finally:
                if child.is_running:
                    await child.stop()
        self._facts.lost_messages = self._node.number.statistics().lost_messages
        self._facts.wall_s = (self._clock.now_ns() - begin_ns) / NS_PER_S
        return self._facts

    def _environment(self) -> dict[str, str]:
        return {
            "GATEWAY_LISTEN": self._gateway_url.removeprefix("http://"),
            "GATEWAY_ADMIN_LISTEN": self._admin_url.removeprefix("http://"),
            "GATEWAY_TPS": str(self._plan.tps),
            "GATEWAY_NODE_URL": self._node.url,
            "GATEWAY_NODE_USER": USER,
            "GATEWAY_NODE_PASSWORD": PASSWORD,
            "GATEWAY_MESSAGE_WEBHOOK_URL": self._backend.message_url,
            "GATEWAY_EVENT_WEBHOOK_URL": self._backend.event_url,
            "GATEWAY_PUSH_TOKENS": PUSH_TOKEN,
            "GATEWAY_STORE_PATH": str(self._plan.state_dir / "store"),
        }

    async def _play(self, child: GatewayChild, session: aiohttp.ClientSession) -> None:
        scenario = self._plan.scenario
        player = Player(scenario, self._node, self._backend, self._clock, seed=self._plan.seed)
        watch = Watch(session, self._admin_url + "/metrics", self._node, self._clock, self._out)
        async with _watching(watch, player):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(player.play(), name="scenario")
                if self._plan.is_crashing:
                    tasks.create_task(self._crash(child, session), name="crash")
            self._facts.phases, self._facts.outages = player.phases, player.outages
            await self._settle(watch)
        await self._end(watch, session)

    async def _crash(self, child: GatewayChild, session: aiohttp.ClientSession) -> None:
        """Kill in mid-storm (or half way, where there is none) and start again on the same store."""
        phases = {phase.name: phase for phase in self._plan.scenario.phases}
        phase = phases.get("storm", self._plan.scenario.phases[0])
        await asyncio.sleep(phase.begin_s + CRASH_AT * (phase.end_s - phase.begin_s))
        begin_ns = self._clock.now_ns()
        await child.kill()
        await child.start(session)
        self._facts.restarts.append(Span(begin_ns, self._clock.now_ns()))

    async def _settle(self, watch: Watch) -> None:
        """Until nothing waits anywhere, `settle_s` of the scenario at most."""
        deadline_ns = self._clock.now_ns() + int(self._plan.scenario.settle_s * NS_PER_S)
        while self._clock.now_ns() < deadline_ns:
            metrics = await watch.sample()
            is_idle_gateway = metrics is not None and metrics.total("gateway_waiting") == 0
            if is_idle_gateway and self._is_node_idle() and self._node.number.statistics().backlog == 0:
                return
            await asyncio.sleep(SETTLE_POLL_S)

    def _is_node_idle(self) -> bool:
        return not self._node.coreapp.in_flight and not len(self._node.coreapp.queue)

    async def _end(self, watch: Watch, session: aiohttp.ClientSession) -> None:
        """Stop the callbacks first, so that none meets a closing gateway; then take the last sample."""
        self._node.set_webhook("")
        for _ in range(100):
            if not self._node.coreapp.in_flight:
                break
            await asyncio.sleep(SETTLE_POLL_S)
        for _ in range(10):
            metrics = await watch.sample()
            if metrics is not None and metrics.total("gateway_waiting") == 0:
                break
            await asyncio.sleep(SETTLE_POLL_S)
        self._facts.samples = watch.samples
        await self._ask_states(session)

    async def _ask_states(self, session: aiohttp.ClientSession) -> None:
        """What the gateway says of accepted pushes that the node never saw."""
        at_node = {entry.text for entry in self._node.journal.sends}
        headers = {"Authorization": f"Bearer {PUSH_TOKEN}"}
        for push in self._backend.ledger.pushes:
            if push.is_accepted and push.text not in at_node:
                url = f"{self._gateway_url}/v1/messages/{push.id}"
                async with session.get(url, headers=headers) as response:
                    body = await response.json(content_type=None) if response.status == 200 else {}
                    self._facts.push_states[push.id] = str(body.get("state", ""))


@asynccontextmanager
async def _watching(watch: Watch, player: Player) -> AsyncIterator[None]:
    """Progress beside the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run(player.phase_name), name="progress")
        yield
        task.cancel()
    watch.end_line()


@asynccontextmanager
async def _noting_stalls(facts: Facts, clock: Clock) -> AsyncIterator[None]:
    """Note how long this process stands still at most, while the block runs."""

    async def watch() -> None:
        while True:
            begin_ns = clock.now_ns()
            await asyncio.sleep(STALL_LOOK_S)
            facts.stall_ns = max(facts.stall_ns, clock.now_ns() - begin_ns - int(STALL_LOOK_S * NS_PER_S))

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch(), name="stalls")
        yield
        task.cancel()


def free_ports(count: int) -> list[int]:
    """Ports below the ephemeral range that are free now.

    Below it, so that nothing that connects takes one while the gateway is down: a connect to a dead
    ephemeral port can even meet itself. If another process listens there before us, the start shows it.
    """
    found: set[int] = set()
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        if port not in found and _is_free(port):
            found.add(port)
        if len(found) == count:
            return list(found)
    raise OSError(f"no {count} free ports between 20000 and 32000")


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True

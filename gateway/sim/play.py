"""Plays a scenario on a node and a backend in real time."""

import asyncio
from typing import Final

from gateway.clock import NS_PER_S, Clock
from gateway.sim.backend import SimBackend
from gateway.sim.facts import Span
from gateway.sim.node import SimNode
from gateway.sim.timeline import (
    BackendBehaviour,
    BackendSwitch,
    ExpireTokens,
    FaultSwitch,
    MessageIn,
    PushOut,
    Step,
    timeline,
)
from gateway.sim.traffic import Scenario

PUSHES_IN_FLIGHT: Final = 32
"""Calls of the push API at once: a burst is a loop of a few clients, not a thousand sockets."""


class Player:
    """One run of a scenario; `begin_ns` is its second zero."""

    def __init__(
        self, scenario: Scenario, node: SimNode, backend: SimBackend, clock: Clock, *, seed: int
    ) -> None:
        self._scenario = scenario
        self._node = node
        self._backend = backend
        self._clock = clock
        self._steps = timeline(scenario, seed)
        self._groups: dict[tuple[int, int], str] = {}
        self._slots = asyncio.Semaphore(PUSHES_IN_FLIGHT)
        self.begin_ns = clock.now_ns()
        self.outages: list[Span] = []

    @property
    def phases(self) -> dict[str, Span]:
        """The phases in the clock's time."""
        return {
            phase.name: Span(self._at_ns(phase.begin_s), self._at_ns(phase.end_s))
            for phase in self._scenario.phases
        }

    def phase_name(self, now_ns: int) -> str:
        """The phase that `now_ns` is in; `settling` after the last."""
        return next((name for name, span in self.phases.items() if now_ns < span.end_ns), "settling")

    async def play(self) -> None:
        """All steps at their seconds, then the rest of the last phase."""
        self.begin_ns = self._clock.now_ns()
        async with asyncio.TaskGroup() as tasks:
            for at_s, step in self._steps:
                await self._sleep_until(self._at_ns(at_s))
                if isinstance(step, PushOut):
                    tasks.create_task(self._push(step), name="sim push")
                else:
                    await self._do(step)
            await self._sleep_until(self._at_ns(self._scenario.length_s))

    async def _do(self, step: Step) -> None:
        match step:
            case MessageIn():
                self._node.receive_text(step.contact, step.text)
            case FaultSwitch():
                self._node.faults.set(step.switch, step.value)
            case BackendBehaviour():
                self._backend.latency_s, self._backend.error_ratio = step.latency_s, step.error_ratio
            case ExpireTokens():
                self._node.expire_tokens()
            case BackendSwitch(outage=None):
                await self._backend.end_outage()
                self.outages[-1] = Span(self.outages[-1].begin_ns, self._clock.now_ns())
            case BackendSwitch(outage=how) if how is not None:
                await self._backend.begin_outage(how)
                self.outages.append(Span(self._clock.now_ns(), 1 << 62))

    async def _push(self, step: PushOut) -> None:
        is_group = step.members > 0
        to = self._group(step) if is_group else step.to
        async with self._slots:
            await self._backend.push(to, step.text, priority=step.priority, is_group=is_group)

    def _group(self, step: PushOut) -> str:
        """The group of that index and size, made at its first use."""
        key = (step.group, step.members)
        if key not in self._groups:
            self._groups[key] = self._node.create_group(step.members, f"storm {step.group}")
        return self._groups[key]

    def _at_ns(self, at_s: float) -> int:
        return self.begin_ns + int(at_s * NS_PER_S)

    async def _sleep_until(self, due_ns: int) -> None:
        await asyncio.sleep(max(0.0, (due_ns - self._clock.now_ns()) / NS_PER_S))

"""A scenario drawn into single steps with a seeded generator.

The same scenario, seed and TPS always give the same traffic; how fast it is answered is up to the run.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.sim.backend import Outage
from gateway.sim.faults import Faults
from gateway.sim.traffic import (
    Action,
    BackendOutage,
    BackendTrouble,
    Burst,
    GroupStorm,
    Inbound,
    NodeFault,
    Pushes,
    Scenario,
    TokenExpiry,
)


@dataclass(frozen=True, slots=True)
class MessageIn:
    contact: str
    text: str


@dataclass(frozen=True, slots=True)
class PushOut:
    """To a contact, or to the group of that index where `members` is not 0."""

    to: str
    group: int
    members: int
    text: str
    priority: str


@dataclass(frozen=True, slots=True)
class BackendSwitch:
    outage: Outage | None
    """None: it is back."""


@dataclass(frozen=True, slots=True)
class BackendBehaviour:
    latency_s: float
    error_ratio: float


@dataclass(frozen=True, slots=True)
class FaultSwitch:
    switch: str
    value: float


@dataclass(frozen=True, slots=True)
class ExpireTokens:
    pass


Step = MessageIn | PushOut | BackendSwitch | BackendBehaviour | FaultSwitch | ExpireTokens

_CONTACT_BASE: Final = 15550100000
_BURST_BASE: Final = 15550150000


def timeline(scenario: Scenario, seed: int) -> list[tuple[float, Step]]:
    """Every step with its second, in order. Each push has its own text, `push 17`, to be found again by."""
    steps: list[tuple[float, Step]] = []
    for index, action in enumerate(scenario.actions):
        steps += _steps(action, random.Random(f"{seed} {scenario.name} {index}"))
    steps.sort(key=lambda step: step[0])
    return [(at_s, _marked(step, n)) for n, (at_s, step) in enumerate(steps)]


def _steps(action: Action, rng: random.Random) -> Iterator[tuple[float, Step]]:
    match action:
        case Inbound():
            for at_s in _poisson(action.begin_s, action.end_s, action.per_s, rng):
                yield at_s, MessageIn(str(_CONTACT_BASE + rng.randrange(action.contacts)), "")
        case Pushes():
            for at_s in _poisson(action.begin_s, action.end_s, action.per_s, rng):
                to = str(_CONTACT_BASE + rng.randrange(action.contacts))
                yield at_s, PushOut(to, 0, 0, "", action.priority)
        case Burst():
            for n in range(action.count):
                yield action.at_s, PushOut(str(_BURST_BASE + n), 0, 0, "", action.priority)
        case GroupStorm():
            for n in range(action.groups):
                yield action.at_s, PushOut("", n, action.members, "", action.priority)
        case BackendOutage():
            yield action.begin_s, BackendSwitch(action.how)
            yield action.end_s, BackendSwitch(None)
        case BackendTrouble():
            yield action.begin_s, BackendBehaviour(action.latency_s, action.error_ratio)
            yield action.end_s, BackendBehaviour(0.0, 0.0)
        case NodeFault():
            yield action.begin_s, FaultSwitch(action.switch, action.value)
            yield action.end_s, FaultSwitch(action.switch, getattr(Faults(), action.switch))
        case TokenExpiry():
            yield action.at_s, ExpireTokens()


def _poisson(begin_s: float, end_s: float, per_s: float, rng: random.Random) -> Iterator[float]:
    at_s = begin_s + rng.expovariate(per_s)
    while at_s < end_s:
        yield at_s
        at_s += rng.expovariate(per_s)


def _marked(step: Step, n: int) -> Step:
    match step:
        case MessageIn(contact=contact):
            return MessageIn(contact, f"question {n}")
        case PushOut():
            return PushOut(step.to, step.group, step.members, f"push {n}", step.priority)
        case _:
            return step

"""What a pacing run is asked to do, as data: who writes when, what the backend pushes, and what goes wrong.

All times are virtual nanoseconds from the start of the run. Every draw comes from a generator handed in, so
one seed makes one workload.
"""

import random
from dataclasses import dataclass, field
from typing import Final

from gateway.clock import NS_PER_S
from gateway.events import SendClass

GROUP_MEMBERS: Final = 256
"""The largest group of the On-Premises API."""


@dataclass(frozen=True, slots=True)
class Push:
    """One message the backend wants sent: to a group of `members`, or to one customer (0)."""

    at_ns: int
    id: str
    cls: SendClass = SendClass.NORMAL
    members: int = 0
    to: str = ""
    """Who gets it; empty: someone, or a group, who gets nothing else."""

    @property
    def recipient(self) -> str:
        return self.to or self.id


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic and trouble of one run, each list in the order of time."""

    length_ns: int
    """Customers write and the campaign goes on until then; pushes that wait are then given time to go."""
    writes_ns: list[int] = field(default_factory=list)
    """When customers write."""
    pushes: list[Push] = field(default_factory=list)
    is_campaign_endless: bool = False
    """Bulk sends to single customers never run out while `length_ns` lasts."""
    pauses_ns: list[tuple[int, int]] = field(default_factory=list)
    """The node is away from one time to the other: it takes no sends and holds its webhooks back."""
    refusals_ns: list[tuple[int, int]] = field(default_factory=list)
    """The node answers every send with 429 from one time to the other."""
    stalls_ns: list[tuple[int, int]] = field(default_factory=list)
    """The gateway's loop stands still from one time to the other; they don't overlap. What comes meanwhile is looked
    at a nanosecond after the end: the pacer may be asked first, and that is the worse order."""
    restarts_ns: list[int] = field(default_factory=list)
    """The gateway starts anew, knowing nothing about what was."""
    plans: list[tuple[int, int]] = field(default_factory=list)
    """(time, TPS): the budget's plan is changed while it runs, never above the number's own."""


def poisson_ns(rng: random.Random, begin_s: float, end_s: float, per_s: float) -> list[int]:
    """Times of a Poisson stream of `per_s` from `begin_s` to `end_s`."""
    if per_s <= 0.0:
        return []
    times: list[int] = []
    at_s = begin_s + rng.expovariate(per_s)
    while at_s < end_s:
        times.append(int(at_s * NS_PER_S))
        at_s += rng.expovariate(per_s)
    return times


def burst(
    at_s: float, count: int, name: str, cls: SendClass = SendClass.BULK, members: int = 0
) -> list[Push]:
    """`count` pushes at one moment."""
    return [Push(int(at_s * NS_PER_S), f"{name}{n}", cls, members) for n in range(count)]


def campaign(seed: int, minutes: float, *, groups: int = 0, storm_at_s: float = 600.0) -> Workload:
    """The design study: one customer a second writes, bulk never ends; `groups` full groups at `storm_at_s`.

    The groups are bulk too, at the head of the queue: what is to be shown is that the campaign goes on beside them.
    """
    rng = random.Random(f"{seed}/campaign")
    return Workload(
        length_ns=int(minutes * 60 * NS_PER_S),
        writes_ns=poisson_ns(rng, 0.0, minutes * 60, 1.0),
        pushes=burst(storm_at_s, groups, "group", members=GROUP_MEMBERS),
        is_campaign_endless=True,
    )


def day(seed: int) -> Workload:
    """24 hours of a shop at 20 TPS: a quiet night, a busy day, two campaigns, a rush, a node that is away.

    Groups are written to while the morning's campaign is under way: six of 256 and thirty small ones.
    Every second message is answered within seconds. About 200,000 events.
    """
    rng = random.Random(f"{seed}/day")
    hour = 3600.0
    writes = poisson_ns(rng, 0.0, 8 * hour, 0.02)
    writes += poisson_ns(rng, 8 * hour, 20 * hour, 1.0)
    writes += poisson_ns(rng, 20 * hour, 24 * hour, 0.2)
    # An announcement on television: two minutes at three quarters of the plan.
    writes += poisson_ns(rng, 18 * hour, 18 * hour + 120, 15.0)
    writes.sort()
    answers = [
        Push(at_ns + int(rng.uniform(0.2, 5.0) * NS_PER_S), f"answer{n}", SendClass.REPLY)
        for n, at_ns in enumerate(writes)
        if rng.random() < 0.5
    ]
    pushes = answers + burst(10 * hour, 20_000, "morning") + burst(16 * hour, 10_000, "afternoon")
    for n in range(6):
        pushes += burst(10.1 * hour + n * 600, 1, f"club{n}-", SendClass.NORMAL, GROUP_MEMBERS)
        pushes += burst(10.1 * hour + n * 600 + 30, 5, f"team{n}-", SendClass.NORMAL, rng.randint(3, 40))
    pushes.sort(key=lambda push: push.at_ns)
    away = (int(13 * hour * NS_PER_S), int((13 * hour + 90) * NS_PER_S))
    return Workload(
        length_ns=int(24 * hour * NS_PER_S),
        writes_ns=writes,
        pushes=pushes,
        pauses_ns=[away],
        restarts_ns=[int(3 * hour * NS_PER_S), int((16 * hour + 600) * NS_PER_S)],
    )

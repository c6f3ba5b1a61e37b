"""Short mixed runs, each drawn whole from one seed, and the invariants that hold in every one of them.

Plans of 10 to 1000 TPS, costs, headroom, receipts, campaigns, groups, floods, restarts, changes of the plan, a node
that is away or says 429, a loop that stands still, send floors and pair limits. `python bench/macro/pacing_study.py --replay SEED` plays one and says what it found.
"""

import random
from dataclasses import dataclass
from typing import Final

from gateway.budget.pairs import PairLimit
from gateway.budget.tps import BURST_MIN_NS, DEBT_MAX_NS, WINDOW_NS
from gateway.clock import NS_PER_S
from gateway.events import SendClass, TpsKind
from gateway.sim import limits
from gateway.sim.pacing import ONE_EACH, MakePolicy, PacingReport, PacingRun
from gateway.sim.policies import Real, VirtualClock
from gateway.sim.receipts import ReceiptModel
from gateway.sim.workload import GROUP_MEMBERS, Push, Workload, burst, poisson_ns

CALM_SHARE: Final = 0.3
"""Of all runs, those in which nothing stands still on purpose: in the others the use of the rate is not promised."""
EVENTS: Final = 2_500
"""Of the plan in one run: enough for four minutes at 10 TPS and little enough for thousands of runs."""
USED_MIN: Final = 0.99
COARSE: Final = 400
"""A plan of fewer times what a send costs beyond one is coarse: of 15 a second, sends of 2 can use but 14."""
GROUP_HOLD_S: Final = 60.0
"""Of one group send, beyond what its receipts take: clearing, expiry, and the way."""
STALL_DEBT: Final = 3
"""Times its own length that is owed after a stall at most: what came meanwhile is debited at once, and may cost two."""
REFUSAL_HOLD_S: Final = 120.0
"""For one time of 429: the pauses, and what the ceiling takes until it is whole."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """One run, ready to play."""

    seed: int
    tps: int
    costs: dict[TpsKind, int]
    headroom_percent: int
    receipts: ReceiptModel
    workload: Workload
    arrivals_share: float
    """Of the plan, that customers' messages take on average; a flood makes it 1."""
    is_delayed: bool
    settle_s: float
    floor_percent: int = 0
    pair_interval_ns: int = 0
    """0: no pair limit."""
    pair_burst: int = 1

    @property
    def is_use_promised(self) -> bool:
        """Whether sends always wait, arrivals leave them room, sends fit, and nothing stands still on purpose."""
        workload = self.workload
        is_disturbed = bool(
            workload.pauses_ns or workload.restarts_ns or workload.plans or workload.refusals_ns
        )
        # After stalls what is left must be long, and must not begin with what the receipts of a group have left.
        is_late = self._used_from_ns > workload.length_ns * 2 // 3
        is_late |= bool(workload.stalls_ns) and any(push.members for push in workload.pushes)
        has_large = any(
            push.members * self.costs[TpsKind.DELIVERED] > self.tps * 5 for push in workload.pushes
        )
        is_crowded = self.arrivals_share > 0.5
        is_coarse = self.tps < COARSE * (self.costs[TpsKind.SEND] - 1)
        is_hindered = is_disturbed or has_large or is_crowded or is_coarse or is_late
        return workload.is_campaign_endless and not is_hindered

    @property
    def _used_from_ns(self) -> int:
        """From then on the rate is used: the first send is allowed, and what stalls have left is paid."""
        return WINDOW_NS + max(
            (
                end_ns + min(DEBT_MAX_NS, STALL_DEBT * (end_ns - begin_ns))
                for begin_ns, end_ns in self.workload.stalls_ns
            ),
            default=0,
        )

    def play(self, make_policy: MakePolicy | None = None) -> PacingReport:
        """Play it with the gateway's own policy, or another."""
        return PacingRun(
            self.tps,
            self.seed,
            self.workload,
            make_policy or self.make_real,
            receipts=self.receipts,
            costs=self.costs,
            is_delayed=self.is_delayed,
            settle_s=self.settle_s,
            floor_percent=self.floor_percent,
        ).play()

    def make_real(self, tps: int, now_ns: int, clock: VirtualClock | None = None) -> Real:
        """The gateway's own policy."""
        pairs = PairLimit(self.pair_interval_ns, self.pair_burst) if self.pair_interval_ns else None
        return Real(
            tps,
            self.costs,
            self.headroom_percent,
            now_ns,
            send_floor_percent=self.floor_percent,
            pairs=pairs,
            clock=clock,
        )

    def violations(self, report: PacingReport) -> list[str]:
        """What did not hold, in words; empty when all is well."""
        found = report.counter.violations() + report.broken_books() + self._beyond_limits(report)
        if report.unsent:
            found.append(f"{report.unsent} pushes never went, {self.settle_s:.0f} s after the traffic ended")
        used = self.used(report)
        if self.is_use_promised and used < USED_MIN:
            found.append(f"{used:.4f} of the rate aimed at was used, promised are {USED_MIN}")
        return found

    def _beyond_limits(self, report: PacingReport) -> list[str]:
        """What went beyond the limits that are not the plan."""
        cost, restarts_ns = self.costs[TpsKind.SEND], self.workload.restarts_ns
        aim_per_s = self.tps * (100 - self.headroom_percent) / 100
        floor_per_s = self.tps * self.floor_percent / 100
        saved = 1 + max(cost, aim_per_s * BURST_MIN_NS / NS_PER_S)
        if self.floor_percent:
            saved += 1 + cost
        found = limits.bursts(report.counter.sends_ns, cost, saved, aim_per_s + floor_per_s)
        found += limits.slowed(
            report.counter, report.turned_away_ns, restarts_ns, saved, aim_per_s + floor_per_s
        )
        if self.pair_interval_ns:
            found += limits.pairs(report.sends, self.pair_interval_ns, self.pair_burst, restarts_ns)
        return found

    def used(self, report: PacingReport) -> float:
        """Share of the rate aimed at that was used while the workload lasted, from when sends could go."""
        begin_s, end_s = self._used_from_ns / NS_PER_S, self.workload.length_ns / NS_PER_S
        if begin_s >= end_s:
            return 0.0
        return report.use(self.tps, begin_s, end_s) * 100 / (100 - self.headroom_percent)

    def describe(self) -> str:
        """One line for whoever looks into a seed."""
        workload = self.workload
        groups = [push.members for push in workload.pushes if push.members]
        return (
            f"seed {self.seed}: {self.tps} TPS, headroom {self.headroom_percent} %, costs "
            f"{'/'.join(str(self.costs[kind]) for kind in TpsKind)}, {workload.length_ns / NS_PER_S:.0f} s, "
            f"{len(workload.writes_ns)} messages in, {len(workload.pushes)} pushes, groups of {groups}, "
            f"{'endless' if workload.is_campaign_endless else 'no'} campaign, {len(workload.restarts_ns)} restarts, "
            f"{len(workload.plans)} changes of plan, {len(workload.pauses_ns)} pauses, "
            f"{len(workload.refusals_ns)} times of 429, {len(workload.stalls_ns)} stalls, floor {self.floor_percent} %, "
            f"pair limit {self.pair_burst} and one each {self.pair_interval_ns / NS_PER_S:g} s (0: none)"
        )


def draw(seed: int) -> Mixed:
    """The run of a seed; the same one for ever, as long as this function is not changed."""
    rng = random.Random(f"{seed}/mixed")
    tps = rng.choice([10, 15, 20, 80, 250, 1000, rng.randint(10, 100), rng.randint(10, 1000)])
    length_s = max(6.0, min(240.0, EVENTS / tps))
    costs = ONE_EACH if rng.random() < 0.6 else _draw_costs(rng)
    headroom_percent = rng.choice([5, 5, 5, 0, 10, 20])
    receipts = _draw_receipts(rng, length_s)
    arrivals_share = rng.choice([0.0, 0.02, 0.1, 0.3, 0.5, 1.2])
    writes_ns = poisson_ns(rng, 0.0, length_s, arrivals_share * tps / max(1, costs[TpsKind.RECEIVE]))
    if rng.random() < 0.3:
        flood_ns = int(rng.uniform(0.0, length_s) * NS_PER_S)
        writes_ns = sorted(writes_ns + [flood_ns] * rng.randint(1, 3 * tps))
        arrivals_share = max(arrivals_share, 1.0)
    pushes = _draw_pushes(rng, tps, length_s)
    more = random.Random(f"{seed}/more")  # so that what was drawn before is drawn the same
    pair_interval_s, pair_burst, pair_pushes = _draw_pairs(more, length_s)
    pushes = sorted(pushes + pair_pushes, key=lambda push: push.at_ns)
    restarts = rng.randint(1, 3) if rng.random() < 0.4 else 0
    plans = rng.randint(1, 3) if rng.random() < 0.3 else 0
    pauses_ns = _draw_pauses(rng, length_s)
    refusals_ns = _draw_refusals(more, length_s)
    if more.random() < CALM_SHARE:
        restarts, plans, pauses_ns, refusals_ns = 0, 0, [], []
    workload = Workload(
        length_ns=int(length_s * NS_PER_S),
        writes_ns=writes_ns,
        pushes=pushes,
        is_campaign_endless=rng.random() < 0.6,
        pauses_ns=pauses_ns,
        restarts_ns=sorted(_draw_ns(rng, length_s) for _ in range(restarts)),
        plans=sorted((_draw_ns(rng, length_s), rng.randint(max(5, tps // 3), tps)) for _ in range(plans)),
        refusals_ns=refusals_ns,
        stalls_ns=_draw_stalls(more, length_s),
    )
    least_tps = min([tps, *(plan for _, plan in workload.plans)]) * (100 - headroom_percent) / 100
    return Mixed(
        seed=seed,
        tps=tps,
        costs=costs,
        headroom_percent=headroom_percent,
        receipts=receipts,
        workload=workload,
        arrivals_share=arrivals_share,
        is_delayed=rng.random() < 0.8,
        settle_s=_settle_s(workload, costs, least_tps) + pair_interval_s * len(pair_pushes),
        floor_percent=more.choice([5, 10, 25, 50]) if more.random() < 0.3 else 0,
        pair_interval_ns=int(pair_interval_s * NS_PER_S),
        pair_burst=pair_burst,
    )


def _draw_ns(rng: random.Random, length_s: float) -> int:
    return int(rng.uniform(0.0, length_s) * NS_PER_S)


def _draw_costs(rng: random.Random) -> dict[TpsKind, int]:
    return {
        TpsKind.RECEIVE: rng.randint(0, 2),
        TpsKind.SEND: rng.randint(1, 3),
        TpsKind.DELIVERED: rng.randint(0, 2),
        TpsKind.READ: rng.randint(0, 2),
    }


def _draw_receipts(rng: random.Random, length_s: float) -> ReceiptModel:
    delivered_ratio = rng.uniform(0.3, 1.0)
    return ReceiptModel(
        delivered_ratio=delivered_ratio,
        read_ratio=delivered_ratio * rng.random(),
        delivered_sigma=rng.uniform(0.2, 1.2),
        # From a crowd that looks at its phones at once to one that reads long after the end.
        time_scale=rng.choice([0.01, 0.1, 1.0]) * length_s / 120,
    )


def _draw_pushes(rng: random.Random, tps: int, length_s: float) -> list[Push]:
    pushes: list[Push] = []
    for cls in SendClass:
        per_s = tps * rng.choice([0.0, 0.0, 0.02, 0.1])
        times = poisson_ns(rng, 0.0, length_s, per_s)
        pushes += [Push(at_ns, f"{cls.label}{n}", cls) for n, at_ns in enumerate(times)]
    if rng.random() < 0.4:
        pushes += burst(
            rng.uniform(0.0, length_s), rng.randint(1, 5 * tps), "burst", rng.choice(list(SendClass))
        )
    if rng.random() < 0.4:
        at_s, cls = rng.uniform(0.0, length_s), rng.choice(list(SendClass))
        for n in range(rng.randint(1, 5)):
            pushes += burst(at_s, 1, f"group{n}-", cls, rng.randint(2, GROUP_MEMBERS))
    return sorted(pushes, key=lambda push: push.at_ns)


def _draw_pauses(rng: random.Random, length_s: float) -> list[tuple[int, int]]:
    if rng.random() >= 0.2:
        return []
    begin_ns = _draw_ns(rng, length_s)
    return [(begin_ns, begin_ns + _draw_ns(rng, 0.3 * length_s))]


def _draw_refusals(rng: random.Random, length_s: float) -> list[tuple[int, int]]:
    if rng.random() >= 0.25:
        return []
    begins_ns = sorted(_draw_ns(rng, length_s) for _ in range(rng.randint(1, 2)))
    return [(begin_ns, begin_ns + _draw_ns(rng, min(5.0, 0.1 * length_s))) for begin_ns in begins_ns]


def _draw_stalls(rng: random.Random, length_s: float) -> list[tuple[int, int]]:
    """Of 0.1 to 10 s, and up to a fifth of the run; they don't overlap."""
    if rng.random() >= 0.3:
        return []
    within_s = (
        rng.choice([0.2, 0.2, 1.0]) * length_s
    )  # early ones leave time to see that the rate is used again
    begins_ns = sorted(_draw_ns(rng, within_s) for _ in range(rng.randint(1, 4)))
    ends_ns = [
        begin_ns + int(min(10 ** rng.uniform(-1.0, 1.0), 0.2 * length_s) * NS_PER_S) for begin_ns in begins_ns
    ]
    nexts_ns = [*begins_ns[1:], ends_ns[-1]]
    return [
        (begin_ns, min(end_ns, next_ns))
        for begin_ns, end_ns, next_ns in zip(begins_ns, ends_ns, nexts_ns, strict=True)
    ]


def _draw_pairs(rng: random.Random, length_s: float) -> tuple[float, int, list[Push]]:
    """A pair limit, and a few recipients with so many pushes that it holds them back: interval, burst, pushes."""
    if rng.random() >= 0.3:
        return 0.0, 1, []
    interval_s, size = length_s * rng.uniform(0.001, 0.02), rng.choice([1, 2, 5, 45])
    pushes = []
    for to in range(rng.randint(1, 4)):
        cls = rng.choice(list(SendClass))
        for n in range(rng.randint(size, size + 20)):
            at_ns = _draw_ns(rng, rng.choice([0.1, 1.0]) * length_s)
            pushes.append(Push(at_ns, f"pair{to}-{n}", cls, to=f"pair{to}"))
    return interval_s, size, pushes


def _settle_s(workload: Workload, costs: dict[TpsKind, int], least_tps: float) -> float:
    """Longest that what waits at the end may take: three times what everything costs, and the holds of groups."""
    of_member = costs[TpsKind.DELIVERED] + costs[TpsKind.READ] + 2  # the number's own slots count one each
    work = 2.0 * len(workload.writes_ns) * max(1, costs[TpsKind.RECEIVE])
    work += workload.length_ns / NS_PER_S * least_tps if workload.is_campaign_endless else 0.0
    groups = 0
    for push in workload.pushes:
        work += costs[TpsKind.SEND] + max(1, push.members) * of_member
        groups += push.members > 0
    stalled_s = sum(end_ns - begin_ns for begin_ns, end_ns in workload.stalls_ns) / NS_PER_S
    held_s = GROUP_HOLD_S * groups + REFUSAL_HOLD_S * len(workload.refusals_ns) + stalled_s
    return 30.0 + 3 * work / least_tps + held_s

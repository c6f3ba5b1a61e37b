"""The closed loop in virtual time: a number, a pacing policy, traffic, and the wire between them.

The loop jumps from one thing that happens to the next, so a simulated day takes seconds: 10 to 20 µs an event.
The order within a moment is the one of the real process: what the number has served becomes known, new pushes
come in, then the pacer is asked. A policy is asked when it said it wants to be, and when something arrives.
"""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Final

from gateway.clock import NS_PER_S
from gateway.events import SendClass, TpsKind
from gateway.sim.counter import WireCounter
from gateway.sim.link import Link
from gateway.sim.number import BACKLOG_MAX, Event, Number, NumberStatistics
from gateway.sim.policies import FAR_NS, Policy
from gateway.sim.receipts import ReceiptModel
from gateway.sim.workload import Push, Workload

ONE_EACH: Final = dict.fromkeys(TpsKind, 1)
"""The On-Premises plan: all four kinds count, one each."""

MakePolicy = Callable[[int, int], Policy]
"""(tps, now_ns) to a policy that knows nothing about what was before."""

CAMPAIGN: Final = "campaign-"
"""How the ids of the endless campaign begin."""

_MEMBERS: Final = tuple(f"member{n}" for n in range(4096))


@dataclass(frozen=True, slots=True)
class PacingReport:
    """What one run came to. Times in nanoseconds since its start."""

    end_ns: int
    waits: list[tuple[int, int]]
    """(written, wait at the number) of every message that customers wrote and the number served."""
    sends: list[tuple[int, Push]]
    """(when it left, what) of every push that went."""
    unsent: int
    """Pushes that still waited when the run ended."""
    number: NumberStatistics
    counter: WireCounter
    totals: dict[TpsKind, int]
    """What the policies counted, over all restarts."""
    offered: int
    """Sends that reached the number, those it refused included."""
    turned_away_ns: list[int]
    """When the node answered a send with 429."""
    under_way: dict[TpsKind, int]
    """What was between the number and the gateway at the end."""

    def wait_s(self, share: float, begin_s: float = 0.0, end_s: float = 1e9) -> float:
        """Quantile `share` of the waits of messages written in the span; 0.0 when there were none."""
        begin_ns, end_ns = begin_s * NS_PER_S, end_s * NS_PER_S
        waits = sorted(wait for made_ns, wait in self.waits if begin_ns <= made_ns < end_ns)
        return waits[min(len(waits) - 1, int(len(waits) * share))] / NS_PER_S if waits else 0.0

    def use(self, tps: int, begin_s: float, end_s: float) -> float:
        """Share of the plan's cost that was used in the span."""
        begin_ns, end_ns = int(begin_s * NS_PER_S), int(end_s * NS_PER_S)
        return self.counter.cost_between(begin_ns, end_ns) * NS_PER_S / (tps * (end_ns - begin_ns))

    def group_sends_s(self) -> list[float]:
        """When groups were sent to."""
        return [at_ns / NS_PER_S for at_ns, push in self.sends if push.members]

    def longest_wait_s(self) -> dict[SendClass, float]:
        """The longest that a push of each class had to wait; the endless campaign does not wait."""
        longest: dict[SendClass, float] = {}
        for at_ns, push in self.sends:
            if not push.id.startswith(CAMPAIGN):
                longest[push.cls] = max(longest.get(push.cls, 0.0), (at_ns - push.at_ns) / NS_PER_S)
        return longest

    def broken_books(self) -> list[str]:
        """Where what was counted is not what the number did, less what was under way."""
        found = []
        for kind in TpsKind:
            # A send is counted as it leaves, everything else as it comes.
            at_number = self.number.served[kind] - self.under_way[kind]
            if kind is TpsKind.SEND:
                at_number = self.offered + self.under_way[kind] + len(self.turned_away_ns)
            if not self.totals[kind] == self.counter.known[kind] == at_number:
                found.append(
                    f"{kind.label}: {self.totals[kind]} in the budget, {self.counter.known[kind]} on the wire, "
                    f"{at_number} at the number"
                )
        queued = self.offered - self.number.refused_sends - self.number.served[TpsKind.SEND]
        if not 0 <= queued <= self.number.backlog:
            found.append(f"{queued} sends queued at the number, whose backlog is {self.number.backlog}")
        return found


class PacingRun:
    """One run from one seed; `play` it once."""

    def __init__(
        self,
        tps: int,
        seed: int,
        workload: Workload,
        make_policy: MakePolicy,
        *,
        receipts: ReceiptModel | None = None,
        costs: dict[TpsKind, int] = ONE_EACH,
        backlog_max: int = BACKLOG_MAX,
        is_delayed: bool = False,
        settle_s: float = 0.0,
        floor_percent: int = 0,
    ) -> None:
        """`is_delayed`: the wire takes up to 20 ms. Pushes that wait get `settle_s` after the workload's end.

        `floor_percent` of the plan may be sent although arrivals leave less.
        """
        self.tps = tps
        self._workload = workload
        self._make_policy = make_policy
        self._number = Number(
            tps, random.Random(f"{seed}/number"), receipts=receipts, backlog_max=backlog_max
        )
        self._link = Link(random.Random(f"{seed}/link") if is_delayed else None)
        self._counter = WireCounter(costs, floor_percent)
        self._settle_ns = int(settle_s * NS_PER_S)
        self._limit = tps
        self._policy = make_policy(tps, 0)
        self._past_totals: Counter[TpsKind] = Counter()
        self._unsent: dict[str, Push] = {}
        """Pushes that wait, in the order they came: what a store would hold over a restart."""
        self._campaign_sends = 0
        self._on_wire: list[tuple[int, int, Event | Push]] = []
        """A heap of what is under way and when it arrives; the tie is the order it was put there."""
        self._put = 0
        self._offered = 0
        self._waits: list[tuple[int, int]] = []
        self._sends: list[tuple[int, Push]] = []
        self._turned_away_ns: list[int] = []
        self._away_until_ns = 0
        self._stall_begins_ns = [begin_ns for begin_ns, _ in workload.stalls_ns]
        self._ask_ns = 0

    def play(self) -> PacingReport:
        """Play the workload, then until no push waits or the time to settle is over."""
        workload, number, unsent = self._workload, self._number, self._unsent
        if workload.is_campaign_endless:
            self._more_campaign(0)
        writes, pushes = iter(workload.writes_ns), iter(workload.pushes)
        write_ns, push = next(writes, FAR_NS), next(pushes, None)
        push_ns = self._seen_ns(push.at_ns) if push else FAR_NS
        troubles = iter(self._troubles())
        trouble_ns, trouble = next(troubles, (FAR_NS, None))
        length_ns = workload.length_ns
        now_ns, written = 0, 0
        while True:
            ask_ns = self._awake_ns(max(self._ask_ns, now_ns)) if unsent else FAR_NS
            number_ns = number.next_ns()
            now_ns = min(
                write_ns,
                push_ns,
                trouble_ns,
                max(ask_ns, self._awake_ns(self._away_until_ns)),
                FAR_NS if number_ns is None else number_ns,
                self._on_wire[0][0] if self._on_wire else FAR_NS,
            )
            if now_ns >= length_ns and (not unsent or now_ns >= length_ns + self._settle_ns):
                break
            if number_ns is not None and number_ns <= now_ns:
                self._take_served(now_ns)
            while trouble_ns <= now_ns and trouble is not None:
                trouble(now_ns)
                trouble_ns, trouble = next(troubles, (FAR_NS, None))
            self._deliver(now_ns)
            while write_ns <= now_ns:
                number.offer_message(now_ns, f"message{written}", "customer")
                written += 1
                write_ns = next(writes, FAR_NS)
            while push is not None and push_ns <= now_ns:
                self._push(push, now_ns)
                push = next(pushes, None)
                push_ns = self._seen_ns(push.at_ns) if push else FAR_NS
            if unsent and self._ask_ns <= now_ns and self._away_until_ns <= now_ns and self._is_awake(now_ns):
                self._ask(now_ns)
        return self._report(max(length_ns, min(now_ns, length_ns + self._settle_ns)))

    def _troubles(self) -> list[tuple[int, Callable[[int], None]]]:
        """What goes wrong and when, in order."""
        workload = self._workload
        found: list[tuple[int, Callable[[int], None]]] = []
        found += [(begin_ns, partial(self._go_away, end_ns)) for begin_ns, end_ns in workload.pauses_ns]
        found += [(self._seen_ns(at_ns), self._restart) for at_ns in workload.restarts_ns]
        found += [(self._seen_ns(at_ns), partial(self._set_plan, tps)) for at_ns, tps in workload.plans]
        return sorted(found, key=lambda trouble: trouble[0])

    def _awake_ns(self, at_ns: int) -> int:
        """`at_ns`, or the end of the stall it lies in."""
        stall = bisect_right(self._stall_begins_ns, at_ns) - 1
        return at_ns if stall < 0 else max(at_ns, self._workload.stalls_ns[stall][1])

    def _is_awake(self, now_ns: int) -> bool:
        return self._awake_ns(now_ns) == now_ns

    def _seen_ns(self, at_ns: int) -> int:
        """When the gateway looks at what comes at `at_ns`."""
        awake_ns = self._awake_ns(at_ns)
        return at_ns if awake_ns == at_ns else awake_ns + 1

    def _is_refusing(self, now_ns: int) -> bool:
        """Whether the node answers 429."""
        return any(begin_ns <= now_ns < end_ns for begin_ns, end_ns in self._workload.refusals_ns)

    def _go_away(self, end_ns: int, _now_ns: int) -> None:
        """The node is away: what the number serves until `end_ns` is told then, all at once."""
        self._away_until_ns = end_ns

    def _restart(self, now_ns: int) -> None:
        self._past_totals.update(self._policy.totals)
        self._policy = self._make_policy(self._limit, now_ns)
        for push in self._unsent.values():
            self._policy.push(push, now_ns)
        self._ask_ns = now_ns

    def _set_plan(self, tps: int, now_ns: int) -> None:
        self._limit = tps
        self._policy.set_tps(tps, now_ns)
        self._ask_ns = now_ns

    def _push(self, push: Push, now_ns: int) -> None:
        assert push.id not in self._unsent, push.id
        self._unsent[push.id] = push
        self._policy.push(push, now_ns)
        self._ask_ns = now_ns

    def _more_campaign(self, now_ns: int) -> None:
        """The endless campaign always has one more waiting, until the workload ends."""
        if now_ns < self._workload.length_ns:
            self._campaign_sends += 1
            self._push(Push(now_ns, f"{CAMPAIGN}{self._campaign_sends}", SendClass.BULK), now_ns)

    def _take_served(self, now_ns: int) -> None:
        """What the number has served sets out for the gateway; its own sends need no way back."""
        for event in self._number.advance(now_ns):
            if event.kind is TpsKind.SEND:
                continue
            if event.kind is TpsKind.RECEIVE:
                self._waits.append((event.made_ns, event.wait_ns))
            known_ns = self._seen_ns(max(self._link.known_ns(event.served_ns), self._away_until_ns))
            self._counter.served(event.kind, event.served_ns, known_ns)
            self._put_on_wire(known_ns, event)

    def _put_on_wire(self, arrives_ns: int, item: Event | Push) -> None:
        self._put += 1
        heappush(self._on_wire, (arrives_ns, self._put, item))

    def _deliver(self, now_ns: int) -> None:
        on_wire = self._on_wire
        while on_wire and on_wire[0][0] <= now_ns:
            item = heappop(on_wire)[2]
            if isinstance(item, Event):
                self._counter.told(item.kind)
                if self._policy.arrived(item, now_ns):
                    self._ask_ns = now_ns
            else:
                self._offer(item, now_ns)

    def _offer(self, push: Push, now_ns: int) -> None:
        members = _MEMBERS[: push.members] if push.members else None
        self._number.offer_send(now_ns, push.id, push.recipient, members=members)
        self._offered += 1

    def _ask(self, now_ns: int) -> None:
        """Let go what may go now, and note when to ask again."""
        while True:
            answer = self._policy.next_push(now_ns)
            if isinstance(answer, int):
                assert answer > now_ns, (answer, now_ns)
                self._ask_ns = answer
                return
            offered_ns = self._link.offered_ns(now_ns)
            self._counter.sent(now_ns, offered_ns, self._limit)
            is_taken = not self._is_refusing(now_ns)
            self._policy.answered(answer, now_ns, is_taken=is_taken)
            if not is_taken:
                self._turned_away_ns.append(now_ns)
                continue
            del self._unsent[answer.id]
            if answer.id.startswith(CAMPAIGN):
                self._more_campaign(now_ns)
            self._sends.append((now_ns, answer))
            if offered_ns > now_ns:
                self._put_on_wire(offered_ns, answer)
            else:
                self._offer(answer, now_ns)

    def _report(self, end_ns: int) -> PacingReport:
        under_way = Counter(
            item.kind if isinstance(item, Event) else TpsKind.SEND for _, _, item in self._on_wire
        )
        totals = self._past_totals + Counter(self._policy.totals)
        return PacingReport(
            end_ns=end_ns,
            waits=self._waits,
            sends=self._sends,
            unsent=len(self._unsent),
            number=self._number.statistics(),
            counter=self._counter,
            totals={kind: totals[kind] for kind in TpsKind},
            offered=self._offered,
            turned_away_ns=self._turned_away_ns,
            under_way={kind: under_way[kind] for kind in TpsKind},
        )

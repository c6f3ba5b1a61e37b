"""Pacing policies to compare: what everyone does, the budget alone, and what the gateway does."""

from collections import deque
from heapq import heappop, heappush
from typing import Final, Protocol

from gateway._fast.bucket import TokenBucket
from gateway._fast.ring import EVERY_CLASS
from gateway.budget.classes import ClassShares
from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import SendClass, SendRecord, TpsKind
from gateway.outbound.front import Front
from gateway.outbound.pace import Pacer
from gateway.sim.number import Event
from gateway.sim.workload import Push
from gateway.store.backlog import Backlog

FAR_NS: Final = 1 << 62
"""Ask again when something has changed."""


class Policy(Protocol):
    """Decides which push goes, and when. Everything it knows it was told."""

    def push(self, push: Push, now_ns: int) -> None:
        """One more waits."""

    def arrived(self, event: Event, now_ns: int) -> bool:
        """The gateway is told of an event that the number has served. Whether to ask again now."""

    def next_push(self, now_ns: int) -> Push | int:
        """The push that goes now, counted and no longer waiting; or when to ask again if nothing happens until then."""

    def answered(self, push: Push, now_ns: int, *, is_taken: bool) -> None:
        """The node took the push that `next_push` gave last; or it said 429, and the push waits again."""

    def set_tps(self, tps: int, now_ns: int) -> None:
        """The plan is another from now on."""

    @property
    def totals(self) -> dict[TpsKind, int]:
        """Events counted so far."""


class Fifo:
    """Pushes by class, and by age within one: groups go like anyone else."""

    def __init__(self) -> None:
        self._classes: list[deque[Push]] = [deque() for _ in SendClass]

    def push(self, push: Push) -> None:
        """One more waits."""
        self._classes[push.cls].append(push)

    def answered(self, push: Push, *, is_taken: bool) -> None:
        """A push that the node refused is the first of its class again."""
        if not is_taken:
            self._classes[push.cls].appendleft(push)

    def first(self) -> deque[Push] | None:
        """The queue whose head goes next; None: nothing waits."""
        return next((queue for queue in self._classes if queue), None)


class Naive:
    """What gateways do: N sends a second, and nothing else counts."""

    def __init__(self, tps: int, now_ns: int) -> None:
        self._waiting = Fifo()
        self._bucket = TokenBucket(NS_PER_S // tps + 1, 0, 0, now_ns)
        self._totals = dict.fromkeys(TpsKind, 0)

    def push(self, push: Push, now_ns: int) -> None:  # noqa: ARG002  (it takes no note of time)
        self._waiting.push(push)

    def arrived(self, event: Event, now_ns: int) -> bool:  # noqa: ARG002  (no event moves its rate)
        self._totals[event.kind] += 1
        return False

    def next_push(self, now_ns: int) -> Push | int:
        queue = self._waiting.first()
        if queue is None:
            return FAR_NS
        free_at_ns = self._bucket.try_take(now_ns, 1)
        if free_at_ns > now_ns:
            return free_at_ns
        self._totals[TpsKind.SEND] += 1
        return queue.popleft()

    def answered(self, push: Push, now_ns: int, *, is_taken: bool) -> None:  # noqa: ARG002  (429 is nothing to it)
        self._waiting.answered(push, is_taken=is_taken)

    def set_tps(self, tps: int, now_ns: int) -> None:
        self._bucket.set_interval_ns(now_ns, NS_PER_S // tps + 1)

    @property
    def totals(self) -> dict[TpsKind, int]:
        return self._totals


class Debit:
    """The budget alone: everything that happens is debited, and groups go like anyone else."""

    def __init__(self, tps: int, costs: dict[TpsKind, int], headroom_percent: int, now_ns: int) -> None:
        self._waiting = Fifo()
        self.budget = TpsBudget(tps, costs, headroom_percent, now_ns)

    def push(self, push: Push, now_ns: int) -> None:  # noqa: ARG002  (it takes no note of time)
        self._waiting.push(push)

    def arrived(self, event: Event, now_ns: int) -> bool:
        self.budget.charge(event.kind, 1, now_ns)
        return False

    def next_push(self, now_ns: int) -> Push | int:
        queue = self._waiting.first()
        if queue is None:
            return FAR_NS
        free_at_ns = self.budget.try_send(now_ns)
        return free_at_ns if free_at_ns > now_ns else queue.popleft()

    def answered(self, push: Push, now_ns: int, *, is_taken: bool) -> None:  # noqa: ARG002  (429 is nothing to it)
        self._waiting.answered(push, is_taken=is_taken)

    def set_tps(self, tps: int, now_ns: int) -> None:
        self.budget.set_tps(tps, now_ns)

    @property
    def totals(self) -> dict[TpsKind, int]:
        return self.budget.totals


SLOTS: Final = 1 << 15
"""Pushes of a class that wait at once in a run, all in memory: there is no disk here to overflow to."""
BULK_FLOOR_PERCENT: Final = 5  # the defaults of the settings, as the share below
REPLY_SHARE_PERCENT: Final = 80


class VirtualClock:
    """Virtual time, set before each step."""

    def __init__(self, now_ns: int) -> None:
        self.virtual_ns = now_ns

    def now_ns(self) -> int:
        return self.virtual_ns

    def wall_ms(self) -> int:
        return self.virtual_ns // NS_PER_MS


class _NoAlarm:
    """The pacer is asked what it decides, and never waits here."""

    async def wait_until(self, deadline_ns: int) -> None:
        raise AssertionError(deadline_ns)

    def ring(self) -> None: ...


async def _read_nothing(_cls: int, _after_seq: int, _limit: int) -> list[SendRecord]:
    raise AssertionError("nothing overflows to disk in virtual time; raise SLOTS")


class _Queue(Backlog[SendRecord]):
    """A backlog that can say when something is due next, where nothing waits for its timer."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(
            len(SendClass),
            SLOTS,
            SLOTS,
            read_page=_read_nothing,
            stamp_ms=lambda record: record.accepted_ms,
            clock=clock,
        )
        self._due_ns: list[int] = []

    def defer(self, record: SendRecord, due_ns: int) -> None:
        super().defer(record, due_ns)
        heappush(self._due_ns, due_ns)

    def due_after_ns(self, now_ns: int) -> int:
        """When the next delayed one is due, of those that are not yet."""
        while self._due_ns and self._due_ns[0] <= now_ns:
            heappop(self._due_ns)
        return self._due_ns[0] if self._due_ns else FAR_NS


class Real:
    """The gateway's own parts, put together as `app` does and asked in the order in which the pacer asks them.

    Budget, fan-out window, learned ratios, sizes of groups, pair limit, the queue, its front, and what the pacer does
    about 429: only the waiting is ours.
    A group's size is known to the gateway when the push comes in; the node's answer comes with the send.
    """

    def __init__(
        self,
        tps: int,
        costs: dict[TpsKind, int],
        headroom_percent: int,
        now_ns: int,
        *,
        send_floor_percent: int = 0,
        pairs: PairLimit | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.budget = TpsBudget(tps, costs, headroom_percent, now_ns, send_floor_percent=send_floor_percent)
        self._costs = costs
        self._clock = clock or VirtualClock(now_ns)
        self._backlog = _Queue(self._clock)
        self._pushes: dict[int, Push] = {}
        self._seq = 0
        self._ratios = Ratios()
        self._sizes = GroupSizes(self._ratios, asks=False)
        # Receipts that cost nothing need no window.
        self._fan_out = FanOut(tps, costs[TpsKind.DELIVERED]) if costs[TpsKind.DELIVERED] else None
        self._has_room = False
        if self._fan_out is not None:
            self._fan_out.on_room = self._note_room
        self._front = Front(self._backlog, self._fan_out, self._sizes, pairs)
        self._pacer = Pacer(self._backlog, self.budget, _NoAlarm(), self._clock, self._front)
        self._paused_until_ns = 0
        self._at_node: SendRecord | None = None
        self._shares = ClassShares(BULK_FLOOR_PERCENT, REPLY_SHARE_PERCENT)

    def push(self, push: Push, now_ns: int) -> None:
        self._seq += 1
        self._pushes[self._seq] = push
        is_group = push.members > 0
        if is_group:
            self._sizes.look(push.id, now_ns)
            self._sizes.told(push.id, push.members, now_ns)
        self._clock.virtual_ns = now_ns
        self._backlog.push(
            SendRecord(
                seq=self._seq,
                id=push.id,
                cls=push.cls,
                to=push.recipient,
                is_group=is_group,
                body=b"",
                accepted_ms=self._clock.wall_ms(),
            )
        )
        assert not self._backlog.on_disk(push.cls), "nothing overflows to disk in virtual time; raise SLOTS"

    def arrived(self, event: Event, now_ns: int) -> bool:
        self.budget.charge(event.kind, 1, now_ns)
        if self._fan_out is not None:
            self._fan_out.charge_arrival(self._costs[event.kind], now_ns)
        if event.kind is not TpsKind.RECEIVE:
            self._ratios.arrived(event.id, is_read=event.kind is TpsKind.READ)
            if event.group and self._fan_out is not None:
                self._fan_out.arrived(event.id, event.peer, now_ns)
        has_room, self._has_room = self._has_room, False
        return has_room

    def next_push(self, now_ns: int) -> Push | int:
        if now_ns < self._paused_until_ns:
            return self._paused_until_ns
        self._clock.virtual_ns = now_ns
        ready, until_ns = self._front.look(EVERY_CLASS, now_ns)
        if not ready:
            return min(until_ns, self._backlog.due_after_ns(now_ns))
        free_at_ns = self.budget.try_send(now_ns)
        if free_at_ns > now_ns:
            return free_at_ns
        cls = self._shares.choose(ready)
        self._shares.sent(cls, ready)
        self._at_node = record = self._front.take(SendClass(cls), now_ns)
        return self._pushes[record.seq]

    def answered(self, push: Push, now_ns: int, *, is_taken: bool) -> None:
        record, self._at_node = self._at_node, None
        assert record is not None, push.id
        if is_taken:
            self._front.named(record, record.id, now_ns)
            self._pacer.succeeded()
            self._backlog.settle(record)
            del self._pushes[record.seq]
        else:
            self._front.refused(record, now_ns)
            self._paused_until_ns = self._pacer.slow_down(None)
            self._backlog.defer(record, self._paused_until_ns)

    def set_tps(self, tps: int, now_ns: int) -> None:
        self.budget.set_tps(tps, now_ns)
        if self._fan_out is not None:
            self._fan_out.tps = tps

    @property
    def totals(self) -> dict[TpsKind, int]:
        return self.budget.totals

    def _note_room(self) -> None:
        self._has_room = True

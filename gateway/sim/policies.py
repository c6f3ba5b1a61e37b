"""Pacing policies to compare: what everyone does, the budget alone, and what the gateway does."""

from collections import deque
from typing import Final, Protocol

from gateway._fast.bucket import TokenBucket
from gateway.budget.classes import ClassShares
from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.ratios import Ratios
from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import SendClass, SendRecord, TpsKind
from gateway.outbound.front import Front
from gateway.sim.number import Event
from gateway.sim.workload import Push
from gateway.store.backlog import ALL_CLASSES, Backlog

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

    def set_tps(self, tps: int, now_ns: int) -> None:
        self.budget.set_tps(tps, now_ns)

    @property
    def totals(self) -> dict[TpsKind, int]:
        return self.budget.totals


SLOTS: Final = 1 << 15
"""Pushes of a class that wait at once in a run, all in memory: there is no disk here to overflow to."""
BULK_FLOOR_PERCENT: Final = 5  # the defaults of the settings, as the share below
REPLY_SHARE_PERCENT: Final = 80


class _Clock:
    """Virtual time, set before each step."""

    def __init__(self, now_ns: int) -> None:
        self.virtual_ns = now_ns

    def now_ns(self) -> int:
        return self.virtual_ns

    def wall_ms(self) -> int:
        return self.virtual_ns // NS_PER_MS


async def _read_nothing(_cls: int, _after_seq: int, _limit: int) -> list[SendRecord]:
    raise AssertionError("nothing overflows to disk in virtual time; raise SLOTS")


class Real:
    """The gateway's own parts, put together as `app` does and asked in the order in which the pacer asks them.

    Budget, fan-out window, learned ratios, sizes of groups, the queue and its front: only the waiting is ours.
    A group's size is known to the gateway when the push comes in; the node's answer comes with the send.
    """

    def __init__(self, tps: int, costs: dict[TpsKind, int], headroom_percent: int, now_ns: int) -> None:
        self.budget = TpsBudget(tps, costs, headroom_percent, now_ns)
        self._costs = costs
        self._clock = _Clock(now_ns)
        self._backlog: Backlog[SendRecord] = Backlog(
            len(SendClass),
            SLOTS,
            SLOTS,
            read_page=_read_nothing,
            stamp_ms=lambda record: record.accepted_ms,
            clock=self._clock,
        )
        self._pushes: dict[int, Push] = {}
        self._seq = 0
        self._ratios = Ratios()
        self._sizes = GroupSizes(self._ratios, asks=False)
        # Receipts that cost nothing need no window.
        self._fan_out = FanOut(tps, costs[TpsKind.DELIVERED]) if costs[TpsKind.DELIVERED] else None
        self._has_room = False
        if self._fan_out is not None:
            self._fan_out.on_room = self._note_room
        self._front = Front(self._backlog, self._fan_out, self._sizes)
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
                to=push.id,
                is_group=is_group,
                body=b"",
                accepted_ms=now_ns // NS_PER_MS,
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
        self._clock.virtual_ns = now_ns
        ready, until_ns = self._front.look(ALL_CLASSES, now_ns)
        if not ready:
            return min(until_ns, FAR_NS)
        free_at_ns = self.budget.try_send(now_ns)
        if free_at_ns > now_ns:
            return free_at_ns
        cls = self._shares.choose(ready)
        self._shares.sent(cls, ready)
        record = self._front.take(SendClass(cls), now_ns)
        self._front.named(record, record.id, now_ns)
        self._backlog.settle(record)
        return self._pushes.pop(record.seq)

    def set_tps(self, tps: int, now_ns: int) -> None:
        self.budget.set_tps(tps, now_ns)
        if self._fan_out is not None:
            self._fan_out.tps = tps

    @property
    def totals(self) -> dict[TpsKind, int]:
        return self.budget.totals

    def _note_room(self) -> None:
        self._has_room = True

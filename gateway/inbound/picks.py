"""What goes next to a destination: one message after the other, or receipts, many of them together when they are batched.

A pick is taken from the backlog only when the gate is open, so a record is never held while its destination is closed.
"""

import asyncio
from typing import Final, NamedTuple, Protocol

from gateway.clock import Clock
from gateway.events import InboundClass, InboundRecord
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.compose import Composer, Parcel, Sorted
from gateway.inbound.gate import Gate
from gateway.overload.ladder import ReceiptClass, Treatment
from gateway.overload.waits import LeastWait
from gateway.store.backlog import ALL_CLASSES, Backlog

STRAY_MAX: Final = 64
"""Receipts that must go alone and are given back while a batch is gathered, before the gathering ends."""

_RECEIPTS: Final = 1 << InboundClass.RECEIPT


class Pick(NamedTuple):
    """What one worker carries: parcels, one request each, and whether their records have been tried before."""

    parcels: list[Parcel]
    is_retry: bool


class Picks(Protocol):
    """Where a forwarder gets its work."""

    def has_next(self) -> bool:
        """Whether `take` has something to give."""

    def take(self) -> Pick:
        """The next work; there must be some."""

    def ended(self, parcel: Parcel) -> None:
        """A parcel's end is on disk."""


class Singles:
    """One record, one request."""

    def __init__(self, backlog: Backlog[InboundRecord], gate: Gate, waits: LeastWait, clock: Clock) -> None:
        """`waits` is told how long each that was never tried has waited."""
        self._backlog = backlog
        self._gate = gate
        self._waits = waits
        self._clock = clock

    def has_next(self) -> bool:
        """When retries hold all their places, whoever ends one looks again."""
        return self.has_next_of(ALL_CLASSES)

    def has_next_of(self, allowed: int) -> bool:
        """As `has_next`, of the classes in the bit mask `allowed`."""
        if not self._backlog.has_ready(allowed):
            return False
        if self._gate.has_room_for_retry:
            return True
        return any(self._backlog.depth(cls) for cls in InboundClass if allowed >> cls & 1)

    def take(self) -> Pick:
        record, is_retry = self.take_of(ALL_CLASSES)
        return Pick([Parcel([record], record.body)], is_retry)

    def ended(self, parcel: Parcel) -> None:
        assert not parcel.drops, "a single leaves nothing out"

    def take_of(self, allowed: int) -> tuple[InboundRecord, bool]:
        """The next record of the classes allowed, and whether it has been tried before."""
        delayed = self._backlog.delayed()
        record = self._backlog.take(allowed, prefers_fresh=self._gate.prefers_fresh)
        assert record is not None, "it was ready a moment ago"
        is_retry = self._backlog.delayed() < delayed
        if not is_retry:
            self._waits.note(self._clock.wall_ms() - record.received_ms)
        return record, is_retry


class BatchBounds(NamedTuple):
    """What a batch may hold, and how long the first of it may wait for others while nothing presses."""

    receipts: int
    size_bytes: int
    delay_ms: int


class Batches:
    """Receipts, together with as many others as belong with them."""

    def __init__(
        self,
        singles: Singles,
        backlog: Backlog[InboundRecord],
        composer: Composer,
        gatekeeper: Gatekeeper,
        bounds: BatchBounds,
        clock: Clock,
    ) -> None:
        self._singles = singles
        self._backlog = backlog
        self._composer = composer
        self._gatekeeper = gatekeeper
        self._ladder = gatekeeper.ladder
        self._bounds = bounds
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def has_next(self) -> bool:
        """Receipts that a policy batches wait for company, as long as they are few and young and nothing presses."""
        if self._lingers():
            return self._singles.has_next_of(ALL_CLASSES & ~_RECEIPTS)
        return self._singles.has_next()

    def _lingers(self) -> bool:
        depth = self._backlog.depth(InboundClass.RECEIPT)
        if not depth or not self._ladder.is_at_rest or self._backlog.has_due(InboundClass.RECEIPT):
            return False
        if depth >= self._bounds.receipts or not self._is_any_batched():
            return False
        oldest_ms = self._backlog.first_stamp(InboundClass.RECEIPT)
        left_ms = oldest_ms + self._bounds.delay_ms - self._clock.wall_ms()
        # A wall clock that stepped back must not make them wait longer than they may.
        left_ms = min(left_ms, self._bounds.delay_ms)
        if left_ms <= 0:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left_ms / 1000, self._on_timer)
        return True

    def _on_timer(self) -> None:
        self._timer = None
        self._backlog.wake_all()

    def _is_any_batched(self) -> bool:
        return any(self._ladder.treatment(cls) >= Treatment.BATCH for cls in ReceiptClass)

    def take(self) -> Pick:
        allowed = ALL_CLASSES & ~_RECEIPTS if self._lingers() else ALL_CLASSES
        first, is_retry = self._singles.take_of(allowed)
        now_ms = self._clock.wall_ms()
        found = self._composer.sort(first, now_ms)
        if not found.is_batched:
            return Pick(self._composer.compose([found]), is_retry)
        return Pick(self._composer.compose(self._gather(found, now_ms)), is_retry)

    def ended(self, parcel: Parcel) -> None:
        for drop in parcel.drops:
            self._gatekeeper.count(drop.event, drop.reason)

    def _gather(self, first: Sorted, now_ms: int) -> list[Sorted]:
        """What goes together with `first`; what must go alone is given back, and is the next to be taken."""
        batch = [first]
        strays: list[InboundRecord] = []
        receipts, size_bytes = first.total, len(first.record.body)
        while receipts < self._bounds.receipts and size_bytes < self._bounds.size_bytes:
            record = self._backlog.take(_RECEIPTS)
            if record is None:
                break
            found = self._composer.sort(record, now_ms)
            if found.is_batched:
                batch.append(found)
                receipts += found.total
                size_bytes += len(record.body)
                continue
            strays.append(record)
            if len(strays) == STRAY_MAX:
                break
        now_ns = self._clock.now_ns()
        for record in strays:
            self._backlog.defer(record, now_ns)
        return batch

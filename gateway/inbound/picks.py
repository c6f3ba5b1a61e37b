"""What goes next to a destination: one message after the other, or receipts, many of them together when they are batched.

A pick is taken from the backlog only when the gate is open, so a record is never held while its destination is closed.
"""

import asyncio
from typing import Final, NamedTuple, Protocol

import msgspec

from gateway._fast.ring import EVERY_CLASS
from gateway._fast.sieve import ReceiptSieve
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.events import InboundClass, InboundRecord
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.compose import Composer, Parcel, Sorted
from gateway.inbound.early import EarlyReceipts
from gateway.inbound.gate import Gate
from gateway.store.backlog import Backlog

STRAY_MAX: Final = 64
"""Receipts that must go alone and are given back while a batch is gathered, before the gathering ends."""

_RECEIPTS: Final = 1 << InboundClass.RECEIPT


class Pick(msgspec.Struct, frozen=True):
    """What one worker carries: parcels, one request each, and whether their records have been tried before."""

    parcels: list[Parcel]
    is_retry: bool


NOTHING: Final = Pick([], is_retry=False)


class Picks(Protocol):
    """Where a forwarder gets its work.

    Where `waits` is not None a courier starts by itself what the `sieve` lets through, or without one everything: it is told
    how long each that was never tried has waited.
    """

    @property
    def waits(self) -> LeastWait | None: ...
    @property
    def sieve(self) -> ReceiptSieve | None: ...

    def has_next(self) -> bool:
        """Whether `take` has something to give."""

    def take(self) -> Pick:
        """The next work; none where all that was ready waits for something else."""

    def pick_of(self, record: InboundRecord, is_retry: bool) -> Pick:
        """The same, of a record that was taken; `is_retry`: it has been tried before."""

    def again(self, parcels: list[Parcel]) -> list[Parcel]:
        """What `parcels`, which had to wait, are made of now: in the meantime they may have been overtaken."""

    def ended(self, parcel: Parcel) -> None:
        """A parcel's end is on disk."""


class Singles:
    """One record, one request."""

    sieve: ReceiptSieve | None = None

    def __init__(self, backlog: Backlog[InboundRecord], gate: Gate, waits: LeastWait, clock: Clock) -> None:
        """`waits` is told how long each that was never tried has waited."""
        self._backlog = backlog
        self._gate = gate
        self.waits: LeastWait | None = waits
        self._waits = waits
        self._clock = clock

    def has_next(self) -> bool:
        """When retries hold all their places only what is fresh counts, and whoever ends a retry looks again."""
        return self.has_next_of(EVERY_CLASS)

    def has_next_of(self, allowed: int) -> bool:
        """As `has_next`, of the classes in the bit mask `allowed`."""
        # The same question as `take_of` asks: where they differ a worker goes round and round.
        if self._gate.has_room_for_retry:
            return self._backlog.has_ready(allowed)
        return self._backlog.has_fresh(allowed)

    def take(self) -> Pick:
        taken = self.take_of(EVERY_CLASS)
        if taken is None:
            return NOTHING
        return self.pick_of(*taken)

    def pick_of(self, record: InboundRecord, is_retry: bool) -> Pick:
        return Pick([Parcel([record], record.body)], is_retry)

    def again(self, parcels: list[Parcel]) -> list[Parcel]:
        return parcels

    def ended(self, parcel: Parcel) -> None:
        assert not parcel.drops, "a single leaves nothing out"

    def take_of(self, allowed: int) -> tuple[InboundRecord, bool] | None:
        """The next record of the classes allowed, and whether it has been tried before; None: there is none."""
        gate = self._gate
        record = self._backlog.take(
            allowed, prefers_fresh=gate.prefers_fresh, only_fresh=not gate.has_room_for_retry
        )
        if record is None:
            return None
        is_retry = self._backlog.took_delayed
        if not is_retry:
            self._note_wait(record)
        return record, is_retry

    def take_receipt(self, *, is_retry: bool) -> InboundRecord | None:
        """One more receipt of the same sort: given back and due again, or never given out; None where there is none."""
        if is_retry:
            return self._backlog.take(_RECEIPTS) if self._backlog.has_due(InboundClass.RECEIPT) else None
        record = self._backlog.take(_RECEIPTS, only_fresh=True)
        if record is not None:
            self._note_wait(record)
        return record

    def _note_wait(self, record: InboundRecord) -> None:
        """A probe of a destination in trouble has got nowhere yet, so its wait is not over."""
        if self._gate.breaker.is_closed:
            self._waits.note(self._clock.wall_ms() - record.received_ms)


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
        early: EarlyReceipts | None = None,
        sieve: ReceiptSieve | None = None,
    ) -> None:
        """`early` holds receipts back whose send has no name yet; without one none are.

        `sieve` tells which records need not be looked at here; without one all are.
        """
        self.waits = None if sieve is None else singles.waits
        self.sieve = sieve
        self._singles = singles
        self._backlog = backlog
        self._composer = composer
        self._gatekeeper = gatekeeper
        self._ladder = gatekeeper.ladder
        self._bounds = bounds
        self._early = EarlyReceipts(backlog, clock) if early is None else early
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._first_ms = -1
        """When the receipt that waits for others was accepted."""
        self._lingers_until_ns = 0

    def has_next(self) -> bool:
        """Receipts that a policy batches wait for company, as long as they are few and young and nothing presses."""
        if self._lingers():
            return self._singles.has_next_of(EVERY_CLASS & ~_RECEIPTS)
        return self._singles.has_next()

    def _lingers(self) -> bool:
        depth = self._backlog.depth(InboundClass.RECEIPT)
        if not depth or not self._ladder.is_at_rest or self._backlog.has_due(InboundClass.RECEIPT):
            return False
        # The bytes of what is under way count too: then a batch goes a little early.
        is_full = depth >= self._bounds.receipts or self._backlog.memory_bytes >= self._bounds.size_bytes
        if is_full or not self._ladder.batches_at_rest:
            return False
        self._note_first()
        left_ns = self._lingers_until_ns - self._clock.now_ns()
        if left_ns <= 0:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left_ns / NS_PER_S, self._on_timer)
        return True

    def _note_first(self) -> None:
        """Say until when the first may wait: once, since a wall clock that stepped back would let it wait for ever."""
        first_ms = self._backlog.first_stamp(InboundClass.RECEIPT)
        if first_ms == self._first_ms:
            return
        self._first_ms = first_ms
        waited_ms = max(0, self._clock.wall_ms() - first_ms)
        left_ms = max(0, self._bounds.delay_ms - waited_ms)
        self._lingers_until_ns = self._clock.now_ns() + left_ms * NS_PER_MS

    def _on_timer(self) -> None:
        self._timer = None
        self._backlog.wake_all()

    def take(self) -> Pick:
        allowed = EVERY_CLASS & ~_RECEIPTS if self._lingers() else EVERY_CLASS
        taken = self._singles.take_of(allowed)
        return NOTHING if taken is None else self.pick_of(*taken)

    def pick_of(self, record: InboundRecord, is_retry: bool) -> Pick:
        now_ms = self._clock.wall_ms()
        found = self._composer.sort(record, now_ms)
        if self._early.try_hold(found):
            return NOTHING
        if not found.is_batched:
            return Pick(self._composer.compose([found]), is_retry)
        return Pick(self._composer.compose(self._gather(found, now_ms, is_retry=is_retry)), is_retry)

    def again(self, parcels: list[Parcel]) -> list[Parcel]:
        if all(parcel.body is None for parcel in parcels):
            return parcels
        now_ms = self._clock.wall_ms()
        records = [record for parcel in parcels for record in parcel.records]
        return self._composer.compose([self._composer.sort(record, now_ms) for record in records])

    def ended(self, parcel: Parcel) -> None:
        self._gatekeeper.would_have["age"] += parcel.old
        for drop in parcel.drops:
            self._gatekeeper.count(drop.event, drop.reason)

    def _gather(self, first: Sorted, now_ms: int, *, is_retry: bool) -> list[Sorted]:
        """What goes together with `first`; what must go alone is given back, and is the next to be taken.

        Retries go with retries: what has failed may be the trouble itself, and those it is put with fail with it.
        """
        batch = [first]
        strays: list[InboundRecord] = []
        receipts, size_bytes = first.total, len(first.record.body)
        while receipts < self._bounds.receipts and size_bytes < self._bounds.size_bytes:
            record = self._singles.take_receipt(is_retry=is_retry)
            if record is None:
                break
            found = self._composer.sort(record, now_ms)
            if self._early.try_hold(found):
                continue
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

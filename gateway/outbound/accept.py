"""Sends on their way in: what a request must look like, whether there is room, and that it is stored before 2xx."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.dialects.dialect import Dialect, Push, Refusal
from gateway.errors import StoreError
from gateway.events import Kind, OnUncertain, SendClass, SendRecord
from gateway.outbound.answers import Refusals, Refused
from gateway.outbound.options import Options
from gateway.outbound.queue import SendQueue
from gateway.outbound.waits import Waits
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change, Store, StoredKey
from gateway.store.room import LOW_BYTES, RESERVE_BYTES

PUSHES_FULL: Final = 0.75
"""Share of the store's bound at which pushes are refused: the rest belongs to what comes in."""

RETRY_NEVER_S: Final = 60.0
"""When to come back if what waits will not move, as things are."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken at most."""

    store_max_bytes: int
    queue_max: int
    """Sends waiting, scheduled ones too."""
    ttl_ms: int = 0
    """Of a send whose request says nothing of it; 0: it never expires."""
    wait_max_ms: int = 0
    """Of the wait computed for a send; 0: however long."""


class Accepted(msgspec.Struct, frozen=True):
    """What whoever pushed a send is told."""

    id: str
    position: int | None
    """Sends before it; None: it is scheduled."""
    eta_s: float | None
    """Seconds until it goes, as things are; None: never."""

    @property
    def seq(self) -> int:
        """The sequence number, which the id ends with."""
        return int(self.id.rpartition("-")[2])

    def body(self, dialect: Dialect) -> bytes:
        """The answer to a push of one send."""
        return dialect.accepted_body(self.id, {"position": self.position, "eta_s": self.eta_s})


class Admitted(msgspec.Struct, frozen=True):
    """A send that may be stored."""

    record: SendRecord
    accepted: Accepted


class Acceptor:
    """Admits sends, and stores them."""

    def __init__(
        self,
        store: Store,
        queue: SendQueue,
        bounds: Bounds,
        dialect: Dialect,
        books: Books,
        clock: Clock,
        refusals: Refusals,
        waits: Waits,
    ) -> None:
        self._store = store
        self._queue = queue
        self._bounds = bounds
        self._dialect = dialect
        self._books = books
        self._clock = clock
        self._refusals = refusals
        self._waits = waits
        self._entering = 0
        self.free_bytes: Callable[[], int] = lambda: LOW_BYTES
        """What the disk has left for the store."""
        self.on_uncertain = OnUncertain.RESEND
        """What becomes of a send without an answer, where its request does not say."""

    def full(self, count: int = 1) -> Refused | None:
        """Why `count` sends more are too many now; None: they are not."""
        waiting = self._queue.total() + self._entering
        if waiting + count > self._bounds.queue_max:
            return self._refusals.busy("full", f"{waiting} sends are waiting")
        if self._store.used_bytes() >= self._bounds.store_max_bytes * PUSHES_FULL:
            return self._refusals.busy("full", "the store is full")
        if self.free_bytes() < LOW_BYTES:
            return self._refusals.store(
                StoreError(f"the disk is full: less than {(LOW_BYTES + RESERVE_BYTES) >> 20} MiB are free")
            )
        return None

    def takes_replies(self) -> bool:
        """Whether instant replies are taken: as many may wait, apart from pushes, as `queue_max`."""
        reply = SendClass.REPLY
        return self._queue.depth(reply) + self._queue.on_disk(reply) < self._bounds.queue_max

    def admit(self, body: bytes, options: Options, *, ahead: int = 0, batch: str = "") -> Admitted | Refused:
        """A send request whose shape is right and whose wait is not too long.

        `ahead` sends of its batch go before it.
        """
        push = self._dialect.read_push(body)
        if isinstance(push, Refusal):
            return Refused("invalid", push)
        now_ms = self._clock.wall_ms()
        is_scheduled = options.not_before_ms > now_ms
        position = None if is_scheduled else self._waits.position(options.cls) + ahead
        if position is None:
            eta_s = (options.not_before_ms - now_ms) / 1000
        else:
            eta_s = self._waits.eta_s(position, options.cls)
            if (refused := self._refuse_wait(eta_s, self._ttl_ms(push, options))) is not None:
                return refused
        record = self.new_record(push, body, options, batch)
        told_s = round(eta_s, 1) if math.isfinite(eta_s) else None
        return Admitted(record, Accepted(record.id, position, told_s))

    def _refuse_wait(self, eta_s: float, ttl_ms: int) -> Refused | None:
        for limit_ms, what in (
            (ttl_ms, "it expires"),
            (self._bounds.wait_max_ms, "GATEWAY_SEND_WAIT_MAX ends"),
        ):
            if limit_ms and eta_s * 1000 > limit_ms:
                is_finite = math.isfinite(eta_s)
                would = f"would wait {eta_s:.0f} s" if is_finite else "would not go, as things are,"
                retry_after_s = eta_s - limit_ms / 1000 if is_finite else RETRY_NEVER_S
                details = f"the send {would} and {what} after {limit_ms / 1000:g} s"
                return self._refusals.busy("wait", details, retry_after_s)
        return None

    def _ttl_ms(self, push: Push, options: Options) -> int:
        return options.ttl_ms or push.ttl_ms or self._bounds.ttl_ms

    def new_record(self, push: Push, body: bytes, options: Options, batch: str = "") -> SendRecord:
        """A record for a send accepted now."""
        seq = self._store.next_seq()
        now_ms = self._clock.wall_ms()
        is_scheduled = options.not_before_ms > now_ms
        ttl_ms = self._ttl_ms(push, options)
        starts_ms = options.not_before_ms if is_scheduled else now_ms
        return SendRecord(
            seq,
            self._store.send_id(seq),
            options.cls,
            push.to,
            push.is_group,
            body,
            now_ms,
            mask=options.mask,
            batch=batch,
            not_before_ms=options.not_before_ms if is_scheduled else 0,
            expires_ms=starts_ms + ttl_ms if ttl_ms else 0,
            on_uncertain=self.on_uncertain if options.on_uncertain is None else options.on_uncertain,
            is_scheduled=is_scheduled,
        )

    async def store(self, records: list[SendRecord], keys: Sequence[StoredKey] = ()) -> Refused | None:
        """Store sends, and the keys they came with. Waits for the disk; why it failed, if it did."""
        change = self.add(Change(), records)
        change.keys += keys
        self._entering += len(records)
        try:
            await self._store.submit(change)
        except StoreError as error:
            return self._refusals.store(error)
        finally:
            self._entering -= len(records)
        return None

    def add(self, change: Change, records: list[SendRecord]) -> Change:
        """`change`, with these sends accepted in it: they enter the books and the queue once it is on disk."""
        books = accepted_entries([(Kind.SEND, len(records))])

        def on_commit() -> None:
            self._books.apply(books)
            for record in records:
                if record.is_scheduled:
                    self._queue.schedule(record)
                else:
                    self._queue.push(record)

        change.sends += records
        change.books += books
        change.on_commit.append(on_commit)
        return change

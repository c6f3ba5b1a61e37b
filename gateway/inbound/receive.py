"""A webhook from the node: decode, drop duplicates, charge, store, and only then answer 200.

The answer depends on our disk alone, never on the backend. What can't be stored is refused with 503, and
the node keeps it: receipts first, at `RECEIPTS_FULL` of the store's bound, everything at the bound itself.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gateway._fast.seen import SeenSet, fingerprint
from gateway.clock import Clock
from gateway.dialects.webhook import Event, decode, split
from gateway.errors import NotJsonError, StoreError
from gateway.events import TPS_KIND, InboundClass, InboundRecord, Kind, TpsKind, pack_counts
from gateway.store.backlog import Backlog
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change, Store

RECEIPTS_FULL: Final = 0.9
"""Share of the store's bound at which receipts are refused: the last tenth belongs to messages."""

PENDING_MAX: Final = 4096
"""Webhooks waiting for the disk at once. A node has 32 x 24 in flight at most; more means a stuck disk."""


class Reception:
    """How a webhook is answered."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str = "") -> None:
        self.status = status
        self.reason = reason


_OK: Final = Reception(200)


class Receiver:
    """The door for webhooks. Shared by all connections; its calls are made on the loop."""

    def __init__(
        self,
        store: Store,
        store_max_bytes: int,
        backlogs: Mapping[InboundClass, Backlog[InboundRecord]],
        seen: SeenSet,
        secret: bytes,
        books: Books,
        charge: Callable[[TpsKind, int, int], None],
        clock: Clock,
        tell: Callable[[TpsKind, str, str, int], None] = lambda _kind, _message_id, _participant, _now_ns: (
            None
        ),
    ) -> None:
        """`secret` (16 bytes) keys the fingerprints in `seen`; `charge` enters arrivals into the budget.

        `tell` is told of each receipt that is charged: (kind, WhatsApp's message id, participant, now_ns), once for each
        such three.
        """
        self._store = store
        self._store_max_bytes = store_max_bytes
        self._backlogs = backlogs
        self._seen = seen
        self._secret = secret
        self._books = books
        self._charge = charge
        self._clock = clock
        self._tell = tell
        self.pending = 0
        """Webhooks waiting for the disk."""
        self.webhooks = 0
        self.not_json = 0
        self.unrecognised = 0
        self.duplicates = dict.fromkeys(Kind, 0)
        self.refused: dict[str, int] = {}

    async def receive(self, body: bytes) -> Reception:
        """Take one webhook body. Waits for the disk; returns what to answer, never raises on bad input."""
        now_ns = self._clock.now_ns()
        self.webhooks += 1
        try:
            webhook = decode(body)
        except NotJsonError as error:
            self.not_json += 1
            return Reception(400, str(error))
        if not webhook.events:
            return _OK
        if (refusal := self._refusal(webhook.events)) is not None:
            self.refused[refusal] = self.refused.get(refusal, 0) + 1
            # The number has spent them all the same. Repeats are charged again: that errs on the safe side.
            self._charge_events(webhook.events, now_ns)
            return Reception(503, refusal)
        if not webhook.is_recognised:
            self.unrecognised += 1
        fresh, marks = self._fresh(webhook.events)
        change = self._change(body, webhook.events, fresh, marks)
        # Remembered before it is on disk: if the commit fails the process ends, and this with it.
        for mark in marks:
            self._seen.add(mark)
        self._charge_events(fresh, now_ns)
        self._tell_receipts(fresh, now_ns)
        self.pending += 1
        try:
            # With nothing fresh this is a barrier: the first copy may still be on its way to the disk,
            # and a 200 for the second one promises the first.
            await self._store.submit(change)
        except StoreError as error:
            return Reception(503, str(error))
        finally:
            self.pending -= 1
        return _OK

    def _refusal(self, events: list[Event]) -> str | None:
        if self.pending >= PENDING_MAX:
            return "disk_slow"
        used = self._store.used_bytes()
        if used >= self._store_max_bytes:
            return "store_full"
        is_receipts = all(event.cls is InboundClass.RECEIPT for event in events)
        if is_receipts and used >= self._store_max_bytes * RECEIPTS_FULL:
            return "store_nearly_full"
        return None

    def _fresh(self, events: list[Event]) -> tuple[list[Event], list[int]]:
        """The events not seen before, and the fingerprints of those that have a key."""
        fresh = []
        marks: dict[int, None] = {}
        for event in events:
            if not event.key:
                fresh.append(event)
                continue
            mark = fingerprint(event.key.encode(errors="surrogatepass"), self._secret)
            if mark in self._seen or mark in marks:
                self.duplicates[event.kind] += 1
            else:
                fresh.append(event)
                marks[mark] = None
        return fresh, list(marks)

    def _change(self, body: bytes, events: list[Event], fresh: list[Event], marks: list[int]) -> Change:
        if not fresh:
            return Change()
        received_ms = self._clock.wall_ms()
        records = [
            InboundRecord(
                seq=self._store.next_seq(),
                cls=part.cls,
                lane=part.lane,
                body=part.body,
                counts=pack_counts([event.kind for event in part.events]),
                received_ms=received_ms,
            )
            for part in split(body, fresh, len(events))
        ]
        books = [entry for record in records for entry in accepted_entries(record.kind_counts())]

        def on_commit() -> None:
            self._books.apply(books)
            for record in records:
                self._backlogs[record.cls].push(record)

        fingerprints = b"".join(mark.to_bytes(8, "little") for mark in marks)
        return Change(inbound=records, fingerprints=fingerprints, books=books, on_commit=[on_commit])

    def _charge_events(self, events: list[Event], now_ns: int) -> None:
        for event in events:
            kind = TPS_KIND.get(event.kind)
            if kind is not None:
                self._charge(kind, 1, now_ns)

    def _tell_receipts(self, events: list[Event], now_ns: int) -> None:
        """Each receipt once: what is refused is told when it comes again and is taken."""
        for event in events:
            kind = TPS_KIND.get(event.kind)
            if kind is not None and kind is not TpsKind.RECEIVE:
                self._tell(kind, event.message_id, event.participant, now_ns)

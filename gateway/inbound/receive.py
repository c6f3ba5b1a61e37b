"""A webhook from the node: decode, drop duplicates, charge, store, and only then answer 200.

What is usual is done in one native step (`_fast/intake.pyx`), many webhooks at once; here is what that leaves over, and
what both do: the same, event for event.

The answer depends on our disk alone, never on the backend. What can't be stored is refused with 503, and the node
keeps it: receipts first, when the ladder says so or at `RECEIPTS_FULL` of the store's bound, everything at the bound;
the same where it is the disk that gets full (`store/room.py`).
A receipt that is not admitted (`admit.py`) ends at once; that it came is on disk all the same, before the 200.
What is refused has cost the number its events all the same, once, however often the node repeats it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, cast

from gateway._fast.intake import Intake
from gateway._fast.seen import SeenSet, fingerprint
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_MS, Clock
from gateway.dialects.webhook import Event, decode, split
from gateway.errors import NotJsonError, StoreError
from gateway.events import TPS_KIND, InboundClass, InboundRecord, Kind, Outcome, TpsKind, pack_counts
from gateway.inbound.admit import Drop, Gatekeeper
from gateway.inbound.receipt_book import ReceiptBook
from gateway.store.backlog import Backlog
from gateway.store.books import Books, accepted_entries, book_entry, outcome_entries
from gateway.store.protocol import BookEntry, Change, Store
from gateway.store.room import LOW_BYTES

RECEIPTS_FULL: Final = 0.95
"""Share of the store's bound at which receipts are refused whatever the ladder says: the last belongs to messages."""

PENDING_MAX: Final = 4096
"""Webhooks waiting for the disk at once. A node has 32 x 24 in flight at most; more means a stuck disk."""

CHARGED_MAX: Final = 65_536
"""Refused events that are known to be charged: what 20 TPS bring in 54 minutes, in 1.5 MB. Beyond, a repeat is charged
again, which errs on the safe side."""


class Reception:
    """How a webhook is answered."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str = "") -> None:
        self.status = status
        self.reason = reason


_OK: Final = Reception(200)

_USUAL: Final = {
    Kind.MESSAGE: InboundClass.MESSAGE,
    Kind.SENT: InboundClass.RECEIPT,
    Kind.DELIVERED: InboundClass.RECEIPT,
    Kind.READ: InboundClass.RECEIPT,
    Kind.FAILED: InboundClass.FAILURE,
}
_FORMS: Final = tuple((cls, pack_counts([kind]), TPS_KIND.get(kind), kind) for kind, cls in _USUAL.items())
"""Of a record of each usual kind: its class, its counts, what it is charged as, and the kind."""

Answer = Callable[[Reception], object]


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
        gatekeeper: Gatekeeper,
        receipts: ReceiptBook,
        charge: Callable[[TpsKind, int, int], None],
        clock: Clock,
        tell: Callable[[TpsKind, str, str, int], None] = lambda _kind, _message_id, _participant, _now_ns: (
            None
        ),
    ) -> None:
        """`secret` (16 bytes) keys the fingerprints in `seen`; `charge` enters arrivals into the budget.

        `gatekeeper` says which receipts come in, `receipts` remembers all of them.

        `tell` is told of each receipt that is charged: (kind, WhatsApp's message id, participant, now_ns), once for each
        such three.
        """
        self._store = store
        self._store_max_bytes = store_max_bytes
        self._backlogs = backlogs
        self._seen = seen
        self._secret = secret
        self._books = books
        self._gatekeeper = gatekeeper
        self._receipts = receipts
        self._charge = charge
        self._clock = clock
        self._tell = tell
        self._charged = SeenSet(CHARGED_MAX)
        """Of events that were refused, and charged when they came first."""
        self.free_bytes: Callable[[], int] = lambda: LOW_BYTES
        """What the disk has left for the store."""
        self.waits = LeastWait()
        """For the disk, in ms."""
        self._intake = Intake(
            take_unusual=self._take,
            plain_kinds=self._plain_kinds,
            gather=store.gather,
            make_change=Change,
            next_seq=store.next_seq,
            clock=clock,
            charge=charge,
            tell=tell,
            make_record=InboundRecord,
            entry_of=book_entry,
            note_receipt=receipts.noted,
            refusal_of=_refusal_of,
            ok=_OK,
            books=books.totals,
            waits=self.waits,
            forms=_FORMS,
            backlogs=[backlogs[cls] for cls in InboundClass],
            seen=seen,
            charged=self._charged,
            ledger=receipts.ledger,
            secret=secret,
            pending_max=PENDING_MAX,
        )
        self.take: Callable[[bytes, Answer], None] = self._intake.take
        """Take one webhook body: `take(body, answer)`. `answer` is called once: at once, or when what came is on disk. Never
        raises on bad input."""
        self.not_json = 0
        self.unrecognised = 0
        self.duplicates = dict.fromkeys(Kind, 0)
        self.refused: dict[str, int] = {}

    async def receive(self, body: bytes) -> Reception:
        """As `take`, for whoever can wait."""
        answered: asyncio.Future[Reception] = asyncio.get_running_loop().create_future()
        self.take(body, lambda reception: None if answered.done() else answered.set_result(reception))
        return await answered

    @property
    def webhooks(self) -> int:
        return self._intake.webhooks

    @property
    def pending(self) -> int:
        """Webhooks waiting for the disk."""
        return self._intake.pending

    @property
    def on_webhook(self) -> Callable[[], None]:
        """Called for each, or once for those that come in one turn of the loop."""
        return cast("Callable[[], None]", self._intake.on_webhook)

    @on_webhook.setter
    def on_webhook(self, call: Callable[[], None]) -> None:
        self._intake.on_webhook = call

    # -- the usual ones, in batches

    def _plain_kinds(self) -> int:
        """Which events need no decision now, as `Gatekeeper.plain_kinds`; 0: none."""
        used, free = self._store.used_bytes(), self.free_bytes()
        is_nearly_full = used >= self._store_max_bytes * RECEIPTS_FULL or free < LOW_BYTES
        if is_nearly_full or self._gatekeeper.ladder.would_refuse:
            return 0
        return self._gatekeeper.plain_kinds()

    # -- and each of the others

    def _take(self, body: bytes, answer: Answer, now_ns: int) -> None:
        """Take one webhook that came at `now_ns`, whatever it is."""
        try:
            webhook = decode(body)
        except NotJsonError as error:
            self.not_json += 1
            answer(Reception(400, str(error)))
            return
        if not webhook.events:
            answer(_OK)
            return
        if (refusal := self._refusal(webhook.events)) is not None:
            self.refused[refusal] = self.refused.get(refusal, 0) + 1
            self._charge_refused(webhook.events, now_ns)
            answer(Reception(503, refusal))
            return
        if not webhook.is_recognised:
            self.unrecognised += 1
        fresh, marks = self._fresh(webhook.events)
        change = self._change(body, webhook.events, fresh, marks, Arrival(self, now_ns, answer))
        # Remembered before it is on disk: if the commit fails the process ends, and this with it.
        for mark in marks:
            self._seen.add(mark)
        self._intake.pending += 1
        # With nothing fresh this is a barrier: the first copy may still be on its way to the disk,
        # and a 200 for the second one promises the first.
        self._store.put(change)
        # Only now: a part that fails must not keep from the disk what is remembered.
        self._charge_and_tell(fresh, now_ns)

    def _refusal(self, events: list[Event]) -> str | None:
        if self.pending >= PENDING_MAX:
            return "disk_slow"
        used, free = self._store.used_bytes(), self.free_bytes()
        if used >= self._store_max_bytes:
            return "store_full"
        if not free:
            return "disk_full"
        ladder = self._gatekeeper.ladder
        is_nearly_full = used >= self._store_max_bytes * RECEIPTS_FULL or free < LOW_BYTES
        if not (is_nearly_full or ladder.would_refuse):
            return None
        if any(event.cls is not InboundClass.RECEIPT for event in events):
            return None
        if is_nearly_full:
            return "store_nearly_full"
        if ladder.refuses:
            return "overload"
        self._gatekeeper.would_have["refuse"] += len(events)
        return None

    def _fresh(self, events: list[Event]) -> tuple[list[Event], list[int]]:
        """The events not seen before, and the fingerprints of those that have a key."""
        fresh = []
        marks: dict[int, None] = {}
        for event in events:
            if not event.key:
                fresh.append(event)
                continue
            mark = self._mark(event)
            if mark in self._seen or mark in marks:
                self.duplicates[event.kind] += 1
            else:
                fresh.append(event)
                marks[mark] = None
        return fresh, list(marks)

    def _mark(self, event: Event) -> int:
        return fingerprint(event.key.encode(errors="surrogatepass"), self._secret)

    def _uncharged(self, events: list[Event]) -> list[Event]:
        """Those that were not charged when they were refused. Without a key nobody can tell."""
        if not self._charged:  # nothing has been refused, as usual: that costs nothing here
            return events
        return [event for event in events if not event.key or self._mark(event) not in self._charged]

    def _charge_refused(self, events: list[Event], now_ns: int) -> None:
        """Charge what has come for the first time, and know it when it is repeated."""
        fresh = []
        for event in events:
            if event.key:
                mark = self._mark(event)
                if mark in self._seen or not self._charged.add(mark):
                    continue
            fresh.append(event)
        self._charge_events(fresh, now_ns)

    def _change(
        self, body: bytes, events: list[Event], fresh: list[Event], marks: list[int], arrival: "Arrival"
    ) -> Change:
        change = Change(on_commit=[arrival.stored], on_failure=[arrival.failed])
        if not fresh:
            return change
        received_ms = self._clock.wall_ms()
        kept, arrival.drops = self._admit(fresh)
        for part in split(body, kept, len(events)) if kept else ():
            counts = pack_counts([event.kind for event in part.events])
            record = InboundRecord(
                self._store.next_seq(), part.cls, part.lane, part.body, counts, received_ms
            )
            arrival.records.append(record)
            change.books += accepted_entries(record.kind_counts())
        if arrival.drops:
            dropped = Counter(drop.event.kind for drop in arrival.drops).items()
            change.books += accepted_entries(dropped) + outcome_entries(dropped, Outcome.SHED)
        arrival.books = change.books
        change.inbound = arrival.records
        change.fingerprints = b"".join([mark.to_bytes(8, "little") for mark in marks])
        change.ledger_items = self._receipts.note(fresh, received_ms)
        return change

    def note_stored(self, arrival: "Arrival") -> None:
        """What came is on disk: it is in the books, and waits for its turn."""
        self._books.apply(arrival.books)
        for drop in arrival.drops:
            self._gatekeeper.count(drop.event, drop.reason)
        for record in arrival.records:
            self._backlogs[record.cls].push(record)
        self._intake.pending -= 1
        self.waits.note((self._clock.now_ns() - arrival.now_ns) / NS_PER_MS)
        arrival.answer(_OK)

    def note_failed(self, arrival: "Arrival", error: StoreError) -> None:
        """What came can't be stored: the node keeps it."""
        self._intake.pending -= 1
        arrival.answer(_refusal_of(error))

    def _admit(self, fresh: list[Event]) -> tuple[list[Event], list[Drop]]:
        """What goes on to the backend, and what ends here."""
        kept = []
        drops = []
        for event in fresh:
            reason = self._gatekeeper.reason_to_drop(event)
            if reason is None:
                kept.append(event)
            else:
                drops.append(Drop(event, reason))
        return kept, drops

    def _charge_events(self, events: list[Event], now_ns: int) -> None:
        for event in events:
            kind = TPS_KIND.get(event.kind)
            if kind is not None:
                self._charge(kind, 1, now_ns)

    def _charge_and_tell(self, events: list[Event], now_ns: int) -> None:
        """What is taken: charged once, also where it was refused before; told once, and not when it was refused."""
        self._charge_events(self._uncharged(events), now_ns)
        for event in events:
            kind = TPS_KIND.get(event.kind)
            if kind is not None and kind is not TpsKind.RECEIVE:
                self._tell(kind, event.message_id, event.participant, now_ns)


def _refusal_of(error: StoreError) -> Reception:
    return Reception(503, str(error))


class Arrival:
    """A webhook on its way to the disk."""

    __slots__ = ("_receiver", "answer", "books", "drops", "now_ns", "records")

    def __init__(self, receiver: Receiver, now_ns: int, answer: Answer) -> None:
        self._receiver = receiver
        self.now_ns = now_ns
        self.answer = answer
        self.records: list[InboundRecord] = []
        self.drops: list[Drop] = []
        self.books: list[BookEntry] = []

    def stored(self) -> None:
        self._receiver.note_stored(self)

    def failed(self, error: StoreError) -> None:
        self._receiver.note_failed(self, error)

"""What the gateway asks of a store, so that an engine for many machines can stand in SQLite's place.

The order of the fields of what is stored is that of its form on disk (`change_codec.py`): new ones come last.
"""

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord, Side

Place = tuple[int, int]
"""Where a record waits: its class and its sequence number."""


class Sync(enum.Enum):
    """How far a change has got when it is said to be stored."""

    FULL = "full"
    """On disk: it survives a power cut."""
    OS = "os"
    """With the kernel: it survives the end of the process."""
    OFF = "off"
    """In memory alone: it survives nothing."""


class BookEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`count` items of `kind` were accepted (`outcome` None), or ended so."""

    kind: Kind
    outcome: Outcome | None
    count: int


class Parked(msgspec.Struct, frozen=True, array_like=True):
    """A dead letter: a record that was given up, kept with its body for the operator, out of the queue."""

    record: InboundRecord | SendRecord
    reason: str
    answer: bytes
    """The last answer, or its beginning; empty for a send, whose reason has what the node said."""
    parked_ms: int

    @property
    def side(self) -> Side:
        return Side.INBOUND if isinstance(self.record, InboundRecord) else Side.OUTBOUND

    @property
    def contact(self) -> str:
        return self.record.lane if isinstance(self.record, InboundRecord) else self.record.to

    @property
    def accepted_ms(self) -> int:
        record = self.record
        return record.received_ms if isinstance(record, InboundRecord) else record.accepted_ms


class ParkedQuery(msgspec.Struct, frozen=True):
    """Which dead letters are meant: all of which everything holds that is given."""

    side: Side | None = None
    seq: int | None = None
    contact: str | None = None
    """The whole name."""
    reason: str | None = None
    """A part of it, in any case."""
    parked_from_ms: int | None = None
    """Wall clock, that moment included; below, it is not."""
    parked_before_ms: int | None = None
    upto_seq: int | None = None


class ParkedCount(msgspec.Struct, frozen=True):
    """How many dead letters of a side there are, and when the first of them was parked."""

    count: int
    oldest_ms: int


class Settled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A send that ended: its row leaves the queue and its status can be asked for a while.

    One that FAILED becomes a dead letter too.
    """

    record: SendRecord
    outcome: Outcome
    node_id: str
    reason: str
    settled_ms: int


class StoredKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `Idempotency-Key` that was used, and what the first request with it was told."""

    key: str
    digest: bytes
    """Of everything else in that request."""
    answer: bytes
    at_ms: int
    """When it was stored (wall clock)."""


class Change(msgspec.Struct):
    """Everything one decision changes on disk, or some that came together: stored whole or not at all."""

    inbound: list[InboundRecord] = []
    fingerprints: bytes = b""
    """Of the events in `inbound`, little-endian u64 each, remembered against duplicates."""
    inbound_done: list[InboundRecord] = []
    parked: list[Parked] = []
    """They leave the queue."""
    unparked: list[int] = []
    """Sequence numbers of dead letters that are no more: discarded, or accepted anew by the same change."""
    sends: list[SendRecord] = []
    sends_tried: list[SendRecord] = []
    """Sends that go on waiting, whose `attempts` and `is_uncertain` have changed."""
    settled: list[Settled] = []
    keys: list[StoredKey] = []
    """Each takes the place of an older one of its name."""
    books: list[BookEntry] = []
    ledger_items: bytes = b""
    """What is entered in the receipt ledger by it, as `ReceiptLedger.apply_log` reads it."""
    ledger_pages: list[tuple[int, bytes]] | None = None
    """A checkpoint: the pages changed since the last one, with all items of the changes submitted before."""
    ledger_resets: bool = False
    """Whether the checkpoint takes the place of all pages there were, not only of those it brings."""
    notes: dict[str, bytes] = {}
    """A few bytes by name, kept until they are written again: what a part must know after a restart."""
    on_commit: list[Callable[[], None]] = []
    """Run on the loop once the change is on disk, before anything that waits for it, in order of submission."""
    on_failure: list[Callable[[StoreError], None]] = []
    """Run on the loop when it can't be stored, with the reason: these, or those of `on_commit`."""
    size: int = 1
    """Of how many events it is."""


class SendStatus(msgspec.Struct, frozen=True):
    """What is known of one send."""

    id: str
    state: str
    """`queued`, `scheduled`, or the outcome: `sent`, `failed`, `expired`, `cancelled`."""
    cls: SendClass
    to: str
    accepted_ms: int
    attempts: int
    is_uncertain: bool
    node_id: str = ""
    reason: str = ""
    settled_ms: int | None = None
    is_group: bool | None = None
    """None: not known any more of one that has ended."""
    batch: str = ""
    not_before_ms: int = 0
    expires_ms: int = 0
    mask: int = 0
    """Which of its receipts are wanted; not known any more of one that has ended."""

    @property
    def seq(self) -> int:
        """Its sequence number, which its id ends with."""
        return int(self.id.rpartition("-")[2])

    @property
    def is_waiting(self) -> bool:
        """Whether it has not ended."""
        return self.settled_ms is None


class BatchStatus(msgspec.Struct, frozen=True):
    """What is known of the sends of one batch."""

    counts: dict[str, int]
    """Of all that are remembered, by state; empty: none is."""
    sends: list[SendStatus]
    """A page of them, in order."""


class RecentSends(msgspec.Struct, frozen=True):
    """How often one recipient was written to lately."""

    to: str
    attempts: int
    last_ms: int
    """When the last of these sends was settled (wall clock)."""


class MemoryLimits(msgspec.Struct, frozen=True):
    """What the store may forget: things older than a time (wall clock, ms), or beyond a number."""

    seen_before_ms: int
    seen_max: int
    sent_before_ms: int
    parked_max: int
    keys_before_ms: int = 0
    keys_max: int = 1 << 48


class Recovered(msgspec.Struct):
    """What a store held when it was opened."""

    next_seq: int
    inbound_counts: dict[InboundClass, int]
    """Records waiting."""
    inbound_kinds: dict[InboundClass, dict[Kind, int]]
    """Events in the records waiting, by the class of their record."""
    send_counts: dict[SendClass, int]
    books: list[BookEntry]
    fingerprints: bytes
    """Oldest first."""
    ledger_pages: list[tuple[int, bytes]]
    """Of the last checkpoint."""
    ledger_items: bytes
    """What came after it, in order."""
    notes: dict[str, bytes]
    recent: list[RecentSends]
    """Who was written to lately, oldest first: as far back as was asked for when the store was opened."""
    scheduled_counts: dict[SendClass, int] = {}
    """Sends whose time has not come; they are not in `send_counts`."""


def awaited(change: Change) -> asyncio.Future[None]:
    """A future of what becomes of `change`, which is put after this."""
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    change.on_commit.append(lambda: None if stored.done() else stored.set_result(None))
    change.on_failure.append(lambda error: None if stored.done() else stored.set_exception(error))
    return stored


class Store(Protocol):
    """A durable home for records. One owner at a time; calls are made on the loop."""

    def next_seq(self) -> int:
        """A sequence number never given before in the life of the store."""

    def put(self, change: Change, *, can_wait: bool = False) -> None:
        """Queue `change` for the next group commit, which its own callbacks tell of.

        `can_wait`: nobody is kept waiting by some tens of ms, in which it may share the commit of something else.
        """

    def hurry(self) -> None:
        """Let what was put and could wait do so no longer."""

    def gather(self, make: Callable[[], Change], *, can_wait: bool = False) -> None:
        """As `put`, of the change that `make` gives when what came in this turn of the loop is taken together.

        `make` is called once, at once or later, but before anything that is put after this is taken. So whoever has many
        small changes, one after the other, makes one of them.
        """

    def submit(self, change: Change) -> asyncio.Future[None]:
        """As `put`, and a future that is done when it is on disk.

        Raises StoreError (from the future) when the disk failed; the store takes nothing more then.
        """

    async def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        """Waiting records of a class with a higher sequence number, in order; fewer where they are large."""

    async def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        """Waiting sends of a class with a higher sequence number, in order; fewer where they are large."""

    async def find_inbound(self, places: Sequence[Place]) -> list[InboundRecord]:
        """Those waiting records that are in these places, in the order of their numbers; fewer where they are large."""

    async def find_sends(self, places: Sequence[Place]) -> list[SendRecord]:
        """The same of sends; those whose time has not come are in none."""

    async def find_send(self, send_id: str) -> SendStatus | None:
        """The status of a send, while it is remembered."""

    async def find_send_named(self, node_id: str) -> SendStatus | None:
        """The same by the id that WhatsApp gave it."""

    async def find_batch(self, batch: str, after_seq: int, limit: int) -> BatchStatus:
        """The sends of a batch, and as a page those with a higher sequence number."""

    async def reclass_sends(
        self, seqs: Sequence[int], old: SendClass, new: SendClass, *, is_scheduled: bool = False
    ) -> list[SendRecord]:
        """Move waiting sends to another class, all at once on disk, and return them; without those that don't wait in `old`."""

    async def read_expiring(self, limit: int) -> list[SendStatus]:
        """Waiting sends that have a time to live, scheduled ones too: those that expire first."""

    async def read_scheduled(self, cls: SendClass, limit: int) -> list[SendRecord]:
        """Scheduled sends of a class, those due first first; fewer where they are large."""

    async def start_sends(self, records: Sequence[SendRecord]) -> None:
        """Scheduled sends are due: on disk they wait in the line of their class now."""

    async def find_keys(self, keys: Sequence[str]) -> list[StoredKey]:
        """Those of the keys that are remembered."""

    async def read_parked(self, query: ParkedQuery, after_seq: int, limit: int) -> list[Parked]:
        """Dead letters with a higher sequence number, in order; fewer where they are large."""

    def parked_counts(self) -> Mapping[Side, ParkedCount]:
        """What dead letters there are, of the sides that have any, as of the last commit."""

    def parked_dropped(self) -> int:
        """Dead letters that left to make room, since the store was opened."""

    async def forget(self, limits: MemoryLimits) -> bool:
        """Drop what has been remembered long enough, a bounded piece at a time; whether there is more."""

    def send_id(self, seq: int) -> str:
        """The id of the send with this sequence number."""

    def used_bytes(self) -> int:
        """What the store holds on disk as of the last commit."""


class OpenStore(Store, Protocol):
    """A store as it was opened: with what it held then, and what is asked of the whole of it."""

    secret: bytes
    """16 bytes, made with the store and kept in it; they key the fingerprints."""
    recovered: Recovered

    def oldest_wait_ms(self) -> float:
        """How long a change has been waiting for its commit, at least; 0 when none waits."""

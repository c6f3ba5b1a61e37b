"""What the gateway asks of a store, so that an engine for many machines can stand in SQLite's place."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord


class BookEntry(msgspec.Struct, frozen=True):
    """`count` items of `kind` were accepted (`outcome` None), or ended so."""

    kind: Kind
    outcome: Outcome | None
    count: int


class Parked(msgspec.Struct, frozen=True):
    """A record the backend refused for good: kept for the operator, out of the queue."""

    record: InboundRecord
    reason: str
    answer: bytes
    parked_ms: int


class Settled(msgspec.Struct, frozen=True):
    """A send that ended: its row leaves the queue and its status can be asked for a while."""

    record: SendRecord
    outcome: Outcome
    node_id: str
    reason: str
    settled_ms: int


class Change(msgspec.Struct):
    """Everything one decision changes on disk: stored whole or not at all."""

    inbound: list[InboundRecord] = []
    fingerprints: bytes = b""
    """Of the events in `inbound`, little-endian u64 each, remembered against duplicates."""
    inbound_done: list[InboundRecord] = []
    parked: list[Parked] = []
    sends: list[SendRecord] = []
    sends_tried: list[SendRecord] = []
    """Sends that go on waiting, whose `attempts` and `is_uncertain` have changed."""
    settled: list[Settled] = []
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


class SendStatus(msgspec.Struct, frozen=True):
    """What is known of one send."""

    id: str
    state: str
    """`queued`, or the outcome: `sent`, `failed`, `expired`, `cancelled`."""
    cls: SendClass
    to: str
    accepted_ms: int
    attempts: int
    is_uncertain: bool
    node_id: str = ""
    reason: str = ""
    settled_ms: int | None = None


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


class Store(Protocol):
    """A durable home for records. One owner at a time; calls are made on the loop."""

    def next_seq(self) -> int:
        """A sequence number never given before in the life of the store."""

    def submit(self, change: Change) -> asyncio.Future[None]:
        """Queue `change` for the next group commit. The future is done when it is on disk.

        Raises StoreError (from the future) when the disk failed; the store takes nothing more then.
        """

    async def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        """Waiting records of a class with a higher sequence number, in order; fewer where they are large."""

    async def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        """Waiting sends of a class with a higher sequence number, in order; fewer where they are large."""

    async def find_send(self, send_id: str) -> SendStatus | None:
        """The status of a send, while it is remembered."""

    async def reclass_send(self, seq: int, old: SendClass, new: SendClass) -> SendRecord | None:
        """Move a waiting send to another class, on disk, and return it; None when it does not wait in `old`."""

    async def forget(self, limits: MemoryLimits) -> bool:
        """Drop what has been remembered long enough, a bounded piece at a time; whether there is more."""

    def send_id(self, seq: int) -> str:
        """The id of the send with this sequence number."""

    def used_bytes(self) -> int:
        """What the store holds on disk as of the last commit."""

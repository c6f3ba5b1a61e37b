"""Many changes as one entry of the redo log: what all of them do together, as bytes and back. Their callbacks are not in it.

One entry for all changes of a commit, because what one event changes is little: its own form on disk and its own way back
would cost more than the event.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.events import InboundRecord, Kind, Outcome, SendRecord
from gateway.store.protocol import Change, Parked, Settled, StoredKey
from gateway.store.sqlite_schema import ACCEPTED, row_key


class Entry(msgspec.Struct, array_like=True):
    """What changes do together, in this order on disk; at the end more may be added, with defaults."""

    inbound: list[InboundRecord] = []
    done: list[int] = []
    """Row keys of records whose end leaves nothing behind."""
    fingerprints: bytes = b""
    books: list[tuple[int, int, int]] = []
    """Kind, outcome (or ACCEPTED), and how many."""
    ledger_items: bytes = b""
    """What came after `ledger_pages`."""
    ledger_pages: dict[int, bytes] | None = None
    ledger_resets: bool = False
    parked: list[Parked] = []
    unparked: list[int] = []
    sends: list[SendRecord] = []
    sends_tried: list[SendRecord] = []
    settled: list[Settled] = []
    keys: list[StoredKey] = []
    notes: dict[str, bytes] = {}


def merge(changes: Iterable[Change]) -> Entry:
    """What `changes` do, one after the other."""
    entry = Entry()
    fingerprints: list[bytes] = []
    ledger_items: list[bytes] = []
    books: dict[tuple[Kind, Outcome | None], int] = {}
    # Most changes are of few fields: a look at an empty one costs half of adding it.
    for change in changes:
        if change.inbound:
            entry.inbound += change.inbound
        for record in change.inbound_done:
            entry.done.append(row_key(record.cls, record.seq))
        if change.fingerprints:
            fingerprints.append(change.fingerprints)
        for book in change.books:
            place = book.kind, book.outcome
            books[place] = books.get(place, 0) + book.count
        if change.ledger_pages is not None:
            ledger_items.clear()
            if change.ledger_resets or entry.ledger_pages is None:
                entry.ledger_pages = {}
            entry.ledger_pages.update(change.ledger_pages)
            entry.ledger_resets |= change.ledger_resets
        if change.ledger_items:
            ledger_items.append(change.ledger_items)
        if change.parked:
            entry.parked += change.parked
        if change.unparked:
            entry.unparked += change.unparked
        if change.sends:
            entry.sends += change.sends
        if change.sends_tried:
            entry.sends_tried += change.sends_tried
        if change.settled:
            entry.settled += change.settled
        if change.keys:
            entry.keys += change.keys
        if change.notes:
            entry.notes.update(change.notes)
    entry.fingerprints = b"".join(fingerprints)
    entry.ledger_items = b"".join(ledger_items)
    entry.books = [
        (kind, ACCEPTED if outcome is None else outcome, count) for (kind, outcome), count in books.items()
    ]
    return entry


encode: Final = msgspec.msgpack.Encoder().encode
"""An entry as bytes."""

decode: Final = msgspec.msgpack.Decoder(Entry).decode
"""And back. Raises msgspec.DecodeError for what `encode` has not made."""

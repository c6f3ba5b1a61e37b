"""A fixed story of a store that touches every table, and a store file as plain rows to compare."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from builders import WALL_MS, inbound, parked, send, settled

from gateway.events import InboundClass, Kind, Outcome, SendClass, SendRecord, unpack_counts
from gateway.store.books import accepted_entries, outcome_entries
from gateway.store.protocol import BookEntry, Change, MemoryLimits, StoredKey
from gateway.store.sqlite_store import SqliteStore

Step = Callable[[SqliteStore], Awaitable[object]]
Rows = dict[str, list[tuple[Any, ...]]]

MESSAGE, FAILURE, RECEIPT = InboundClass
_OWN_FACTS: Final = ("opened", "store_id", "secret", "redo")
"""Of `meta`: they differ from store to store, and by when the log was checked in."""


def rows_of(db: sqlite3.Connection) -> Rows:
    """Everything in a store, by table, but what makes it this one, and how many commits a row was made of."""
    names = [
        name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    ]
    found = {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    found["meta"] = [row for row in found["meta"] if row[0] not in _OWN_FACTS]
    found["waiting"] = [row for row in found["waiting"] if row[-1]]
    for table, column, order in (("seen", "fingerprints", "upto"), ("ledger_log", "items", "id")):
        found[table] = [
            (b"".join(row[0] for row in db.execute(f"SELECT {column} FROM {table} ORDER BY {order}")),)
        ]
    return found


def rows_in(path: Path) -> Rows:
    """Everything in the store file `path`, which nobody has open."""
    db = sqlite3.connect(path)
    try:
        return rows_of(db)
    finally:
        db.close()


def _submit(change: Change) -> Step:
    return lambda store: store.submit(change)


def _accept_inbound(*records: Any, marks: bytes = b"", items: bytes = b"", shed: int = 0) -> Step:
    books = [entry for record in records for entry in accepted_entries(record.kind_counts())]
    if shed:
        books += [BookEntry(Kind.READ, None, shed), BookEntry(Kind.READ, Outcome.SHED, shed)]
    return _submit(Change(inbound=[*records], fingerprints=marks, ledger_items=items, books=books))


def _accept_sends(*records: SendRecord, keys: list[StoredKey] | None = None) -> Step:
    return _submit(
        Change(sends=[*records], keys=keys or [], books=accepted_entries([(Kind.SEND, len(records))]))
    )


def _settle(record: SendRecord, outcome: Outcome, items: bytes = b"") -> Step:
    ended = Change(
        settled=[settled(record, outcome)],
        books=outcome_entries([(Kind.SEND, 1)], outcome),
        ledger_items=items,
    )
    return _submit(ended)


def _changed(record: SendRecord, **fields: Any) -> SendRecord:
    return msgspec.structs.replace(record, **fields)


def scenario() -> list[Step]:
    """Webhooks, pushes, retries, ends, dead letters, moves, the ledger's checkpoint and the clean-up, one call each."""
    # Bodies over a page, so that the log is long enough to be checked into the file on the way.
    message = inbound(1, body=b"m" * 9000)
    mixed, receipts = inbound(2, kinds=[Kind.MESSAGE] * 2), inbound(3, RECEIPT, [Kind.READ, Kind.DELIVERED])
    refused = inbound(4, FAILURE, [Kind.FAILED], body=b"f" * 5000)
    sends = [send(5, SendClass.NORMAL, body=b"s" * 6000), send(6, SendClass.BULK), send(7, SendClass.REPLY)]
    later = _changed(send(8, SendClass.HIGH), not_before_ms=WALL_MS + 1, is_scheduled=True, batch="b1")
    tried = _changed(sends[1], attempts=1, is_uncertain=True)
    key = StoredKey("key", b"digest", b"answer", WALL_MS)
    fresh = inbound(9, body=b"n" * 20_000)
    return [
        _accept_inbound(message, marks=b"12345678", items=b"i" * 16),
        _accept_inbound(mixed, receipts, marks=b"abcdefgh" * 2, shed=3),
        _accept_sends(sends[0], later, keys=[key]),
        _accept_sends(*sends[1:]),
        _submit(Change(sends_tried=[tried], notes={"ceiling": b"half"})),
        _submit(
            Change(inbound_done=[message], books=outcome_entries([(Kind.MESSAGE, 1)], Outcome.DELIVERED))
        ),
        _settle(sends[0], Outcome.DELIVERED, items=b"j" * 16),
        _accept_inbound(refused, marks=b"refused!"),
        _submit(Change(parked=[parked(refused)], books=outcome_entries([(Kind.FAILED, 1)], Outcome.FAILED))),
        lambda store: store.reclass_sends([6], SendClass.BULK, SendClass.HIGH),
        _settle(sends[2], Outcome.FAILED),
        _submit(Change(ledger_pages=[(0, b"p" * 3000), (1, b"q" * 3000)])),
        lambda store: store.start_sends([later]),
        _accept_inbound(fresh, marks=b"freshone", items=b"k" * 16),
        lambda store: store.forget(MemoryLimits(WALL_MS, 0, WALL_MS + 1, 1)),
        _submit(Change(ledger_pages=[(0, b"r" * 3000)], ledger_items=b"l" * 16)),
        _settle(_changed(tried, cls=SendClass.HIGH, attempts=2), Outcome.DELIVERED),
    ]


def book_differences(rows: Rows) -> dict[int, int]:
    """Accepted less ended less waiting, by kind, where that is not 0. Waiting is what the tables hold."""
    sums: dict[int, int] = {}
    for kind, outcome, count in rows["book"]:
        sums[kind] = sums.get(kind, 0) + (count if outcome < 0 else -count)
    for _key, _lane, _body, counts, _received_ms in rows["inbound"]:
        for waiting, count in unpack_counts(counts):
            sums[waiting] = sums.get(waiting, 0) - count
    sums[Kind.SEND] = sums.get(Kind.SEND, 0) - len(rows["send"])
    return {kind: off for kind, off in sums.items() if off}

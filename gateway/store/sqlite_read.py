"""Rows back into what they stand for: what a start must know, and pages of what waits."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord, unpack_counts
from gateway.store.protocol import BookEntry, Place, RecentSends, Recovered
from gateway.store.sqlite_schema import (
    ACCEPTED,
    NOTE_PREFIX,
    SCHEDULED,
    SEND_COLUMNS,
    SEQ_MASK,
    class_of,
    meta,
    row_key,
    send_of,
    seq_of,
)

PAGE_MAX_BYTES: Final = 4 << 20
"""Of bodies in one page read back; the row that reaches it is the last."""

_INBOUND: Final = "key, lane, body, counts, received_ms"

RECENT_ROWS_MAX: Final = 200_000
"""Finished sends looked at, newest first, to tell who was written to lately: 270 s at 740 a second."""
RECENT_RECIPIENTS_MAX: Final = 100_000
"""As many as the pair limit remembers."""


def recover(db: sqlite3.Connection, now_ms: int, recent_ms: int) -> Recovered:
    """Everything that must be known before work starts. What waits costs nothing here, however much it is.

    `recent` goes back `recent_ms` from `now_ms` (wall clock).
    """
    inbound_counts = dict.fromkeys(InboundClass, 0)
    send_counts, scheduled_counts = dict.fromkeys(SendClass, 0), dict.fromkeys(SendClass, 0)
    kinds: dict[InboundClass, dict[Kind, int]] = {cls: {} for cls in InboundClass}
    for queue, cls, counts, rows in db.execute("SELECT queue, cls, counts, rows FROM waiting"):
        if queue == "send":
            of_time = scheduled_counts if cls >= SCHEDULED else send_counts
            of_time[SendClass(cls % SCHEDULED)] += rows
            continue
        inbound_counts[InboundClass(cls)] += rows
        of_class = kinds[InboundClass(cls)]
        for kind, n in unpack_counts(counts) if rows else ():
            of_class[kind] = of_class.get(kind, 0) + n * rows
    books = [
        BookEntry(Kind(kind), None if outcome == ACCEPTED else Outcome(outcome), count)
        for kind, outcome, count in db.execute("SELECT kind, outcome, count FROM book")
    ]
    notes = db.execute("SELECT name, value FROM meta WHERE name GLOB ?", (f"{NOTE_PREFIX}*",))
    return Recovered(
        next_seq=int(meta(db, "seq", 0)) + 1,
        inbound_counts=inbound_counts,
        inbound_kinds=kinds,
        send_counts=send_counts,
        books=books,
        fingerprints=b"".join(row[0] for row in db.execute("SELECT fingerprints FROM seen ORDER BY upto")),
        ledger_pages=db.execute("SELECT number, page FROM ledger_page ORDER BY number").fetchall(),
        ledger_items=b"".join(row[0] for row in db.execute("SELECT items FROM ledger_log ORDER BY id")),
        notes={name.removeprefix(NOTE_PREFIX): note for name, note in notes},
        recent=_recent_sends(db, now_ms, recent_ms) if recent_ms else [],
        scheduled_counts=scheduled_counts,
    )


def _recent_sends(db: sqlite3.Connection, now_ms: int, recent_ms: int) -> list[RecentSends]:
    query = """
        SELECT recipient, sum(attempts), max(settled_ms) FROM (
            SELECT recipient, attempts, settled_ms FROM sent
            WHERE settled_ms BETWEEN ? AND ? ORDER BY settled_ms DESC LIMIT ?
        ) WHERE attempts > 0 GROUP BY recipient ORDER BY 3 DESC LIMIT ?
    """
    # What is later than now was settled before the clock was set back. If it was set back far, nobody knows when.
    span = (now_ms - recent_ms, now_ms + recent_ms)
    rows = db.execute(query, (*span, RECENT_ROWS_MAX, RECENT_RECIPIENTS_MAX)).fetchall()
    return [RecentSends(*row) for row in reversed(rows)]


def read_inbound(
    db: sqlite3.Connection, cls: InboundClass, after_seq: int, limit: int
) -> list[InboundRecord]:
    """Waiting records of a class, in order."""
    return [_inbound_of(row) for row in _read_class(db, "inbound", _INBOUND, cls, after_seq, limit)]


def find_inbound(db: sqlite3.Connection, places: Sequence[Place]) -> list[InboundRecord]:
    """Waiting records by their places, in order."""
    return [_inbound_of(row) for row in _read_places(db, "inbound", _INBOUND, places)]


def _inbound_of(row: Sequence[Any]) -> InboundRecord:
    key, lane, body, counts, received_ms = row
    return InboundRecord(seq_of(key), InboundClass(class_of(key)), lane, body, counts, received_ms)


def read_sends(
    db: sqlite3.Connection, store_id: str, cls: SendClass, after_seq: int, limit: int
) -> list[SendRecord]:
    """Waiting sends of a class, in order."""
    rows = _read_class(db, "send", f"key, {SEND_COLUMNS}", cls, after_seq, limit)
    return [send_of(store_id, key, row) for key, *row in rows]


def find_sends(db: sqlite3.Connection, store_id: str, places: Sequence[Place]) -> list[SendRecord]:
    """Waiting sends by their places, in order."""
    rows = _read_places(db, "send", f"key, {SEND_COLUMNS}", places)
    return [send_of(store_id, key, row) for key, *row in rows]


def _read_class(
    db: sqlite3.Connection, table: str, columns: str, cls: int, after_seq: int, limit: int
) -> list[Any]:
    query = f"SELECT length(body), {columns} FROM {table} WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
    return _page(db.execute(query, (row_key(cls, after_seq), row_key(cls + 1, 0), limit)))


def _read_places(db: sqlite3.Connection, table: str, columns: str, places: Sequence[Place]) -> list[Any]:
    """Each by its key, so that it costs the same however much else waits."""
    marks = ",".join("?" * len(places))
    query = f"SELECT length(body), {columns} FROM {table} WHERE key IN ({marks}) ORDER BY key & {SEQ_MASK}"
    return _page(db.execute(query, [row_key(*place) for place in places]))


def _page(found: sqlite3.Cursor) -> list[Any]:
    """Rows, but no more than a page holds."""
    rows: list[Any] = []
    page_bytes = 0
    for body_bytes, *row in found:
        rows.append(row)
        page_bytes += body_bytes
        if page_bytes >= PAGE_MAX_BYTES:
            break
    return rows

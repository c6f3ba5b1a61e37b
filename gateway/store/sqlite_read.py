"""Rows back into what they stand for: what a start must know, pages of what waits, and one send."""

import sqlite3
from typing import Any, Final

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord, unpack_counts
from gateway.store.protocol import BookEntry, RecentSends, Recovered, SendStatus
from gateway.store.sqlite_schema import (
    ACCEPTED,
    CLASS_SHIFT,
    NOTE_PREFIX,
    SEND_COLUMNS,
    meta,
    row_key,
    send_id,
    send_of,
    seq_of,
)

PAGE_MAX_BYTES: Final = 4 << 20
"""Of bodies in one page read back; the row that reaches it is the last."""

RECENT_ROWS_MAX: Final = 200_000
"""Finished sends looked at, newest first, to tell who was written to lately: 270 s at 740 a second."""
RECENT_RECIPIENTS_MAX: Final = 100_000
"""As many as the pair limit remembers."""

_OUTCOME_STATES: Final = {outcome: outcome.label for outcome in Outcome} | {Outcome.DELIVERED: "sent"}


def recover(db: sqlite3.Connection, now_ms: int, recent_ms: int) -> Recovered:
    """Everything that must be known before work starts. Reads every waiting row's head once.

    `recent` goes back `recent_ms` from `now_ms` (wall clock).
    """
    inbound_counts, send_counts = dict.fromkeys(InboundClass, 0), dict.fromkeys(SendClass, 0)
    for table, counts in (("inbound", inbound_counts), ("send", send_counts)):
        query = f"SELECT key >> {CLASS_SHIFT}, count(*) FROM {table} GROUP BY 1"
        for cls, count in db.execute(query):
            counts[cls] = count
    kinds: dict[InboundClass, dict[Kind, int]] = {cls: {} for cls in InboundClass}
    query = f"SELECT key >> {CLASS_SHIFT}, counts, count(*) FROM inbound GROUP BY 1, 2"
    for cls, counts_blob, rows in db.execute(query):
        of_class = kinds[InboundClass(cls)]
        for kind, n in unpack_counts(counts_blob):
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
    rows = _read_class(db, "inbound", "key, lane, body, counts, received_ms", cls, after_seq, limit)
    return [
        InboundRecord(seq_of(key), cls, lane, body, counts, received_ms)
        for key, lane, body, counts, received_ms in rows
    ]


def read_sends(
    db: sqlite3.Connection, store_id: str, cls: SendClass, after_seq: int, limit: int
) -> list[SendRecord]:
    """Waiting sends of a class, in order."""
    rows = _read_class(db, "send", f"key, {SEND_COLUMNS}", cls, after_seq, limit)
    return [send_of(store_id, key, row) for key, *row in rows]


def _read_class(
    db: sqlite3.Connection, table: str, columns: str, cls: int, after_seq: int, limit: int
) -> list[Any]:
    query = f"SELECT length(body), {columns} FROM {table} WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
    rows: list[Any] = []
    page_bytes = 0
    for body_bytes, *row in db.execute(query, (row_key(cls, after_seq), row_key(cls + 1, 0), limit)):
        rows.append(row)
        page_bytes += body_bytes
        if page_bytes >= PAGE_MAX_BYTES:
            break
    return rows


def find_send(db: sqlite3.Connection, store_id: str, wanted_id: str) -> SendStatus | None:
    """The status of a send, while it is remembered."""
    prefix, _, number = wanted_id.rpartition("-")
    if prefix != f"gw-{store_id}" or not (number.isascii() and number.isdigit()) or len(number) > 15:
        return None
    seq = int(number)
    if wanted_id != send_id(store_id, seq) or seq >> CLASS_SHIFT:
        return None  # a number written in another way, or one that would reach into the class of a key
    sent = db.execute(
        "SELECT cls, recipient, accepted_ms, attempts, is_uncertain, outcome, node_id, reason, settled_ms"
        " FROM sent WHERE seq = ?",
        (seq,),
    ).fetchone()
    if sent is not None:
        cls, to, accepted_ms, attempts, is_uncertain, outcome, node_id, reason, settled_ms = sent
        return SendStatus(
            wanted_id, _OUTCOME_STATES[Outcome(outcome)], SendClass(cls), to, accepted_ms, attempts,
            bool(is_uncertain), node_id, reason, settled_ms,
        )  # fmt: skip
    keys = [row_key(cls, seq) for cls in SendClass]
    waiting = db.execute(
        f"SELECT key, {SEND_COLUMNS} FROM send WHERE key IN ({','.join('?' * len(keys))})",
        keys,
    ).fetchone()
    if waiting is None:
        return None
    record = send_of(store_id, waiting[0], waiting[1:])
    return SendStatus(
        wanted_id, "queued", record.cls, record.to, record.accepted_ms, record.attempts, record.is_uncertain
    )

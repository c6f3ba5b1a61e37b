"""Changes into rows, by few and large statements. Called within a transaction.

Cost. A thread that runs Python between statements pays for the GIL at each; one statement with many rows
pays once. So rows go in by chunks of 1, 4, 16 or 64, four shapes that the statement cache holds.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from gateway.events import InboundRecord, SendRecord
from gateway.store.protocol import BookEntry, Change, Settled
from gateway.store.sqlite_parked import new_rows
from gateway.store.sqlite_schema import ACCEPTED, NOTE_PREFIX, meta, row_key, send_key

_CHUNKS: Final = (64, 16, 4, 1)


def write(db: sqlite3.Connection, changes: Sequence[Change], now_ms: int, seen_upto: int) -> int:
    """Write all `changes`; `seen_upto` is the number of fingerprints stored before, the answer that after."""
    given = [record.seq for change in changes for record in change.inbound]
    given += [record.seq for change in changes for record in change.sends]
    if given:
        # Rows leave; the highest number given must stay, or an id would be given twice.
        db.execute("REPLACE INTO meta VALUES ('seq', ?)", (max(*given, meta(db, "seq", 0)),))
    _insert(
        db,
        "INSERT INTO inbound VALUES",
        [_inbound_row(record) for change in changes for record in change.inbound],
    )
    fingerprints = b"".join(change.fingerprints for change in changes)
    if fingerprints:
        seen_upto += len(fingerprints) // 8
        _insert(db, "INSERT INTO seen VALUES", [(seen_upto, now_ms, fingerprints)])
    _insert(db, "INSERT INTO parked VALUES", [row for change in changes for row in new_rows(change)])
    _delete(db, "DELETE FROM parked WHERE seq IN", [seq for change in changes for seq in change.unparked])
    _delete(
        db,
        "DELETE FROM inbound WHERE key IN",
        [row_key(record.cls, record.seq) for change in changes for record in change.inbound_done]
        + [row_key(parked.record.cls, parked.record.seq) for change in changes for parked in change.parked],
    )
    _insert(
        db,
        "INSERT INTO send VALUES",
        [_send_row(record) for change in changes for record in change.sends],
    )
    db.executemany(
        "UPDATE send SET attempts = ?, is_uncertain = ? WHERE key = ?",
        [
            (record.attempts, record.is_uncertain, send_key(record))
            for change in changes
            for record in change.sends_tried
        ],
    )
    _insert(
        db,
        "INSERT INTO sent VALUES",
        [_settled_row(settled) for change in changes for settled in change.settled],
    )
    _delete(
        db,
        "DELETE FROM send WHERE key IN",
        [send_key(item.record) for change in changes for item in change.settled],
    )
    _insert(
        db,
        "REPLACE INTO used_key VALUES",
        [
            (None, used.key, used.digest, used.answer, used.at_ms)
            for change in changes
            for used in change.keys
        ],
    )
    _write_ledger(db, changes)
    _enter_books(db, (entry for change in changes for entry in change.books))
    notes = {name: note for change in changes for name, note in change.notes.items()}
    _insert(db, "REPLACE INTO meta VALUES", [(f"{NOTE_PREFIX}{name}", note) for name, note in notes.items()])
    return seen_upto


def _write_ledger(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Log items in order; a checkpoint has all that was logged before it."""
    items: list[bytes] = []
    for change in changes:
        if change.ledger_pages is not None:
            items.clear()
            db.execute("DELETE FROM ledger_log")
            if change.ledger_resets:
                db.execute("DELETE FROM ledger_page")
            _insert(db, "REPLACE INTO ledger_page VALUES", [(*page,) for page in change.ledger_pages])
        if change.ledger_items:
            items.append(change.ledger_items)
    if items:
        db.execute("INSERT INTO ledger_log VALUES (NULL, ?)", (b"".join(items),))


def _enter_books(db: sqlite3.Connection, entries: Iterable[BookEntry]) -> None:
    totals: dict[tuple[int, int], int] = {}
    for entry in entries:
        place = (entry.kind, ACCEPTED if entry.outcome is None else entry.outcome)
        totals[place] = totals.get(place, 0) + entry.count
    for (kind, outcome), count in totals.items():
        db.execute(
            "INSERT INTO book VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (kind, outcome, count),
        )


def _insert(db: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    for chunk in _chunks(rows):
        row = "(" + ",".join("?" * len(chunk[0])) + ")"
        values = [value for values in chunk for value in values]
        db.execute(f"{statement} {','.join([row] * len(chunk))}", values)


def _delete(db: sqlite3.Connection, statement: str, keys: list[int]) -> None:
    for chunk in _chunks(keys):
        db.execute(f"{statement} ({','.join('?' * len(chunk))})", chunk)


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    at = 0
    for size in _CHUNKS:
        while len(items) - at >= size:
            yield items[at : at + size]
            at += size


def _inbound_row(record: InboundRecord) -> tuple[Any, ...]:
    return (row_key(record.cls, record.seq), record.lane, record.body, record.counts, record.received_ms)


def _send_row(record: SendRecord) -> tuple[Any, ...]:
    return (
        send_key(record), record.to, record.is_group, record.body, record.accepted_ms, record.mask,
        record.batch, record.not_before_ms, record.expires_ms, record.on_uncertain, record.attempts,
        record.is_uncertain,
    )  # fmt: skip


def _settled_row(settled: Settled) -> tuple[Any, ...]:
    record = settled.record
    return (
        record.seq, int(record.cls), record.to, record.accepted_ms, record.attempts, record.is_uncertain,
        int(settled.outcome), settled.node_id, settled.reason, settled.settled_ms, record.batch,
        record.not_before_ms, record.expires_ms,
    )  # fmt: skip

"""Entries of the log into rows, by few and large statements. Called within a transaction.

Cost. A thread that runs Python between statements pays for the GIL at each; one statement with many rows
pays once. So rows go in by chunks of 1, 4, 16 or 64, four shapes that the statement cache holds.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from gateway.events import SendRecord
from gateway.store.change_codec import Entry
from gateway.store.protocol import Settled
from gateway.store.sqlite_parked import new_rows
from gateway.store.sqlite_schema import NOTE_PREFIX, meta, row_key, send_key

_CHUNKS: Final = (64, 16, 4, 1)

RANGE_MIN: Final = 8
"""Keys in a row that are deleted as a range: what has waited ends in the order in which it came, so most stand in a row."""


def write(db: sqlite3.Connection, entries: Sequence[Entry], now_ms: int, seen_upto: int) -> int:
    """Write all `entries`; `seen_upto` is the number of fingerprints stored before, the answer that after."""
    given = [record.seq for entry in entries for record in entry.inbound]
    given += [record.seq for entry in entries for record in entry.sends]
    if given:
        # Rows leave; the highest number given must stay, or an id would be given twice.
        db.execute("REPLACE INTO meta VALUES ('seq', ?)", (max(*given, meta(db, "seq", 0)),))
    _write_inbound(db, entries)
    fingerprints = b"".join(entry.fingerprints for entry in entries)
    if fingerprints:
        seen_upto += len(fingerprints) // 8
        _insert(db, "INSERT INTO seen VALUES", [(seen_upto, now_ms, fingerprints)])
    _insert(db, "INSERT INTO parked VALUES", [row for entry in entries for row in new_rows(entry)])
    _delete(db, "DELETE FROM parked WHERE seq IN", [seq for entry in entries for seq in entry.unparked])
    _write_sends(db, entries)
    _insert(
        db,
        "REPLACE INTO used_key VALUES",
        [(None, used.key, used.digest, used.answer, used.at_ms) for entry in entries for used in entry.keys],
    )
    _write_ledger(db, entries)
    _enter_books(db, (line for entry in entries for line in entry.books))
    notes = {name: note for entry in entries for name, note in entry.notes.items()}
    _insert(db, "REPLACE INTO meta VALUES", [(f"{NOTE_PREFIX}{name}", note) for name, note in notes.items()])
    return seen_upto


def _write_inbound(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """What came and ended within the entries touches no table."""
    ended = {key for entry in entries for key in entry.done}
    ended.update(row_key(item.record.cls, item.record.seq) for entry in entries for item in entry.parked)
    rows = []
    for entry in entries:
        for record in entry.inbound:
            key = row_key(record.cls, record.seq)
            if key in ended:
                ended.discard(key)
            else:
                rows.append((key, record.lane, record.body, record.counts, record.received_ms))
    _insert(db, "INSERT INTO inbound VALUES", rows)
    _delete_keys(db, "inbound", ended)


def _write_sends(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """As those that come in; what is told of the ended ones stays."""
    settled = [item for entry in entries for item in entry.settled]
    ended = {send_key(item.record) for item in settled}
    rows = [_send_row(record) for entry in entries for record in entry.sends]
    _insert(db, "INSERT INTO send VALUES", [row for row in rows if row[0] not in ended])
    ended.difference_update(row[0] for row in rows)
    tried = [record for entry in entries for record in entry.sends_tried]
    if tried:
        db.executemany(
            "UPDATE send SET attempts = ?, is_uncertain = ? WHERE key = ?",
            [(record.attempts, record.is_uncertain, send_key(record)) for record in tried],
        )
    _insert(db, "INSERT INTO sent VALUES", [_settled_row(item) for item in settled])
    _delete_keys(db, "send", ended)


def _write_ledger(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Log items in order; a checkpoint has all that was logged before it."""
    items: list[bytes] = []
    for entry in entries:
        if entry.ledger_pages is not None:
            items.clear()
            db.execute("DELETE FROM ledger_log")
            if entry.ledger_resets:
                db.execute("DELETE FROM ledger_page")
            _insert(db, "REPLACE INTO ledger_page VALUES", [*entry.ledger_pages.items()])
        items.append(entry.ledger_items)
    if joined := b"".join(items):
        db.execute("INSERT INTO ledger_log VALUES (NULL, ?)", (joined,))


def _enter_books(db: sqlite3.Connection, lines: Iterable[tuple[int, int, int]]) -> None:
    totals: dict[tuple[int, int], int] = {}
    for kind, outcome, count in lines:
        totals[kind, outcome] = totals.get((kind, outcome), 0) + count
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


def _delete_keys(db: sqlite3.Connection, table: str, keys: Iterable[int]) -> None:
    """Delete rows by their keys, those that follow each other as one range."""
    alone: list[int] = []
    for first, last in _ranges(keys):
        if last - first + 1 >= RANGE_MIN:
            db.execute(f"DELETE FROM {table} WHERE key BETWEEN ? AND ?", (first, last))
        else:
            alone += range(first, last + 1)
    _delete(db, f"DELETE FROM {table} WHERE key IN", alone)


def _ranges(keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each row of keys without a gap, in order."""
    first = last = -1
    for key in sorted(keys):
        if first < 0:
            first = key
        elif key != last + 1:
            yield first, last
            first = key
        last = key
    if first >= 0:
        yield first, last


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    at = 0
    for size in _CHUNKS:
        while len(items) - at >= size:
            yield items[at : at + size]
            at += size


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

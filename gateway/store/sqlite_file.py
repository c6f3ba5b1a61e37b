"""One SQLite file: schema, and few, large statements. Synchronous; used by one thread at a time.

Layout. A row key is `class << 48 | sequence`, so a class is a range of the table's own tree: reading back
in order, deleting and inserting need no index. `sent` keeps what is told of finished sends. `seen` has one
row a commit with the fingerprints of its events, because a row an event would double the inserts; its key is
the number of fingerprints ever stored, so "all but the newest N" is a range too.
`book` has the totals, changed in the transaction that changes the rows they count.

Cost. A thread that runs Python between statements pays for the GIL at each; one statement with many rows
pays once. So rows go in by chunks of 1, 4, 16 or 64, four shapes that the statement cache holds.
"""

import contextlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.errors import StoreBusyError, StoreError
from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord, unpack_counts
from gateway.store.protocol import (
    BookEntry,
    Change,
    MemoryLimits,
    Parked,
    Recovered,
    SendStatus,
    Settled,
)

SCHEMA_VERSION: Final = 1
_CLASS_SHIFT: Final = 48
"""Sequence numbers stay below 2**48: at 10,000 records a second that is 892 years."""

_CHUNKS: Final = (64, 16, 4, 1)

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE inbound (
    key INTEGER PRIMARY KEY, lane TEXT NOT NULL, body BLOB NOT NULL, counts BLOB NOT NULL,
    received_ms INTEGER NOT NULL
);
CREATE TABLE parked (
    seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, lane TEXT NOT NULL, body BLOB NOT NULL,
    counts BLOB NOT NULL, received_ms INTEGER NOT NULL, reason TEXT NOT NULL, answer BLOB NOT NULL,
    parked_ms INTEGER NOT NULL
);
CREATE TABLE send (
    key INTEGER PRIMARY KEY, recipient TEXT NOT NULL, is_group INTEGER NOT NULL, body BLOB NOT NULL,
    accepted_ms INTEGER NOT NULL
);
CREATE TABLE sent (
    seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, recipient TEXT NOT NULL, accepted_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, is_uncertain INTEGER NOT NULL, outcome INTEGER NOT NULL,
    node_id TEXT NOT NULL, reason TEXT NOT NULL, settled_ms INTEGER NOT NULL
);
CREATE TABLE seen (upto INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, fingerprints BLOB NOT NULL);
CREATE TABLE book (
    kind INTEGER NOT NULL, outcome INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, outcome)
) WITHOUT ROWID;
"""
_ACCEPTED: Final = -1
"""`book.outcome` of what was accepted."""

_OUTCOME_STATES: Final = {outcome: outcome.label for outcome in Outcome} | {Outcome.DELIVERED: "sent"}

PAGE_MAX_BYTES: Final = 4 << 20
"""Of bodies in one page read back; the row that reaches it is the last."""

MAINTENANCE_ROWS: Final = 1000
"""Rows looked at by one clean-up, so that it never holds up a commit for long."""


def _key(cls: int, seq: int) -> int:
    return cls << _CLASS_SHIFT | seq


def _seq(key: int) -> int:
    return key & ((1 << _CLASS_SHIFT) - 1)


class SqliteFile:
    """An open store file, exclusively ours."""

    def __init__(self, directory: Path) -> None:
        """Open or make `directory/gateway.sqlite3`.

        Raises StoreBusyError when another process has it, StoreError when it can't be used.
        """
        self.path = directory / "gateway.sqlite3"
        self._seen_upto = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the store {self.path} can't be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error) or "busy" in str(error):
                raise StoreBusyError(f"the store {self.path} is in use by another process") from error
            raise StoreError(f"the store {self.path} can't be used: {error}") from error
        except (sqlite3.Error, StoreError) as error:
            self._db.close()
            raise StoreError(f"the store {self.path} can't be used: {error}") from error

    def _prepare(self) -> None:
        db = self._db
        # Exclusive: a second gateway is refused at its first write, and WAL needs no shared memory file.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        is_new = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        version = self._pragma("user_version")
        if version != (0 if is_new else SCHEMA_VERSION):
            # Before anything is written: it may be another program's, or a later version's.
            raise StoreError(f"it has format {version}, this version reads {SCHEMA_VERSION}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA temp_store=MEMORY")
        with self._transaction():
            if is_new:
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                values = [("store_id", secrets.token_hex(4)), ("secret", secrets.token_bytes(16))]
                db.executemany("INSERT INTO meta VALUES (?, ?)", values)
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            # Take the write lock for good, even when nothing else is written.
            db.execute("REPLACE INTO meta VALUES ('opened', datetime('now'))")
        meta = dict(db.execute("SELECT name, value FROM meta"))
        self.store_id: str = meta["store_id"]
        self.secret: bytes = meta["secret"]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- writing

    def apply(self, changes: Sequence[Change], now_ms: int) -> None:
        """Store all `changes` in one transaction and one fsync. Raises StoreError; nothing is stored then."""
        try:
            with self._transaction():
                self._write(changes, now_ms)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not commit: {error}") from error

    def _write(self, changes: Sequence[Change], now_ms: int) -> None:
        given = [record.seq for change in changes for record in change.inbound]
        given += [record.seq for change in changes for record in change.sends]
        if given:
            # Rows leave; the highest number given must stay, or an id would be given twice.
            seq = max(*given, self._meta("seq", 0))
            self._db.execute("REPLACE INTO meta VALUES ('seq', ?)", (seq,))
        self._insert(
            "INSERT INTO inbound VALUES",
            [_inbound_row(record) for change in changes for record in change.inbound],
        )
        fingerprints = b"".join(change.fingerprints for change in changes)
        if fingerprints:
            upto = self._seen_upto + len(fingerprints) // 8
            self._insert("INSERT INTO seen VALUES", [(upto, now_ms, fingerprints)])
            self._seen_upto = upto
        self._insert(
            "INSERT INTO parked VALUES",
            [_parked_row(parked) for change in changes for parked in change.parked],
        )
        self._delete(
            "DELETE FROM inbound WHERE key IN",
            [_key(record.cls, record.seq) for change in changes for record in change.inbound_done]
            + [_key(parked.record.cls, parked.record.seq) for change in changes for parked in change.parked],
        )
        self._insert(
            "INSERT INTO send VALUES",
            [_send_row(record) for change in changes for record in change.sends],
        )
        self._insert(
            "INSERT INTO sent VALUES",
            [_settled_row(settled) for change in changes for settled in change.settled],
        )
        self._delete(
            "DELETE FROM send WHERE key IN",
            [_key(item.record.cls, item.record.seq) for change in changes for item in change.settled],
        )
        self._enter_books(entry for change in changes for entry in change.books)

    def _enter_books(self, entries: Iterable[BookEntry]) -> None:
        totals: dict[tuple[int, int], int] = {}
        for entry in entries:
            place = (entry.kind, _ACCEPTED if entry.outcome is None else entry.outcome)
            totals[place] = totals.get(place, 0) + entry.count
        for (kind, outcome), count in totals.items():
            self._db.execute(
                "INSERT INTO book VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (kind, outcome, count),
            )

    def _insert(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        for chunk in _chunks(rows):
            row = "(" + ",".join("?" * len(chunk[0])) + ")"
            values = [value for values in chunk for value in values]
            self._db.execute(f"{statement} {','.join([row] * len(chunk))}", values)

    def _delete(self, statement: str, keys: list[int]) -> None:
        for chunk in _chunks(keys):
            self._db.execute(f"{statement} ({','.join('?' * len(chunk))})", chunk)

    def reclass_send(self, seq: int, old: SendClass, new: SendClass) -> SendRecord | None:
        """Give a waiting send another class, in one transaction; None when it does not wait in `old`."""
        try:
            with self._transaction():
                moved = (
                    "UPDATE send SET key = ? WHERE key = ? RETURNING recipient, is_group, body, accepted_ms"
                )
                rows = self._db.execute(moved, (_key(new, seq), _key(old, seq))).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not move a send: {error}") from error
        if not rows:
            return None
        to, is_group, body, accepted_ms = rows[0]
        return SendRecord(seq, self.send_id(seq), new, to, bool(is_group), body, accepted_ms)

    def forget(self, limits: MemoryLimits) -> bool:
        """Drop what has been remembered long enough, oldest first; whether there is more to drop.

        At most `MAINTENANCE_ROWS` of each table, so that it never holds up a commit for long.
        """
        too_old = "SELECT {key} FROM (SELECT {key}, {stamp} FROM {table} ORDER BY {key} LIMIT {rows})"
        deletions = [
            ("seen", "upto", too_old + " WHERE {stamp} < ? OR {key} <= ?",
             (limits.seen_before_ms, self._seen_upto - limits.seen_max)),
            ("sent", "seq", too_old + " WHERE {stamp} < ?", (limits.sent_before_ms,)),
            ("parked", "seq", "SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT {rows} OFFSET ?",
             (limits.parked_max,)),
        ]  # fmt: skip
        stamps = {"seen": "at_ms", "sent": "settled_ms", "parked": "parked_ms"}
        deleted = 0
        try:
            with self._transaction():
                for table, key, query, values in deletions:
                    chosen = query.format(table=table, key=key, stamp=stamps[table], rows=MAINTENANCE_ROWS)
                    cursor = self._db.execute(f"DELETE FROM {table} WHERE {key} IN ({chosen})", values)
                    deleted = max(deleted, cursor.rowcount)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not be cleaned up: {error}") from error
        return deleted >= MAINTENANCE_ROWS

    # -- reading

    def recover(self) -> Recovered:
        """Everything that must be known before work starts. Reads every waiting row's head once."""
        db = self._db
        inbound_counts, send_counts = dict.fromkeys(InboundClass, 0), dict.fromkeys(SendClass, 0)
        for table, counts in (("inbound", inbound_counts), ("send", send_counts)):
            query = f"SELECT key >> {_CLASS_SHIFT}, count(*) FROM {table} GROUP BY 1"
            for cls, count in db.execute(query):
                counts[cls] = count
        kinds: dict[InboundClass, dict[Kind, int]] = {cls: {} for cls in InboundClass}
        query = f"SELECT key >> {_CLASS_SHIFT}, counts, count(*) FROM inbound GROUP BY 1, 2"
        for cls, counts_blob, rows in db.execute(query):
            of_class = kinds[InboundClass(cls)]
            for kind, n in unpack_counts(counts_blob):
                of_class[kind] = of_class.get(kind, 0) + n * rows
        books = [
            BookEntry(Kind(kind), None if outcome == _ACCEPTED else Outcome(outcome), count)
            for kind, outcome, count in db.execute("SELECT kind, outcome, count FROM book")
        ]
        seen = db.execute("SELECT upto, fingerprints FROM seen ORDER BY upto").fetchall()
        self._seen_upto = seen[-1][0] if seen else 0
        return Recovered(
            next_seq=int(self._meta("seq", 0)) + 1,
            inbound_counts=inbound_counts,
            inbound_kinds=kinds,
            send_counts=send_counts,
            books=books,
            fingerprints=b"".join(row[1] for row in seen),
        )

    def _meta(self, name: str, default: Any) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        rows = self._read_class("inbound", "key, lane, body, counts, received_ms", cls, after_seq, limit)
        return [
            InboundRecord(_seq(key), cls, lane, body, counts, received_ms)
            for key, lane, body, counts, received_ms in rows
        ]

    def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        rows = self._read_class("send", "key, recipient, is_group, body, accepted_ms", cls, after_seq, limit)
        return [
            SendRecord(_seq(key), self.send_id(_seq(key)), cls, to, bool(is_group), body, accepted_ms)
            for key, to, is_group, body, accepted_ms in rows
        ]

    def _read_class(self, table: str, columns: str, cls: int, after_seq: int, limit: int) -> list[Any]:
        query = f"SELECT length(body), {columns} FROM {table} WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        rows: list[Any] = []
        page_bytes = 0
        for body_bytes, *row in self._db.execute(query, (_key(cls, after_seq), _key(cls + 1, 0), limit)):
            rows.append(row)
            page_bytes += body_bytes
            if page_bytes >= PAGE_MAX_BYTES:
                break
        return rows

    def send_id(self, seq: int) -> str:
        """The id we give to the send with this sequence number."""
        return f"gw-{self.store_id}-{seq}"

    def find_send(self, send_id: str) -> SendStatus | None:
        prefix, _, number = send_id.rpartition("-")
        if prefix != f"gw-{self.store_id}" or not (number.isascii() and number.isdigit()) or len(number) > 15:
            return None
        seq = int(number)
        if send_id != self.send_id(seq) or seq >> _CLASS_SHIFT:
            return None  # a number written in another way, or one that would reach into the class of a key
        sent = self._db.execute(
            "SELECT cls, recipient, accepted_ms, attempts, is_uncertain, outcome, node_id, reason, settled_ms"
            " FROM sent WHERE seq = ?",
            (seq,),
        ).fetchone()
        if sent is not None:
            cls, to, accepted_ms, attempts, is_uncertain, outcome, node_id, reason, settled_ms = sent
            return SendStatus(
                send_id, _OUTCOME_STATES[Outcome(outcome)], SendClass(cls), to, accepted_ms, attempts,
                bool(is_uncertain), node_id, reason, settled_ms,
            )  # fmt: skip
        keys = [_key(cls, seq) for cls in SendClass]
        waiting = self._db.execute(
            f"SELECT key, recipient, accepted_ms FROM send WHERE key IN ({','.join('?' * len(keys))})",
            keys,
        ).fetchone()
        if waiting is None:
            return None
        key, to, accepted_ms = waiting
        return SendStatus(
            send_id, "queued", SendClass(key >> _CLASS_SHIFT), to, accepted_ms, attempts=0, is_uncertain=False
        )

    def used_bytes(self) -> int:
        """Bytes of the pages in use; the write-ahead log comes on top, some megabytes at most."""
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        return pages * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        value = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        assert isinstance(value, int)
        return value

    def close(self) -> None:
        """Check the log into the file and let go of it."""
        self._db.close()


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    at = 0
    for size in _CHUNKS:
        while len(items) - at >= size:
            yield items[at : at + size]
            at += size


def _inbound_row(record: InboundRecord) -> tuple[Any, ...]:
    return (_key(record.cls, record.seq), record.lane, record.body, record.counts, record.received_ms)


def _parked_row(parked: Parked) -> tuple[Any, ...]:
    record = parked.record
    return (
        record.seq, int(record.cls), record.lane, record.body, record.counts, record.received_ms,
        parked.reason, parked.answer, parked.parked_ms,
    )  # fmt: skip


def _send_row(record: SendRecord) -> tuple[Any, ...]:
    return (_key(record.cls, record.seq), record.to, record.is_group, record.body, record.accepted_ms)


def _settled_row(settled: Settled) -> tuple[Any, ...]:
    record = settled.record
    return (
        record.seq, int(record.cls), record.to, record.accepted_ms, record.attempts, record.is_uncertain,
        int(settled.outcome), settled.node_id, settled.reason, settled.settled_ms,
    )  # fmt: skip

"""One SQLite file, open and exclusively ours. Synchronous; used by one thread at a time.

`sqlite_schema.py` has its tables, `sqlite_write.py` how changes become rows, `sqlite_read.py` how they come back.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, SendClass, SendRecord
from gateway.store import sqlite_read
from gateway.store.protocol import Change, MemoryLimits, Recovered, SendStatus
from gateway.store.sqlite_schema import (
    SEND_COLUMNS,
    open_file,
    pragma,
    row_key,
    send_id,
    send_of,
    transaction,
)
from gateway.store.sqlite_write import write

MAINTENANCE_ROWS: Final = 1000
"""Rows looked at by one clean-up, so that it never holds up a commit for long."""

_FORGET_SEEN: Final = """
    DELETE FROM seen WHERE upto IN (
        SELECT upto FROM (SELECT upto, at_ms FROM seen ORDER BY upto LIMIT ?) WHERE at_ms < ? OR upto <= ?
    )
"""
_FORGET_SENT: Final = """
    DELETE FROM sent WHERE seq IN (SELECT seq FROM sent WHERE settled_ms < ? ORDER BY settled_ms LIMIT ?)
"""
_FORGET_PARKED: Final = """
    DELETE FROM parked WHERE seq IN (SELECT seq FROM parked ORDER BY seq DESC LIMIT ? OFFSET ?)
"""


class SqliteFile:
    """What one thread can ask of the file."""

    def __init__(self, directory: Path) -> None:
        """Open or make `directory/gateway.sqlite3`.

        Raises StoreBusyError when another process has it, StoreError when it can't be used.
        """
        self.path = directory / "gateway.sqlite3"
        self._db, self.store_id, self.secret = open_file(self.path)
        self._seen_upto = 0

    def apply(self, changes: Sequence[Change], now_ms: int) -> None:
        """Store all `changes` in one transaction and one fsync. Raises StoreError; nothing is stored then."""
        try:
            with transaction(self._db):
                self._seen_upto = write(self._db, changes, now_ms, self._seen_upto)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not commit: {error}") from error

    def reclass_send(self, seq: int, old: SendClass, new: SendClass) -> SendRecord | None:
        """Give a waiting send another class, in one transaction; None when it does not wait in `old`."""
        try:
            with transaction(self._db):
                moved = f"UPDATE send SET key = ? WHERE key = ? RETURNING {SEND_COLUMNS}"
                rows = self._db.execute(moved, (row_key(new, seq), row_key(old, seq))).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not move a send: {error}") from error
        if not rows:
            return None
        return send_of(self.store_id, row_key(new, seq), rows[0])

    def forget(self, limits: MemoryLimits) -> bool:
        """Drop what has been remembered long enough, oldest first; whether there is more to drop.

        At most `MAINTENANCE_ROWS` of each table, so that it never holds up a commit for long.
        """
        rows, seen_out = MAINTENANCE_ROWS, self._seen_upto - limits.seen_max
        deletions = (
            (_FORGET_SEEN, (rows, limits.seen_before_ms, seen_out)),
            (_FORGET_SENT, (limits.sent_before_ms, rows)),
            (_FORGET_PARKED, (rows, limits.parked_max)),
        )
        deleted = 0
        try:
            with transaction(self._db):
                for statement, values in deletions:
                    deleted = max(deleted, self._db.execute(statement, values).rowcount)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not be cleaned up: {error}") from error
        return deleted >= MAINTENANCE_ROWS

    def recover(self, now_ms: int, recent_ms: int = 0) -> Recovered:
        """Everything that must be known before work starts, and before anything is applied.

        `recent` goes back `recent_ms` from `now_ms` (wall clock).
        """
        self._seen_upto = self._db.execute("SELECT coalesce(max(upto), 0) FROM seen").fetchone()[0]
        return sqlite_read.recover(self._db, now_ms, recent_ms)

    def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        """Waiting records of a class, in order."""
        return sqlite_read.read_inbound(self._db, cls, after_seq, limit)

    def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        """Waiting sends of a class, in order."""
        return sqlite_read.read_sends(self._db, self.store_id, cls, after_seq, limit)

    def find_send(self, send_id: str) -> SendStatus | None:
        """The status of a send, while it is remembered."""
        return sqlite_read.find_send(self._db, self.store_id, send_id)

    def send_id(self, seq: int) -> str:
        """The id we give to the send with this sequence number."""
        return send_id(self.store_id, seq)

    def used_bytes(self) -> int:
        """Bytes of the pages in use; the write-ahead log comes on top, some megabytes at most."""
        pages = pragma(self._db, "page_count") - pragma(self._db, "freelist_count")
        return pages * pragma(self._db, "page_size")

    def close(self) -> None:
        """Check the log into the file and let go of it."""
        self._db.close()

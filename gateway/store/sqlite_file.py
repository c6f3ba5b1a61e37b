"""One SQLite file, open and exclusively ours. Synchronous; used by one thread at a time.

`sqlite_schema.py` has its tables, `sqlite_write.py` how changes become rows, `sqlite_read.py` how they come back,
`sqlite_sends.py` what else is asked of sends.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.errors import StoreCorruptError, StoreError
from gateway.events import InboundClass, InboundRecord, SendClass, SendRecord, Side
from gateway.store import sqlite_parked, sqlite_read, sqlite_sends
from gateway.store.protocol import (
    BatchStatus,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    Recovered,
    SendStatus,
    StoredKey,
)
from gateway.store.sqlite_faults import set_aside, store_error
from gateway.store.sqlite_open import close_file, open_file
from gateway.store.sqlite_schema import (
    SCHEDULED,
    SEND_COLUMNS,
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
_FORGET_KEYS: Final = """
    DELETE FROM used_key WHERE id IN (
        SELECT id FROM (SELECT id, at_ms FROM used_key ORDER BY id LIMIT ?)
        WHERE at_ms < ? OR id <= (SELECT max(id) FROM used_key) - ?
    )
"""
_FORGET_SENT: Final = """
    DELETE FROM sent WHERE seq IN (SELECT seq FROM sent WHERE settled_ms < ? ORDER BY settled_ms LIMIT ?)
"""
_FORGET_PARKED: Final = """
    DELETE FROM parked WHERE seq IN (SELECT seq FROM parked ORDER BY seq DESC LIMIT ? OFFSET ?)
"""
_FORGET_COUNTS: Final = "DELETE FROM waiting WHERE rows = 0"
"""Of bodies with counts that no waiting one has."""


class SqliteFile:
    """What one thread can ask of the file."""

    def __init__(self, directory: Path) -> None:
        """Open or make `directory/gateway.sqlite3`.

        Raises StoreBusyError when another process has it, StoreError when it can't be used.
        """
        self.path = directory / "gateway.sqlite3"
        self._db, self.store_id, self.secret = open_file(self.path)
        self._seen_upto = 0
        self.parked_counts: Mapping[Side, ParkedCount] = {}
        """As of the last commit; replaced and never changed, so that another thread may look."""
        self.parked_dropped = 0
        """Dead letters that left to make room."""

    def apply(self, changes: Sequence[Change], now_ms: int) -> None:
        """Store all `changes` in one transaction and one fsync. Raises StoreError; nothing is stored then."""
        try:
            with transaction(self._db):
                self._seen_upto = write(self._db, changes, now_ms, self._seen_upto)
        except sqlite3.Error as error:
            raise self.failure("could not commit", error) from error
        if any(map(sqlite_parked.touches, changes)):
            self.parked_counts = sqlite_parked.counts(self._db)

    def reclass_send(
        self, seq: int, old: SendClass, new: SendClass, *, is_scheduled: bool
    ) -> SendRecord | None:
        """Give a waiting send another class, in one transaction; None when it does not wait in `old`."""
        offset = SCHEDULED * is_scheduled
        old_key, new_key = row_key(old + offset, seq), row_key(new + offset, seq)
        try:
            with transaction(self._db):
                moved = f"UPDATE send SET key = ? WHERE key = ? RETURNING {SEND_COLUMNS}"
                rows = self._db.execute(moved, (new_key, old_key)).fetchall()
        except sqlite3.Error as error:
            raise self.failure("could not move a send", error) from error
        if not rows:
            return None
        return send_of(self.store_id, new_key, rows[0])

    def start_sends(self, records: Sequence[SendRecord]) -> None:
        """Move scheduled sends into the line of their class, in one transaction."""
        try:
            with transaction(self._db):
                sqlite_sends.start_sends(self._db, records)
        except sqlite3.Error as error:
            raise self.failure("could not start sends", error) from error

    def forget(self, limits: MemoryLimits) -> bool:
        """Drop what has been remembered long enough, oldest first; whether there is more to drop.

        At most `MAINTENANCE_ROWS` of each table, so that it never holds up a commit for long.
        """
        rows, seen_out = MAINTENANCE_ROWS, self._seen_upto - limits.seen_max
        deletions = (
            (_FORGET_SEEN, (rows, limits.seen_before_ms, seen_out)),
            (_FORGET_SENT, (limits.sent_before_ms, rows)),
            (_FORGET_COUNTS, ()),
            (_FORGET_KEYS, (rows, limits.keys_before_ms, limits.keys_max)),
        )
        deleted = 0
        try:
            with transaction(self._db):
                for statement, values in deletions:
                    deleted = max(deleted, self._db.execute(statement, values).rowcount)
                dropped = self._db.execute(_FORGET_PARKED, (rows, limits.parked_max)).rowcount
        except sqlite3.Error as error:
            raise self.failure("could not be cleaned up", error) from error
        if dropped:
            self.parked_dropped += dropped
            self.parked_counts = sqlite_parked.counts(self._db)
        return max(deleted, dropped) >= MAINTENANCE_ROWS

    def recover(self, now_ms: int, recent_ms: int = 0) -> Recovered:
        """Everything that must be known before work starts, and before anything is applied.

        `recent` goes back `recent_ms` from `now_ms` (wall clock).
        """
        try:
            self._seen_upto = self._db.execute("SELECT coalesce(max(upto), 0) FROM seen").fetchone()[0]
            self.parked_counts = sqlite_parked.counts(self._db)
            return sqlite_read.recover(self._db, now_ms, recent_ms)
        except sqlite3.Error as error:
            raise self.failure("could not be read back", error) from error

    def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        """Waiting records of a class, in order."""
        return sqlite_read.read_inbound(self._db, cls, after_seq, limit)

    def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        """Waiting sends of a class, in order."""
        return sqlite_read.read_sends(self._db, self.store_id, cls, after_seq, limit)

    def find_send(self, send_id: str) -> SendStatus | None:
        """The status of a send, while it is remembered."""
        return sqlite_sends.find_send(self._db, self.store_id, send_id)

    def find_send_named(self, node_id: str) -> SendStatus | None:
        """The same by the id that WhatsApp gave it."""
        return sqlite_sends.find_send_named(self._db, self.store_id, node_id)

    def find_batch(self, batch: str, after_seq: int, limit: int) -> BatchStatus:
        """The sends of a batch, and a page of them."""
        return sqlite_sends.find_batch(self._db, self.store_id, batch, after_seq, limit)

    def read_scheduled(self, cls: SendClass, limit: int) -> list[SendRecord]:
        """Scheduled sends of a class, those due first first."""
        return sqlite_sends.read_scheduled(self._db, self.store_id, cls, limit)

    def find_keys(self, keys: Sequence[str]) -> list[StoredKey]:
        """Those of the keys that are remembered."""
        return sqlite_sends.find_keys(self._db, keys)

    def read_parked(self, query: ParkedQuery, after_seq: int, limit: int) -> list[Parked]:
        """Dead letters, in order."""
        return sqlite_parked.read(self._db, self.store_id, query, after_seq, limit)

    def send_id(self, seq: int) -> str:
        """The id we give to the send with this sequence number."""
        return send_id(self.store_id, seq)

    def used_bytes(self) -> int:
        """Bytes of the pages in use; the write-ahead log comes on top, some megabytes at most."""
        pages = pragma(self._db, "page_count") - pragma(self._db, "freelist_count")
        return pages * pragma(self._db, "page_size")

    def close(self) -> None:
        """Check the log into the file and let go of it."""
        close_file(self._db)

    def failure(self, what: str, error: Exception) -> StoreError:
        """What `error` means for whoever must act."""
        return store_error(self.path, what, error)

    def set_aside(self, error: StoreCorruptError) -> StoreCorruptError:
        """Rename the damaged file, closed before; the error that says so."""
        return set_aside(self.path, error)

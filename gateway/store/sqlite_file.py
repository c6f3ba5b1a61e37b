"""One SQLite file and its redo log, open and exclusively ours. Synchronous; used by one thread at a time.

A commit goes into the log (`redo_log.py`), and with others into the tables later: `check_in`. Another thread may commit
meanwhile, through the `writer`. What is read is read from the
tables, so whoever reads checks in before. `sqlite_schema.py` has the tables, `sqlite_write.py` how changes become rows,
`sqlite_read.py` how they come back, `sqlite_sends.py` what else is asked of sends.
"""

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway._fast.log_writer import LogWriter
from gateway.errors import StoreCorruptError, StoreError, StoreFullError
from gateway.events import InboundClass, InboundRecord, SendClass, SendRecord, Side
from gateway.store import reserve, sqlite_parked, sqlite_read, sqlite_sends
from gateway.store.change_codec import Entry, decode, merge
from gateway.store.protocol import (
    BatchStatus,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    Place,
    Recovered,
    SendStatus,
    StoredKey,
    Sync,
)
from gateway.store.redo_log import NoLog, RedoLog, Sealed
from gateway.store.sqlite_faults import set_aside, store_error
from gateway.store.sqlite_open import close_file, open_file
from gateway.store.sqlite_schema import (
    SCHEDULED,
    meta,
    pragma,
    send_id,
    transaction,
)
from gateway.store.sqlite_write import write

MAINTENANCE_ROWS: Final = 1000
"""Rows looked at by one clean-up, so that it never holds up a commit for long."""

WAL_KEPT_BYTES: Final = 8 << 20
"""Twice what SQLite lets it grow to before it brings it into the file; one large commit makes it larger."""

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

    def __init__(self, directory: Path, sync: Sync = Sync.FULL) -> None:
        """Open or make `directory/gateway.sqlite3`, and bring what its log has into its tables.

        Raises StoreBusyError when another process has it, StoreCorruptError when it was damaged and has been set aside,
        StoreError when it can't be used.
        """
        self.path = directory / "gateway.sqlite3"
        self._db, self.store_id, self.secret = open_file(self.path, sync)
        self.parked_counts: Mapping[Side, ParkedCount] = {}
        """As of the last commit; replaced and never changed, so that another thread may look."""
        self.parked_dropped = 0
        """Dead letters that left to make room."""
        self._has_failed = False
        self.check_ins = 0
        """Transactions that brought what the log had into the tables."""
        self._pages_bytes = 0
        """Of the tables; 0: they have been changed since it was looked up."""
        try:
            self._seen_upto: int = self._db.execute("SELECT coalesce(max(upto), 0) FROM seen").fetchone()[0]
            self._log = self._open_log(sync)
        except Exception as error:
            close_file(self._db)
            failure = self.failure("can't be used", error)
            if isinstance(failure, StoreCorruptError):
                raise self.set_aside(failure) from error
            raise failure from error

    def _open_log(self, sync: Sync) -> RedoLog | NoLog:
        if sync is Sync.OFF:
            return NoLog()
        applied = meta(self._db, "redo", 0)
        log = self._log = RedoLog(self.path, self.store_id, self.secret, applied, syncs=sync is Sync.FULL)
        try:
            entries, committed_ms = log.recover()
            if log.number != applied:
                self._replay(entries, committed_ms, log.number)
            reserve.make(self.path)
        except BaseException:
            log.close()
            raise
        return log

    def _replay(self, entries: Sequence[bytes], committed_ms: int, number: int) -> None:
        """Bring what was found in the log into the tables."""
        try:
            self._write(self._decoded(entries), committed_ms, number)
        except StoreError as error:
            if isinstance(error.__cause__, (sqlite3.OperationalError, MemoryError)):
                raise
            # Not the disk's word, so each start would fail of it.
            raise StoreCorruptError(f"what the log has contradicts the tables: {error}") from error

    @property
    def logged_bytes(self) -> int:
        """What the log has that the tables have not."""
        return self._log.used_bytes

    @property
    def writer(self) -> LogWriter | None:
        """What commits for those on other threads, beside this one; None where nothing is to survive."""
        return self._log.writer if isinstance(self._log, RedoLog) else None

    def wait(self, writer: LogWriter) -> int:
        """What the `writer` has for the tables, when it has something. Raises StoreError as `log` does."""
        self._require_health()
        try:
            return writer.wait()
        except OSError as error:
            self._has_failed = True
            raise self.failure("could not commit", error) from error

    def try_store_batch(self, writer: LogWriter) -> bool:
        """Make room for the batch that the `writer` has no room for; or where all is free, store it in the tables (True).

        Raises StoreError.
        """
        if self._log.used_bytes:
            self.check_in()
            return False
        batch, at_ms = writer.take_batch()
        self._write_past_log(batch, at_ms)
        return True

    def _write_past_log(self, entries: Sequence[bytes], now_ms: int) -> None:
        """Into the tables at once; nothing may be in the log, or it would count as being in them too."""
        sealed = self._seal()
        assert not sealed.entries, "the log is not empty"
        self._write(self._decoded(entries), now_ms, sealed.number)

    def log(self, entries: Sequence[bytes], now_ms: int) -> None:
        """Store encoded `entries` with one sync, while nobody submits any. Raises StoreError: are they stored? Nobody knows.

        Nothing may be stored after that: it could stand beyond what can't be read back.
        """
        self._require_health()
        if not self._try_append(entries, now_ms):
            while self._log.used_bytes:  # what was sealed before, and then what is open
                self.check_in()
            if not self._try_append(entries, now_ms):
                self._write_past_log(entries, now_ms)  # more than a segment holds

    def _require_health(self) -> None:
        if self._has_failed:
            raise StoreError(f"the store {self.path} has failed before")

    def _try_append(self, entries: Sequence[bytes], now_ms: int) -> bool:
        try:
            return self._log.try_append(entries, now_ms)
        except OSError as error:
            self._has_failed = True
            raise self.failure("could not commit", error) from error

    def check_in(self) -> None:
        """Bring what the log has into the tables, in one transaction; commits go on meanwhile.

        Raises StoreError; it is still in the log then.
        """
        if self._log.used_bytes:
            sealed = self._seal()
            self._write(self._decoded(sealed.entries), sealed.at_ms, sealed.number)

    def apply(self, changes: Sequence[Change], now_ms: int) -> None:
        """Store `changes` in the tables, with what the log has. Raises StoreError; nothing is stored then."""
        sealed = self._seal()
        self._write([*self._decoded(sealed.entries), merge(changes)], now_ms, sealed.number)

    def _seal(self) -> Sealed:
        try:
            return self._log.seal()
        except OSError as error:
            self._has_failed = True
            raise self.failure("could not commit", error) from error

    def _decoded(self, entries: Sequence[bytes]) -> list[Entry]:
        try:
            return [decode(entry) for entry in entries]
        except msgspec.DecodeError as error:
            raise StoreCorruptError(
                f"the log of the store {self.path} has what is none of ours: {error}"
            ) from error

    def _write(self, entries: Sequence[Entry], now_ms: int, number: int) -> None:
        """All that the log has up to frame `number`, and what comes after it, into the tables."""
        try:
            with transaction(self._db):
                seen_upto = write(self._db, entries, now_ms, self._seen_upto)
                self._db.execute("REPLACE INTO meta VALUES ('redo', ?)", (number,))
        except Exception as error:  # what SQLite can't take is an OverflowError, for one
            self._has_failed = True
            raise self.failure("could not commit", error) from error
        # Not before: a stop up to here finds all of it in the log.
        self._log.release()
        self._seen_upto = seen_upto
        self.check_ins += 1
        self._pages_bytes = 0
        if any(map(sqlite_parked.touches, entries)):
            self.parked_counts = sqlite_parked.counts(self._db)

    def reclass_sends(
        self, seqs: Sequence[int], old: SendClass, new: SendClass, *, is_scheduled: bool
    ) -> list[SendRecord]:
        """Give waiting sends another class, in one transaction; without those that don't wait in `old`."""
        offset = SCHEDULED * is_scheduled
        self._pages_bytes = 0
        try:
            with transaction(self._db):
                return sqlite_sends.reclass(self._db, self.store_id, seqs, old + offset, new + offset)
        except sqlite3.Error as error:
            raise self.failure("could not move sends", error) from error

    def start_sends(self, records: Sequence[SendRecord]) -> None:
        """Move scheduled sends into the line of their class, in one transaction."""
        self._pages_bytes = 0
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
        self._pages_bytes = 0
        if dropped:
            self.parked_dropped += dropped
            self.parked_counts = sqlite_parked.counts(self._db)
        return max(deleted, dropped) >= MAINTENANCE_ROWS

    def recover(self, now_ms: int, recent_ms: int = 0) -> Recovered:
        """Everything that must be known before work starts, and before anything is applied.

        `recent` goes back `recent_ms` from `now_ms` (wall clock).
        """
        try:
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

    def find_inbound(self, places: Sequence[Place]) -> list[InboundRecord]:
        """Those waiting records that are in these places."""
        return sqlite_read.find_inbound(self._db, places)

    def find_sends(self, places: Sequence[Place]) -> list[SendRecord]:
        """Those waiting sends that are in these places."""
        return sqlite_read.find_sends(self._db, self.store_id, places)

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

    def read_expiring(self, limit: int) -> list[SendStatus]:
        """Waiting sends with a time to live, those that expire first first."""
        return sqlite_sends.read_expiring(self._db, self.store_id, limit)

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
        """Bytes of the pages in use and of what the log has; SQLite's own log comes on top, some megabytes at most."""
        return self.pages_bytes() + self.logged_bytes

    def pages_bytes(self) -> int:
        """Of the tables' pages in use."""
        if not self._pages_bytes:
            pages = pragma(self._db, "page_count") - pragma(self._db, "freelist_count")
            self._pages_bytes = pages * pragma(self._db, "page_size")
        return self._pages_bytes

    def trim(self) -> None:
        """Give back what SQLite's own log takes beyond `WAL_KEPT_BYTES`: on a small disk nothing may be left beside it.

        Raises StoreError; where there is no room for it now, nothing happens.
        """
        try:
            if self.path.with_name(f"{self.path.name}-wal").stat().st_size > WAL_KEPT_BYTES:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except FileNotFoundError:
            return  # there is none yet, or nothing at all is on disk
        except (OSError, sqlite3.Error) as error:
            failure = self.failure("could not be trimmed", error)
            if not isinstance(failure, StoreFullError):
                self._has_failed = True
                raise failure from error

    def close(self) -> None:
        """Check the logs into the file and let go of it. After a failure they are left as they are, for the next start.

        So they are when the disk fails now: nobody waits for it any more.
        """
        if not self._has_failed:
            with contextlib.suppress(StoreError):
                self.check_in()
        self._log.close()
        close_file(self._db)

    def failure(self, what: str, error: Exception) -> StoreError:
        """What `error` means for whoever must act."""
        return store_error(self.path, what, error)

    def set_aside(self, error: StoreCorruptError) -> StoreCorruptError:
        """Rename the damaged file, closed before; the error that says so."""
        return set_aside(self.path, error)

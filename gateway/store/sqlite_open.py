"""The store file opened or made, for ourselves alone, and never one that isn't ours."""

import contextlib
import secrets
import sqlite3
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StoreCorruptError, StoreError, StoreFullError
from gateway.store import reserve
from gateway.store.protocol import Sync
from gateway.store.sqlite_faults import is_log_alone, set_aside, store_error, sync_directory
from gateway.store.sqlite_schema import SCHEMA, SCHEMA_VERSION, meta, pragma, transaction


class OpenFile(NamedTuple):
    """The connection, and what of the file never changes."""

    db: sqlite3.Connection
    store_id: str
    secret: bytes


def open_file(path: Path, sync: Sync) -> OpenFile:
    """Open or make the store file `path` and its directory; nothing of the kind where `sync` is OFF.

    Raises StoreBusyError when another process has it, StoreCorruptError when it was damaged and has been set aside,
    and StoreError when it can't be used. A full disk is no reason not to open a store that there is.
    """
    if sync is Sync.OFF:
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _make_tables(db)
        return OpenFile(db, meta(db, "store_id"), meta(db, "secret"))
    try:
        _make_directory(path.parent)
        has_lost_store = is_log_alone(path)
    except OSError as error:
        raise store_error(path, "can't be opened", error) from error
    if has_lost_store:
        raise set_aside(path, StoreCorruptError(f"the store {path} is gone or empty, and its log is not"))
    try:
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise store_error(path, "can't be opened", error) from error
    try:
        _prepare(db, path)
        return OpenFile(db, meta(db, "store_id"), meta(db, "secret"))
    except (sqlite3.Error, OSError, StoreError) as error:
        db.close()
        failure = store_error(path, "can't be used", error)
        if isinstance(failure, StoreCorruptError):
            raise set_aside(path, failure) from error
        raise failure from error


def _make_directory(directory: Path) -> None:
    """With its parents; the names of those made are on disk."""
    made = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in made:
        sync_directory(one.parent)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    # Exclusive: a second gateway is refused at its first read, and WAL needs no shared memory file.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    is_new = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    version = pragma(db, "user_version")
    if version != (0 if is_new else SCHEMA_VERSION):
        # Before anything is written: it may be another program's, or a later version's.
        raise StoreError(f"the store {path} can't be used: it has format {version}, not {SCHEMA_VERSION}")
    db.execute("PRAGMA journal_mode=WAL")
    # Whatever the log does: what comes after a transaction must not be on disk without it, or a send that was given another
    # class and has ended would wait in the old one.
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA temp_store=MEMORY")
    if is_new:
        _make_tables(db)
        sync_directory(path.parent)
    else:
        reserve.give_up_on_full_disk(path)
        _begin_log_anew(db, path)


def _make_tables(db: sqlite3.Connection) -> None:
    with transaction(db):
        for statement in SCHEMA.split(";\n"):
            db.execute(statement)
        values = [("store_id", secrets.token_hex(4)), ("secret", secrets.token_bytes(16))]
        db.executemany("INSERT INTO meta VALUES (?, ?)", values)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _begin_log_anew(db: sqlite3.Connection, path: Path) -> None:
    """Bring what SQLite's own log has into the file, and let that log begin anew.

    The process before may have ended because its sync failed in a check-in: then the kernel shows us pages of a transaction
    that are not on disk. The redo log, which still has all of it, is written over as soon as we believe them; and
    nothing that comes after them in the same log would survive a power cut.
    """
    try:
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        with transaction(db):
            db.execute("REPLACE INTO meta VALUES ('opened', datetime('now'))")
    except sqlite3.OperationalError as error:
        # On a full disk nothing is accepted and nothing is sent until there is room; what is known can be asked.
        if not isinstance(store_error(path, "", error), StoreFullError):
            raise


def close_file(db: sqlite3.Connection) -> None:
    """Check the log into the file and let go of it. An ill disk keeps the log, which the next start reads."""
    with contextlib.suppress(sqlite3.Error):
        db.close()

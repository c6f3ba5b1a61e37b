"""What SQLite's errors mean for whoever must act, and a damaged file out of the way."""

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from gateway.errors import StoreBusyError, StoreCorruptError, StoreError, StoreFullError

_PRIMARY: Final = 0xFF
"""Of an extended error code: SQLITE_IOERR_FSYNC is a SQLITE_IOERR."""

_CLASSES: Final[dict[int, type[StoreError]]] = {
    sqlite3.SQLITE_BUSY: StoreBusyError,
    sqlite3.SQLITE_LOCKED: StoreBusyError,
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_CORRUPT: StoreCorruptError,
    sqlite3.SQLITE_NOTADB: StoreCorruptError,
}
_REASONS: Final[dict[type[StoreError], str]] = {StoreBusyError: "it is in use by another process"}


def store_error(path: Path, what: str, error: Exception) -> StoreError:
    """The error to raise for `error`: the store `path` `what`, in words that an operator can act on."""
    if isinstance(error, StoreError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    made = StoreError if code is None else _CLASSES.get(code & _PRIMARY, StoreError)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        made = StoreFullError
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return made(f"the store {path} {what}: {_REASONS.get(made, f'{error} ({name})')}")


def set_aside(path: Path, error: StoreCorruptError) -> StoreCorruptError:
    """Rename a damaged store and its logs, whole, so that the next start makes a new one; the error that says so.

    Nobody may have it open. It is called `.corrupt-TIME` then (UTC).
    """
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    try:
        # The logs last: a log without its store is known for what it is (`is_log_alone`), a store without its log is not.
        for suffix in ("", "-redo", "-wal"):
            if os.path.lexists(f"{path}{suffix}"):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH105 - the names are strings here
        sync_directory(path.parent)
    except OSError as problem:
        return StoreCorruptError(f"{error}; it can't be set aside ({problem}), move it away by hand")
    return StoreCorruptError(
        f"{error}; it was set aside as {aside}, with all that waited in it, and the next start begins with an empty store."
        f' To get back what can be read: sqlite3 {aside} ".recover" (docs/durability.md)'
    )


def is_log_alone(path: Path) -> bool:
    """Whether there is a log and no store that it belongs to: SQLite would delete its own without a word."""
    return _size(path) == 0 and any(_size(Path(f"{path}{suffix}")) for suffix in ("-redo", "-wal"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sync_directory(directory: Path) -> None:
    """Put the names in a directory on disk. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

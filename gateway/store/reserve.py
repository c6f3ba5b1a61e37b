"""Room that is given up on a full disk, so that a start can bring into the tables what the log has.

The log itself is allocated beforehand; the tables are not. A process that was killed when another program had filled the
disk would otherwise not know what it has accepted until there is room.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from gateway.store.room import LOW_BYTES, RESERVE_BYTES

SUFFIX: Final = "-reserve"

SIZE_BYTES: Final = 16 << 20
"""All of a log as rows, in SQLite's own log and then in its file, and as much again."""


def give_up_on_full_disk(store_path: Path) -> None:
    """Where there is no room for a start, give up the reserve. Raises OSError."""
    if _free_bytes(store_path) < SIZE_BYTES:
        _path(store_path).unlink(missing_ok=True)


def make(store_path: Path) -> None:
    """Make the reserve, if there is none and the disk is far from full. One that can't be made is no trouble."""
    path = _path(store_path)
    with contextlib.suppress(OSError):
        if not path.exists() and _free_bytes(store_path) > SIZE_BYTES + RESERVE_BYTES + LOW_BYTES:
            _allocate(path)


def _path(store_path: Path) -> Path:
    return Path(f"{store_path}{SUFFIX}")


def _free_bytes(store_path: Path) -> int:
    found = os.statvfs(store_path.parent)
    return found.f_bavail * found.f_frsize


def _allocate(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, SIZE_BYTES)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)

"""A redo log on a disk that fails."""

import os

from gateway.store.redo_log import RedoLog
from gateway.store.sqlite_file import SqliteFile

SAYS = "Bad file descriptor"
"""What whoever writes to it is told."""


def break_log(file: SqliteFile) -> None:
    """From now on no commit reaches the log of an open store."""
    assert isinstance(file._log, RedoLog)
    unwritable = os.open(os.devnull, os.O_RDONLY)
    os.dup2(unwritable, file._log._handle)
    os.close(unwritable)

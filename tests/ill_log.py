"""A redo log on a disk that fails."""

import errno
from typing import NoReturn

from gateway.store.sqlite_file import SqliteFile


def break_log(file: SqliteFile) -> None:
    """From now on no commit reaches the log of an open store."""

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "the disk is ill")

    file._log.try_append = fail  # type: ignore[method-assign,assignment]

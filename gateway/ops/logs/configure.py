"""The root logger, from settings to a running `Log` and back."""

import logging
import os
from typing import Literal

from gateway.ops.logs.lines import Render, renderer
from gateway.ops.logs.writer import LINES_MAX, LineWriter

STOP_TIMEOUT_S = 2.0
"""Part of what the unit allows for stopping beyond the drain; see wa-gateway.service."""


class Log(logging.Handler):
    """The running log, and the root logger's one handler."""

    def __init__(self, render: Render, writer: LineWriter) -> None:
        super().__init__()
        self._render = render
        self._writer = writer
        root = logging.getLogger()
        self._before = (root.level, root.handlers[:])

    @property
    def dropped(self) -> int:
        """Lines dropped because standard output was not read, for a metric."""
        return self._writer.dropped

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self._render(record))

    def stop(self) -> None:
        """Write what is queued, for at most two seconds, and give the root logger back as it was."""
        root = logging.getLogger()
        if self in root.handlers:
            level, handlers = self._before
            root.setLevel(level)
            root.handlers[:] = handlers
        self.close()

    def close(self) -> None:
        """As logging's own shutdown calls it when the process ends without `stop`."""
        self._writer.stop(STOP_TIMEOUT_S)
        super().close()


def configure(
    log_format: Literal["auto", "json", "text"],
    level: str,
    *,
    shows_content: bool,
    fd: int = 1,
    lines_max: int = LINES_MAX,
) -> Log:
    """Send what is logged from now on to `fd`, one line a record.

    `auto` is text on a terminal, JSON elsewhere. When `fd` is the stream systemd connected to journald
    (JOURNAL_STREAM), each line starts with its priority. `level` is a name of `logging` in any case.
    """
    render = renderer(
        is_json=log_format == "json" or (log_format == "auto" and not os.isatty(fd)),
        has_priority=_is_journal(fd),
        shows_content=shows_content,
    )
    log = Log(render, LineWriter(fd, lines_max))
    root = logging.getLogger()
    root.handlers[:] = [log]
    root.setLevel(level.upper())
    return log


def _is_journal(fd: int) -> bool:
    """Whether `fd` is what JOURNAL_STREAM names: a child with its output elsewhere inherits the variable too."""
    stat = os.fstat(fd)
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"

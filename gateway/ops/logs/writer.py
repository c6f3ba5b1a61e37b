"""Lines to a file descriptor through a bounded queue and one thread.

Standard output is a socket to journald, which blocks us when journald stalls. The loop only ever appends to a
queue in memory; when that is full the line is dropped and counted.
"""

import os
import queue
import select
import threading
from typing import Final

LINES_MAX: Final = 4_096
"""A second of a very loud gateway. At a few hundred bytes a line about 1 MiB, at the longest ones 80 MiB."""
BATCH_MAX: Final = 64
"""Lines in one write: a system call costs about as much as a line."""


class LineWriter:
    """Write lines to `fd`, which stays the caller's; `put` never waits."""

    def __init__(self, fd: int, lines_max: int = LINES_MAX) -> None:
        self._fd = fd
        self._lines_max = lines_max
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._dropped = 0
        self._lost = 0
        # A daemon: a stalled journald must not keep a process that wants to end.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._is_stopped = False
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were never written: the queue was full, or the descriptor refused them."""
        return self._dropped + self._lost

    def put(self, line: bytes) -> None:
        """Queue `line`, or drop it."""
        # Several threads may pass this test together and put a few lines more; the bound is about memory.
        if self._is_stopped or self._queue.qsize() >= self._lines_max:
            self._dropped += 1
        else:
            self._queue.put(line)

    def stop(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s`; what is put later is dropped. Twice does nothing."""
        if not self._is_stopped:
            self._is_stopped = True
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        is_open = True
        while is_open:
            lines = [self._queue.get()]
            while len(lines) < BATCH_MAX and lines[-1] is not None:
                try:
                    lines.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            is_open = lines[-1] is not None
            batch = [line for line in lines if line is not None]
            if not self._write(b"".join(batch)):
                self._lost += len(batch)

    def _write(self, block: bytes) -> bool:
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares the descriptor may have made it non-blocking
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True

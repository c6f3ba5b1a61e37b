"""What the disk has left, so that doors close before it is full: what is in hand can still be settled then.

The store's bound (`GATEWAY_STORE_MAX_BYTES`) is the operator's; this is the disk's, which other programs fill too.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.clock import NS_PER_MS, Clock

RESERVE_BYTES: Final = 32 << 20
"""Left to those that settle: a log of some megabytes, and one commit of 512 changes with bodies of 16 kB beside it."""

LOW_BYTES: Final = RESERVE_BYTES
"""Above the reserve: with less than this, pushes and receipts are refused. The last belongs to messages."""

LOOK_INTERVAL_NS: Final = 100 * NS_PER_MS
"""A look is a system call of 2 µs. What fills the reserve within this, 320 MB/s, fails a commit."""


class EndlessRoom:
    """Where nothing is on a disk: the operator's bound is the only one."""

    on_lost: Callable[[OSError], None]

    def free_bytes(self) -> int:
        return 1 << 62


class DiskRoom:
    """Free bytes of the file system that a directory is on. Called on the loop."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._looked_ns: int | None = None
        self._free_bytes = 0
        self.on_lost: Callable[[OSError], None] = lambda _error: None
        """Called when the directory can't be looked at any more."""

    def free_bytes(self) -> int:
        """What may still be taken, the reserve not counted; 0 when the disk is as good as full."""
        now_ns = self._clock.now_ns()
        if self._looked_ns is None or now_ns - self._looked_ns >= LOOK_INTERVAL_NS:
            self._looked_ns = now_ns
            try:
                found = os.statvfs(self._directory)
            except OSError as error:
                self._free_bytes = 0
                self.on_lost(error)
            else:
                self._free_bytes = max(0, found.f_bavail * found.f_frsize - RESERVE_BYTES)
        return self._free_bytes

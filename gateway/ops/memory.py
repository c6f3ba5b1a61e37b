"""How much of the memory this process may have is used, as the kernel counts it; and what is free given back to it."""

import ctypes
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")

LARGE_BYTES: Final = 128 << 10
"""What glibc takes for large as long as it has learned nothing."""

_M_MMAP_THRESHOLD: Final = -3
"""In malloc.h."""


class MemoryGauge:
    """The control group's limit and what cannot be given back of it (version 2 of the interface)."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` of the control group; by default this process's own. Without a limit `fill` is 0 for ever."""
        self._directory = directory if directory is not None else _own_directory()
        self.limit_bytes = _limit_bytes(self._directory)

    def fill(self) -> float:
        """Anonymous memory as a share of the limit; pages of files are the kernel's to drop and don't count."""
        if self.limit_bytes is None or self._directory is None:
            return 0.0
        try:
            stat = (self._directory / "memory.stat").read_text()
        except OSError:
            return 0.0
        anon = next((line for line in stat.splitlines() if line.startswith("anon ")), "anon 0")
        return int(anon.split()[1]) / self.limit_bytes


def _own_directory() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if path is None else _CGROUPS / path.lstrip("/")


def _limit_bytes(directory: Path | None) -> int | None:
    """The tightest of `memory.high` and `memory.max`, up to the root: a limit above binds as well."""
    limits = []
    while directory is not None and directory != _CGROUPS.parent:
        for name in ("memory.high", "memory.max"):
            try:
                text = (directory / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                limits.append(int(text))
        if directory in (_CGROUPS, directory.parent):
            break
        directory = directory.parent
    return min(limits, default=None)


def set_large_apart() -> None:
    """Let each large block have pages of its own, which go back to the system when it is freed (glibc).

    By itself glibc learns from the first large block that is freed, and takes the next ones from the heap: the checkpoint of
    a full ledger, 8 MB, made the process 24 MB larger for a moment, and 9 MB so. Call before much is allocated.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library can (glibc).

    What a checkpoint of the receipts takes for a moment, tens of megabytes, would stay with the process for ever.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

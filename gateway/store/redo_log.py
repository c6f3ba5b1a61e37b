"""What was committed and is not in the tables yet: a file of fixed size, two segments that take turns.

A group commit is one frame: one call that writes and syncs, whatever it changes, where the tables would cost a statement for
each of them and a tree to look through. When some have come together in a segment it is sealed: commits go into the other
one, and what the sealed one has goes into the tables at once (`sqlite_file.py`), after which it is free. What was accepted
and delivered in between never touches a table.

Frames are numbered without end, and the tables know the last number that is in them. At a start the frames that follow it
are read back, from the segment that begins with the next number and then from the other one: the first one that is not
whole was being written when the process or the machine stopped, and nobody was told that it is on disk. One that is not
whole *before* a whole one was damaged since, and that is said; unless they were left to the kernel (`Sync.OS`), which writes
them in any order. A number that was ever seen in a frame is never given again.

    file    = magic (8), store id (8), zeros up to 4096, two segments of 4 MiB
    segment = frames, and what is left of earlier ones
    frame   = magic (4), length (4), number (8), time (8), CRC-32 of all that and the payload (4), payload
    payload = entries as `change_codec.py` writes them, each after its length (4)

`_fast/log_writer.pyx` writes the frames, for whoever appends one and for a thread that commits what others submit. A log of
the first version has one segment, the first: its frames are where they would be now.

Numbers are little-endian; the time is the commit's, wall clock in ms. The CRC begins with the store's secret, so that no body
can have a frame in it that looks like one of ours.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gateway._fast.log_writer import LogWriter
from gateway.errors import StoreCorruptError
from gateway.store.sqlite_faults import sync_directory

SUFFIX: Final = "-redo"

FIRST: Final = 4096
"""Where the frames begin: no sector of the header is written again with them."""

SEGMENT_BYTES: Final = 4 << 20
"""Both are allocated when the store is made: a commit needs no new block of the file system, and no room on a full disk."""

_FILE_MAGIC: Final = b"wa-redo2"
_OLD_FILE_MAGIC: Final = b"wa-redo1"
_MAGIC_START: Final = b"\xf7rd"
_SYNCED: Final = _MAGIC_START + b"s"
_UNSYNCED: Final = _MAGIC_START + b"k"
"""Left to the kernel."""
_FIELDS: Final = struct.Struct("<4sIQQ")
_LENGTH: Final = struct.Struct("<I")
_CHECKSUM: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _FIELDS.size + _CHECKSUM.size

log = logging.getLogger(__name__)


class RedoLog:
    """The open log of one store. Used by one thread at a time; raises OSError when the disk does."""

    def __init__(
        self, store_path: Path, store_id: str, secret: bytes, applied: int, *, syncs: bool = True
    ) -> None:
        """Open or make the log beside the store `store_path`, which is ours and has everything up to frame `applied`.

        Without `syncs` a frame is with the kernel when `try_append` returns, and no further.
        Raises OSError, and StoreCorruptError where the log is not that of this store.
        """
        self.path = Path(f"{store_path}{SUFFIX}")
        self._header = _FILE_MAGIC + store_id.encode()
        self._seed = zlib.crc32(secret)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._begin(applied)
            self.writer = LogWriter(
                self._handle,
                _SYNCED if syncs else _UNSYNCED,
                self._seed,
                FIRST,
                SEGMENT_BYTES,
                # One call writes and syncs.
                os.RWF_DSYNC if syncs else 0,
            )
        except BaseException:
            os.close(self._handle)
            raise
        self.writer.go_on(applied)

    def _begin(self, applied: int) -> None:
        content = _read(self._handle)
        header = content[: len(self._header)]
        if header not in {self._header, self._header.replace(_FILE_MAGIC, _OLD_FILE_MAGIC)}:
            # Made and not written to the end is a part of ours. Anything else may have what was committed.
            if not self._header.startswith(header.rstrip(b"\0")) or self._later_frames(content, 0, applied):
                raise StoreCorruptError(f"{self.path} is not the log of this store")
            if applied and not content:
                log.warning("the store had no log: if %s was lost, so is what it had", self.path)
        if len(content) < FIRST + 2 * SEGMENT_BYTES:
            _allocate(self._handle, len(content))
        # The process before may have ended because this sync failed; the kernel would show us what is not on disk.
        _write(self._handle, self._header, 0)
        os.fsync(self._handle)
        sync_directory(self.path.parent)

    @property
    def number(self) -> int:
        """Of the last frame."""
        return self.writer.number

    @property
    def used_bytes(self) -> int:
        """Of what is not in the tables."""
        return self.writer.used_bytes

    def try_append(self, entries: Sequence[bytes], now_ms: int) -> bool:
        """Put encoded entries on disk as one frame, if there is room. After an OSError nobody knows whether they are."""
        return self.writer.append([*entries], now_ms)

    def seal(self) -> "Sealed":
        """What was committed and is not in the tables, in order. What comes now is not in it."""
        entries = self.writer.seal()
        return Sealed(entries, self.writer.sealed_number, self.writer.sealed_ms)

    def release(self) -> None:
        """What was sealed is in the tables, on disk."""
        self.writer.release()

    def recover(self) -> tuple[list[bytes], int]:
        """The encoded entries that are not in the tables, in order, and when the last was committed.

        They must be in the tables, up to the frame `number`, before anything is appended, which is written over them. Raises
        StoreCorruptError where a frame was damaged after it had been written.
        """
        content = _read(self._handle)
        entries: list[bytes] = []
        committed_ms = 0
        number = self.number
        segments = [FIRST, FIRST + SEGMENT_BYTES]
        if (first := self._frame_at(content, segments[1])) is not None and first.number == number + 1:
            segments.reverse()
        for begin in segments:
            end = begin
            while (frame := self._frame_at(content, end)) is not None and frame.number == number + 1:
                entries += _entries_in(frame.payload)
                number, committed_ms, end = frame.number, frame.at_ms, frame.end
        if later := self._later_frames(content, FIRST, number):
            if any(frame.is_synced for frame in later):
                raise StoreCorruptError(f"{self.path} is damaged: frame {number + 1} is not whole")
            log.warning(
                "the last commits were not on disk: %d of them are here in part and dropped", len(later)
            )
            number = max(frame.number for frame in later)
        self.writer.go_on(number)
        return entries, committed_ms

    def _frame_at(self, content: bytes, at: int) -> "_Frame | None":
        """The whole frame that begins at `at`, if there is one."""
        begin = at + _HEAD_BYTES
        if begin > len(content):
            return None
        magic, length, number, at_ms = _FIELDS.unpack_from(content, at)
        if magic not in {_SYNCED, _UNSYNCED} or begin + length > len(content):
            return None
        payload = content[begin : begin + length]
        (checksum,) = _CHECKSUM.unpack_from(content, at + _FIELDS.size)
        if zlib.crc32(payload, zlib.crc32(content[at : at + _FIELDS.size], self._seed)) != checksum:
            return None
        return _Frame(number, at_ms, payload, begin + length, magic == _SYNCED)

    def _later_frames(self, content: bytes, at: int, number: int) -> "list[_Frame]":
        """Whole frames from `at` on that are later than `number`; those of earlier rounds are not."""
        found: list[_Frame] = []
        while (at := content.find(_MAGIC_START, at)) >= 0:
            frame = self._frame_at(content, at)
            if frame is not None and frame.number > number:
                found.append(frame)
            at += 1
        return found

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class Sealed(NamedTuple):
    """What is on its way into the tables."""

    entries: list[bytes]
    number: int
    """Of its last frame, or of the last one that is in the tables when there is none."""
    at_ms: int
    """When the last of the entries was committed; 0: there is none."""


class _Frame(NamedTuple):
    number: int
    at_ms: int
    payload: bytes
    end: int
    is_synced: bool


def _allocate(handle: int, size: int) -> None:
    """To what it needs; it has `size` bytes, which stay as they are."""
    try:
        os.posix_fallocate(handle, 0, FIRST + 2 * SEGMENT_BYTES)
    except OSError:
        # It grows as it is needed then; a file system that can't allocate ahead is slower, not unsafe.
        os.ftruncate(handle, size)


def _write(handle: int, data: bytes, at: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(handle, data[written:], at + written)


def _read(handle: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while part := os.pread(handle, SEGMENT_BYTES, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _entries_in(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        yield payload[at : at + length]
        at += length


class NoLog:
    """In place of a log where nothing is to survive: a commit is done when it is asked for."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self._entries: list[bytes] = []
        self._last_ms = 0

    def try_append(self, entries: Sequence[bytes], now_ms: int) -> bool:
        self._entries += entries
        self._last_ms = now_ms
        self.used_bytes += sum(map(len, entries))
        return True

    def seal(self) -> Sealed:
        return Sealed(self._entries, 0, self._last_ms)

    def release(self) -> None:
        self._entries = []
        self.used_bytes = 0

    def close(self) -> None:
        pass

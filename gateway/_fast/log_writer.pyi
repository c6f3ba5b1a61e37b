"""Frames of the redo log, written by a thread that does not need the interpreter for it."""

from typing import Final, Self, final

CALLED: Final = 1
"""`serve` ended because of `call`, and everything that was submitted before is stored and told."""
MUCH: Final = 2
"""The log has as much as was said."""
IDLE: Final = 3
"""It has something, and nothing came for a while."""
HELD: Final = 4
"""What was asked to be held is stored: it is told with `tell`."""
NO_ROOM: Final = 5
"""The next batch does not fit: `begin_anew`, or where that was done already, `take_batch`."""

@final
class LogWriter:
    """The end of a redo log: whoever submits is on one thread, whoever calls `serve` and what follows it on another.

    Readable (`fileno`) when something submitted is stored and `take_told` has not told so yet.
    """

    commits: int
    """Frames written, and batches taken out, since it was made."""

    def __new__(cls, file: int, magic: bytes, seed: int, first: int, limit: int, flags: int) -> Self:
        """`file` is open for writing, and stays the caller's.

        Frames begin with `magic` (4 bytes) and go from `first` to `limit` (bytes); their CRC-32 begins with `seed`.
        `flags` are those of pwritev2. Raises OSError.
        """

    @property
    def number(self) -> int:
        """Of the last frame."""

    @property
    def used_bytes(self) -> int:
        """Of the frames since `begin_anew`."""

    def go_on(self, number: int, end: int) -> None:
        """The frames found in the log end at byte `end`, and the last one has this number."""

    def fileno(self) -> int:
        """For `loop.add_reader`."""

    def close(self) -> None:
        """Close that descriptor; once more does nothing. Remove the reader from the loop first, and serve no more."""

    def submit(self, encoded: bytes, changes: int, at_ms: int, holds: bool) -> None:
        """Let an entry be stored, after those before it: `changes` says how much it counts in a batch.

        `at_ms` is when (wall clock). `holds`: it is not told before the thread says `tell`.
        """

    def call(self) -> None:
        """Let `serve` end when everything submitted so far is stored."""

    def take_told(self) -> int:
        """How many entries were stored since the last time, in the order in which they were submitted."""

    def serve(self, spacing_ns: int, crowd: int, batch_changes: int, much_bytes: int, idle_ns: int) -> int:
        """Write what is submitted, until one of the reasons above, without the interpreter's lock.

        A frame has up to `batch_changes` changes. One of fewer than `crowd` is followed by a pause of `spacing_ns`, or until
        as many changes wait.
        Raises OSError: then nobody knows whether the batch is stored, and nothing may be stored any more.
        """

    def take_call(self) -> bool:
        """Whether `serve` has ended for a call that was not taken yet; takes it."""

    def tell(self) -> None:
        """Tell whoever submitted the last batch that it is stored."""

    def take_batch(self) -> tuple[list[bytes], int]:
        """Take out the batch there was no room for, and when it was submitted; it counts as stored, and is to be told."""

    def append(self, entries: list[bytes], at_ms: int) -> bool:
        """Write one frame at once, if there is room. Only while nobody submits or serves. Raises OSError as `serve` does."""

    def entries(self) -> list[bytes]:
        """Those in the log since `begin_anew`, in order."""

    @property
    def last_ms(self) -> int:
        """When the last of them was submitted; 0: there is none."""

    def begin_anew(self) -> None:
        """Forget what is in the log: write from its beginning."""

"""The end of the redo log, and the three threads that meet there: one submits, one writes, one has the tables.

None of them needs the interpreter's lock while it writes or waits. The log has two segments: frames are added to the one that
is open; what is sealed is on its way into the tables.
"""

from typing import Final, Self, final

from gateway._fast.histogram import LatencyHistogram

CALLED: Final = 1
"""`wait` ended because of `call`, and everything that was submitted before is stored and told."""
MUCH: Final = 2
"""The open segment has as much as was said."""
IDLE: Final = 3
"""It has something, and nothing came for a while."""
HELD: Final = 4
"""What was asked to be held is stored: nothing more is, until `tell`."""
NO_ROOM: Final = 5
"""The next batch does not fit: `seal` and `release`; where the log is empty, `take_batch` and `tell`."""

@final
class LogWriter:
    """Readable (`fileno`) when something submitted is stored and `take_told` has not told so yet."""

    commits: int
    """Frames written, and batches taken out, since it was made."""
    writes: LatencyHistogram
    """How long `serve` took to write and sync each frame."""

    def __new__(cls, file: int, magic: bytes, seed: int, first: int, segment_bytes: int, flags: int) -> Self:
        """`file` is open for writing, and stays the caller's.

        Frames begin with `magic` (4 bytes), their CRC-32 with `seed`; the first segment begins at byte `first`, the other
        one follows it. `flags` are those of pwritev2. Raises OSError.
        """

    # on any thread

    @property
    def number(self) -> int:
        """Of the last frame."""

    @property
    def used_bytes(self) -> int:
        """Of the frames that were not released."""

    def stop(self) -> None:
        """Let `serve` end, when its frame is written; nothing more is told."""

    # for whoever submits

    def fileno(self) -> int:
        """For `loop.add_reader`."""

    def close(self) -> None:
        """Close that descriptor; once more does nothing. Remove the reader from the loop first, and serve no more."""

    def submit(self, encoded: bytes, changes: int, at_ms: int, holds: bool) -> None:
        """Let an entry be stored, after those before it: `changes` says how much it counts in a batch.

        `at_ms` is when (wall clock). `holds`: it is not told before `tell`, and nothing after it is stored.
        """

    def call(self) -> None:
        """Let `wait` end when everything submitted so far is stored."""

    def take_told(self) -> int:
        """How many entries were stored since the last time, in the order in which they were submitted."""

    # for the thread that writes

    def serve(self, spacing_ns: int, crowd: int, batch_changes: int, much_bytes: int, idle_ns: int) -> None:
        """Write what is submitted, until `stop`, or until a write fails, which `wait` and `seal` raise.

        A frame has up to `batch_changes` changes. One of fewer than `crowd` is followed by a pause of `spacing_ns`, or until
        as many changes wait. `much_bytes` and `idle_ns` are when `wait` ends with MUCH and with IDLE.
        """

    # for the thread that has the tables

    def wait(self) -> int:
        """Until one of the reasons above. Raises OSError when a write has failed: nobody knows whether its batch is stored."""

    def take_call(self) -> bool:
        """Whether `wait` has ended for a call that was not taken yet; takes it."""

    def seal(self) -> list[bytes]:
        """The entries of what was open, in order, which are sealed until `release`: frames go into the other segment now.

        Where some are sealed, those. Raises OSError when the frame under way fails.
        """

    @property
    def sealed_number(self) -> int:
        """Of the last frame in what was sealed last."""

    @property
    def sealed_ms(self) -> int:
        """When the last of the sealed entries was submitted; 0: there is none."""

    def release(self) -> None:
        """What is sealed is in the tables, on disk."""

    def tell(self) -> None:
        """Tell whoever submitted the batch that was held, or taken, that it is stored; go on."""

    def take_batch(self) -> tuple[list[bytes], int]:
        """Take out the batch there was no room for, and when it was submitted; it counts as stored, and is to be told."""

    # for one thread that has all of it, while nobody submits or serves

    def go_on(self, number: int) -> None:
        """The last frame that was found has this number, and everything is in the tables."""

    def append(self, entries: list[bytes], at_ms: int) -> bool:
        """Write one frame of some entries at once, if there is room. Raises OSError."""

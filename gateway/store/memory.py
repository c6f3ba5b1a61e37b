"""What a backlog has in memory, and which of its classes are closed because too much of it stands aside.

A class is *closed*, which means that only delayed ones of it are handed out, while `aside_max` of its records are aside
or `BEHIND_MAX` of them wait on disk behind others of their lanes, or while all that is aside comes to `bytes_max` and
this class has more than its part of that.
"""

from typing import Final

BYTES_MAX: Final = 32 << 20
"""Of bodies in one backlog's memory. Three backlogs with everything aside (64, 43 and 32 MB: by the classes they have)
and their pages (4 MB each) stay below half of MemoryHigh=384M."""

BEHIND_MAX: Final = 1 << 19
"""Records of a class that wait on disk behind others: 4 MB of sequence numbers."""


class Memory:
    """Counts of one backlog. Plain sums, O(1) a call; O(classes) while one of the bounds is reached."""

    def __init__(self, classes: int, aside_max: int, bytes_max: int) -> None:
        self.bytes = 0
        """Of all bodies: ready, taken, delayed, and behind others."""
        self.bytes_max = bytes_max
        self.aside_max = aside_max
        self.aside = [0] * classes
        """Records of each class that stand aside, and below the bytes of their bodies."""
        self.behind_on_disk = [0] * classes
        """Records of each class of which only the number is in memory, since they wait behind others."""
        self.closed = 0
        """Bit mask of the classes that are closed."""
        self._aside_bytes = [0] * classes
        self._all_aside_bytes = 0

    def put_aside(self, cls: int, size: int) -> None:
        """One more stands aside, with a body of `size` bytes."""
        self.aside[cls] += 1
        self._aside_bytes[cls] += size
        self._all_aside_bytes += size
        if self.aside[cls] >= self.aside_max or self._all_aside_bytes >= self.bytes_max:
            self._close()

    def take_away(self, cls: int, size: int) -> bool:
        """One that stood aside leaves memory. Whether a class has opened."""
        self.bytes -= size
        self.aside[cls] -= 1
        self._aside_bytes[cls] -= size
        self._all_aside_bytes -= size
        return self._close() if self.closed else False

    def leave_on_disk(self, cls: int, size: int) -> bool:
        """As `take_away`, of one that waits on disk from here on, behind others of its lane."""
        self.behind_on_disk[cls] += 1
        if self.behind_on_disk[cls] >= BEHIND_MAX:
            self.closed |= 1 << cls
        return self.take_away(cls, size)

    def bring_back(self, cls: int, size: int) -> bool:
        """One that was left on disk is in memory again, and stands aside. Whether a class has opened."""
        self.bytes += size
        self.put_aside(cls, size)
        return self.drop_behind(cls)

    def drop_behind(self, cls: int) -> bool:
        """One that was left on disk waits behind nobody any more. Whether a class has opened."""
        self.behind_on_disk[cls] -= 1
        return self._close() if self.closed else False

    @property
    def has_room_behind(self) -> bool:
        """Whether bodies may be kept of what waits behind others, which takes no more than half of what may be aside."""
        return self._all_aside_bytes < self.bytes_max // 2

    def _close(self) -> bool:
        is_full = self._all_aside_bytes >= self.bytes_max
        part = self.bytes_max // len(self.aside)
        closed = 0
        for cls, count in enumerate(self.aside):
            if (
                count >= self.aside_max
                or self.behind_on_disk[cls] >= BEHIND_MAX
                or (is_full and self._aside_bytes[cls] > part)
            ):
                closed |= 1 << cls
        was_closed, self.closed = self.closed, closed
        return was_closed & ~closed != 0

"""What a backlog has in memory, and which of its classes are closed because too much of it stands aside."""

from typing import Final, Self, final

BEHIND_MAX: Final[int]
"""Records of a class that wait on disk behind others: 4 MB of sequence numbers."""

@final
class Memory:
    """Counts of one backlog. A class that does not exist raises ValueError."""

    bytes: int
    """Of all bodies: ready, taken, delayed, and behind others."""
    bytes_max: int
    aside_max: int
    def __new__(cls, classes: int, aside_max: int, bytes_max: int) -> Self:
        """For 1..16 `classes`, else ValueError."""

    @property
    def aside(self) -> list[int]:
        """Records of each class that stand aside."""

    @property
    def behind_on_disk(self) -> list[int]:
        """Records of each class of which only the number is in memory, since they wait behind others."""

    @property
    def closed(self) -> int:
        """Bit mask of the classes that are closed."""

    @property
    def has_room_behind(self) -> bool:
        """Whether bodies may be kept of what waits behind others, which takes no more than half of what may be aside."""

    def put_aside(self, cls: int, size: int) -> int:
        """One more stands aside, with a body of `size` bytes. The answer says nothing."""

    def take_away(self, cls: int, size: int) -> bool:
        """One that stood aside leaves memory. Whether a class has opened."""

    def leave_on_disk(self, cls: int, size: int) -> bool:
        """As `take_away`, of one that waits on disk from here on, behind others of its lane."""

    def bring_back(self, cls: int, size: int) -> bool:
        """One that was left on disk is in memory again, and stands aside. Whether a class has opened."""

    def drop_behind(self, cls: int) -> bool:
        """One that was left on disk waits behind nobody any more. Whether a class has opened."""

"""Bounded FIFO rings, one a priority class."""

from collections.abc import Sequence
from typing import Final, Self, final

EVERY_CLASS: Final[int]
"""The mask that allows all sixteen classes."""

@final
class PriorityRings:
    """Up to 16 FIFO rings of fixed capacity; class 0 goes first.

    Each item carries a stamp, any int64 of 0 or more that the caller can order by age.
    A class that does not exist raises ValueError. Every method is O(1) unless it says otherwise.
    """

    def __new__(cls, capacities: Sequence[int]) -> Self:
        """Make one empty ring for each of `capacities`, 16 bytes a slot, allocated now.

        1..16 classes of 1 or more slots, 2**24 slots together; else ValueError.
        """

    def push(self, cls: int, item: object, stamp: int) -> bool:
        """Put `item` behind the newest of its class; False, and nothing changed, when the class is full.

        None raises TypeError, a negative `stamp` ValueError.
        """

    def push_many(self, cls: int, items: list[object], stamps: list[int]) -> int:
        """Put in as many of `items` as there is room for, first ones first, and return how many went in.

        Each item has its stamp at the same index. All are checked before any goes in:
        lists of different length and negative stamps raise ValueError, None and what is no exact int TypeError.
        O(items).
        """

    def pop(self, allowed_mask: int) -> object | None:
        """Remove and return the oldest item of the first class that is allowed and has one, else None.

        Bit `c` of `allowed_mask` (0..2**32-1, else OverflowError) allows class `c`.
        """

    def peek_class(self, allowed_mask: int) -> int:
        """The class `pop` would take from, or -1."""

    def depth(self, cls: int) -> int:
        """Items in the class."""

    def capacity(self, cls: int) -> int:
        """Slots of the class."""

    def room(self, cls: int) -> int:
        """Slots still free in the class."""

    def oldest_stamp(self, cls: int) -> int:
        """Stamp of the item that leaves the class next, or -1 when it is empty."""

    def __len__(self) -> int:
        """Items in all classes."""

    def clear(self) -> None:
        """Drop every item. O(slots)."""

"""Order within a lane (a contact, a recipient): one record of it is out at a time, the others wait behind it.

The one that is out *holds* the lane until it has ended, retries and all the waiting between them included. Those behind
it come next by their sequence number, that is by age, whenever they were looked at.
"""

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class _Numbered(Protocol):
    seq: int


R = TypeVar("R", bound=_Numbered)
Lane = Hashable
"""None stands for no lane: such a record waits for nobody."""


class Lanes(Generic[R]):
    """Who holds each lane, and who waits behind. O(log n) a call; a lane that nobody holds takes no memory."""

    def __init__(self, lane_of: Callable[[R], Lane]) -> None:
        self._lane_of = lane_of
        self._holders: dict[Lane, int] = {}
        self._behind: dict[Lane, list[int]] = {}
        """Heaps of sequence numbers; one that was taken out stays until its turn, and is passed over."""
        self._waiting: dict[int, R] = {}

    def enter(self, record: R) -> bool:
        """Whether a record may go out: it holds its lane now. Else it waits behind, until `leave` gives it."""
        lane = self._lane_of(record)
        if lane is None or self._holders.setdefault(lane, record.seq) == record.seq:
            return True
        heapq.heappush(self._behind.setdefault(lane, []), record.seq)
        self._waiting[record.seq] = record
        return False

    def leave(self, record: R) -> R | None:
        """A record has ended: the next of its lane, which holds it now. None: there is none, or it held nothing."""
        lane = self._lane_of(record)
        if lane is None or self._holders.get(lane) != record.seq:
            return None
        behind = self._behind.get(lane, [])
        while behind:
            seq = heapq.heappop(behind)
            if not behind:
                del self._behind[lane]
            found = self._waiting.get(seq)
            if (
                found is not None and self._lane_of(found) == lane
            ):  # else it was taken out, and may wait elsewhere
                del self._waiting[seq]
                self._holders[lane] = seq
                return found
        del self._holders[lane]
        return None

    def waiting(self, seq: int) -> R | None:
        """The record with this number, if it waits behind another."""
        return self._waiting.get(seq)

    def remove(self, seq: int) -> R:
        """Take out one that waits behind another, whatever its place. Raises KeyError for one that does not."""
        return self._waiting.pop(seq)

    def __len__(self) -> int:
        """Records that wait behind others."""
        return len(self._waiting)

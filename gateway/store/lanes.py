"""Order within a lane (a contact, a recipient): one record of it is out at a time, the others wait behind it.

The one that is out *holds* the lane until it has ended, retries and all the waiting between them included. Those behind
it come next by their sequence number, that is by age, whenever they were looked at.

Of a few behind it the bodies are kept in memory. Of those beyond only the number is, 8 bytes: they are on disk, and when
the ones before them have gone they are read back by their numbers, some at a time. So one contact with a hundred thousand
messages behind one that fails takes no more of memory than his part, and nobody else waits for him. Until the page comes
nobody holds his lane and nothing of it goes.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from operator import attrgetter
from typing import Final, Protocol, TypeVar

from gateway._fast.lane import LaneHolders
from gateway.store.protocol import Place


class _Queued(Protocol):
    seq: int

    @property
    def cls(self) -> int: ...


R = TypeVar("R", bound=_Queued)
Lane = Hashable
"""None and the empty string stand for no lane: such a record waits for nobody."""

LANE_KEPT: Final = 32
"""Bodies kept in memory behind one record: so many are read back by one look at the disk."""

_UNREAD: Final = -1
"""Who holds a lane whose next record is on disk."""
_CLASS_BITS: Final = 4
_CLASS: Final = (1 << _CLASS_BITS) - 1
_by_seq = attrgetter("seq")


class Lanes(LaneHolders[R]):
    """Who holds each lane, and who waits behind. A lane that nobody holds takes no memory.

    O(1) a call while nothing waits behind, else a search in what does.
    """

    def __init__(
        self,
        lane_of: Callable[[R], Lane],
        read: Callable[[Sequence[Place]], Awaitable[list[R]]],
        lane_kept: int = LANE_KEPT,
    ) -> None:
        """`read` gives the records in these places, in their order; fewer where they are large, but the first always."""
        assert lane_kept >= 1, lane_kept
        super().__init__(lane_of)
        self.lane_kept = lane_kept
        self.read = read
        self._kept_by_seq: dict[int, R] = {}

    def wait(self, record: R, *, has_room: bool) -> bool:
        """A record stays behind until `leave` or `load` gives it. Whether it is kept; else only its number is.

        `has_room` for one more to be kept.
        """
        lane = self._lane_of(record)
        kept = self._kept.get(lane)
        numbers = self._numbers.get(lane)
        # One that was given another class may be older than those that wait: it goes before them.
        is_last = kept is None or record.seq > kept[-1].seq
        is_behind_numbers = numbers is not None and _number(record) > numbers[0]
        is_full = not has_room or (kept is not None and len(kept) >= self.lane_kept)
        if is_behind_numbers or (is_full and is_last):
            insort(self._numbers.setdefault(lane, array("q")), _number(record))
            return False
        insort(self._kept.setdefault(lane, []), record, key=_by_seq)
        self._kept_by_seq[record.seq] = record
        return True

    def _advance(self, lane: Lane) -> R | None:
        """The record that held it has ended, and others wait behind it: the next one, if it is in memory, holds it now."""
        kept = self._kept.get(lane)
        if kept is not None:
            found = kept.pop(0)
            if not kept:
                del self._kept[lane]
            del self._kept_by_seq[found.seq]
            self._holders[lane] = found.seq
            return found
        if lane in self._numbers:
            self._holders[lane] = _UNREAD
            self.unread[lane] = None
        else:
            del self._holders[lane]
        return None

    # -- back from disk

    def places(self, lane: Lane, limit: int) -> list[Place]:
        """Where to read the next records of a lane; none where all of them have been taken out."""
        return [(number & _CLASS, number >> _CLASS_BITS) for number in self._numbers.get(lane, ())[:limit]]

    def load(self, lane: Lane, asked: Sequence[Place], page: list[R]) -> tuple[list[R], R | None]:
        """Take what was read of an unread lane: those that still wait there, and the first of the lane, which holds it."""
        assert self._holders[lane] == _UNREAD, lane
        del self.unread[lane]
        wanted = {_number(record): record for record in page}
        numbers = self._numbers.get(lane, array("q"))
        upto = bisect_right(numbers, max(wanted, default=-1))
        loaded = [wanted[number] for number in numbers[:upto] if number in wanted]
        numbers[:upto] = array("q", [number for number in numbers[:upto] if number not in wanted])
        self._keep_numbers(lane, numbers)
        missing = asked and self._has_number(lane, asked[0][1] << _CLASS_BITS | asked[0][0])
        assert not missing, f"record {asked[0]} waits behind others and is not on disk"
        for record in loaded:
            insort(self._kept.setdefault(lane, []), record, key=_by_seq)
            self._kept_by_seq[record.seq] = record
        return loaded, self._advance(lane)

    # -- taken out

    def kept(self, seq: int) -> R | None:
        """The record with this number, if it waits behind another and is in memory."""
        return self._kept_by_seq.get(seq)

    def take_out(self, record: R) -> None:
        """Take out one that is kept, whatever its place."""
        del self._kept_by_seq[record.seq]
        lane = self._lane_of(record)
        kept = self._kept[lane]
        del kept[bisect_left(kept, record.seq, key=_by_seq)]
        if not kept:
            del self._kept[lane]

    def take_out_numbers(self, cls: int, seqs: Collection[int]) -> set[int]:
        """Take out those of a class of which only the number is here, and return them. Costs a walk over all numbers."""
        wanted = {seq << _CLASS_BITS | cls for seq in seqs}
        found: set[int] = set()
        for lane, numbers in [*self._numbers.items()] if wanted else ():
            if gone := wanted.intersection(numbers):
                found |= gone
                self._keep_numbers(lane, array("q", [number for number in numbers if number not in gone]))
        return {number >> _CLASS_BITS for number in found}

    def _keep_numbers(self, lane: Lane, numbers: "array[int]") -> None:
        if numbers:
            self._numbers[lane] = numbers
        else:
            self._numbers.pop(lane, None)

    def _has_number(self, lane: Lane, number: int) -> bool:
        numbers = self._numbers.get(lane, ())
        at = bisect_left(numbers, number)
        return at < len(numbers) and numbers[at] == number

    def __len__(self) -> int:
        """Records that are kept behind others."""
        return len(self._kept_by_seq)


def _number(record: _Queued) -> int:
    return record.seq << _CLASS_BITS | record.cls

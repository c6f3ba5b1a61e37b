"""Records that wait for a time: a heap a class."""

import heapq
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar


class _Queued(Protocol):
    seq: int

    @property
    def cls(self) -> int: ...


R = TypeVar("R", bound=_Queued)


class Delays(Generic[R]):
    """Records by class and by when they are due (monotonic, ns), the older first where that is the same."""

    def __init__(self, classes: int) -> None:
        self._heaps: list[list[tuple[int, int, R]]] = [[] for _ in range(classes)]
        """(due_ns, seq, record)"""
        self.count = 0

    def add(self, record: R, due_ns: int) -> None:
        """One more waits."""
        heapq.heappush(self._heaps[record.cls], (due_ns, record.seq, record))
        self.count += 1

    def pop(self, cls: int) -> R:
        """Take the first of a class."""
        self.count -= 1
        return heapq.heappop(self._heaps[cls])[2]

    def first_due(self, allowed: int, now_ns: int) -> int:
        """The first class of the bit mask `allowed` of which one is due; -1: there is none."""
        for cls, heap in enumerate(self._heaps):
            if heap and heap[0][0] <= now_ns and allowed >> cls & 1:
                return cls
        return -1

    def next_due_ns(self, after_ns: int) -> int | None:
        """When the first of a class is due that was not due at `after_ns`; None: there is none."""
        if not self.count:
            return None
        firsts = (heap[0][0] for heap in self._heaps if heap)
        return min((due_ns for due_ns in firsts if due_ns > after_ns), default=None)

    def hasten(self, now_ns: int) -> None:
        """All are due by `now_ns`."""
        for heap in self._heaps:
            heap[:] = sorted((min(due_ns, now_ns), seq, record) for due_ns, seq, record in heap)

    def take_out(self, seqs: Collection[int]) -> list[tuple[int, R]]:
        """Those with these numbers, and when each was due. Costs a walk over all."""
        found = [(due_ns, record) for heap in self._heaps for due_ns, seq, record in heap if seq in seqs]
        for cls in {record.cls for _, record in found}:
            self._heaps[cls] = [entry for entry in self._heaps[cls] if entry[1] not in seqs]
            heapq.heapify(self._heaps[cls])
        self.count -= len(found)
        return found

    def where(self, seqs: Collection[int]) -> dict[int, int]:
        """The class of each of these numbers that waits here."""
        return {seq: cls for cls, heap in enumerate(self._heaps) for _, seq, _ in heap if seq in seqs}

    def of_class(self, cls: int) -> list[R]:
        """All of a class, in no order."""
        return [record for _, _, record in self._heaps[cls]]

    def depth(self, cls: int) -> int:
        """How many wait of a class."""
        return len(self._heaps[cls])

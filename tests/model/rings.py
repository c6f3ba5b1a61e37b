"""Priority rings as deques."""

from collections import deque
from collections.abc import Sequence


class RingsModel:
    """Each class is a deque of `(item, stamp)`, oldest on the left."""

    def __init__(self, capacities: Sequence[int]) -> None:
        self.capacities = list(capacities)
        self.queues: list[deque[tuple[object, int]]] = [deque() for _ in capacities]

    def push(self, cls: int, item: object, stamp: int) -> bool:
        if self.room(cls) == 0:
            return False
        self.queues[cls].append((item, stamp))
        return True

    def push_many(self, cls: int, items: list[object], stamps: list[int]) -> int:
        return sum(self.push(cls, item, stamp) for item, stamp in zip(items, stamps, strict=True))

    def pop(self, allowed_mask: int) -> object | None:
        cls = self.peek_class(allowed_mask)
        return None if cls < 0 else self.queues[cls].popleft()[0]

    def peek_class(self, allowed_mask: int) -> int:
        for cls, queue in enumerate(self.queues):
            if queue and allowed_mask >> cls & 1:
                return cls
        return -1

    def room(self, cls: int) -> int:
        return self.capacities[cls] - len(self.queues[cls])

    def oldest_stamp(self, cls: int) -> int:
        return self.queues[cls][0][1] if self.queues[cls] else -1

    def __len__(self) -> int:
        return sum(map(len, self.queues))

    def clear(self) -> None:
        for queue in self.queues:
            queue.clear()

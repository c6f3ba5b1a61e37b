"""What a place in a queue of four classes costs: put and taken, with 1,000 others in it, and the order of a lane kept.

Beside the rings: four deques, `heapq` with (class, number), and `asyncio.PriorityQueue`, which is that and futures.
"""

import asyncio
import heapq
import time
from collections import deque
from itertools import count as counter
from typing import Final

import compare

from gateway._fast.ring import EVERY_CLASS, PriorityRings
from gateway.store.lanes import Lanes

CLASSES: Final = 4
HELD: Final = 1_000


class Item:
    """As a record is queued: of a class, for a customer."""

    __slots__ = ("cls", "lane", "seq")

    def __init__(self, cls: int, lane: str, seq: int) -> None:
        self.cls = cls
        self.lane = lane
        self.seq = seq


def _items(count: int) -> list[Item]:
    return [Item(number % CLASSES, f"1555010{number % 100:04}", number) for number in range(count)]


def ours(count: int) -> int:
    rings = PriorityRings([HELD + count] * CLASSES)
    for item in _items(HELD):
        rings.push(item.cls, item, item.seq)

    def step(item: Item) -> None:
        rings.push(item.cls, item, item.seq)
        rings.pop(EVERY_CLASS)

    return compare.timed(step, _items(count))


def ours_by_pages(count: int) -> int:
    """100 at a time, as they come from the disk and go out."""
    rings = PriorityRings([HELD + count] * CLASSES)
    for item in _items(HELD):
        rings.push(item.cls, item, item.seq)
    items = _items(count)
    pages = [items[at : at + 100] for at in range(0, count, 100)]
    stamps = list(range(100))

    def step(page: list[Item]) -> None:
        rings.push_many(0, page, stamps[: len(page)])  # type: ignore[arg-type]
        for _ in page:
            rings.pop(EVERY_CLASS)

    return compare.timed(step, pages)


def deques(count: int) -> int:
    queues: list[deque[Item]] = [deque() for _ in range(CLASSES)]
    for item in _items(HELD):
        queues[item.cls].append(item)

    def step(item: Item) -> None:
        queues[item.cls].append(item)
        for queue in queues:
            if queue:
                queue.popleft()
                break

    return compare.timed(step, _items(count))


def heap(count: int) -> int:
    number = counter()
    queue = [(item.cls, next(number), item) for item in _items(HELD)]
    heapq.heapify(queue)

    def step(item: Item) -> None:
        heapq.heappush(queue, (item.cls, next(number), item))
        heapq.heappop(queue)

    return compare.timed(step, _items(count))


def priority_queue(count: int) -> int:
    async def run() -> int:
        number = counter()
        queue: asyncio.PriorityQueue[tuple[int, int, Item]] = asyncio.PriorityQueue()
        for item in _items(HELD):
            queue.put_nowait((item.cls, next(number), item))

        def step(item: Item) -> None:
            queue.put_nowait((item.cls, next(number), item))
            queue.get_nowait()

        return compare.timed(step, _items(count))

    return asyncio.run(run())


def lanes(count: int) -> int:
    """Entered and left, nobody behind it."""

    async def read(_places: object) -> list[Item]:
        raise AssertionError("nothing waits behind another, so nothing is on disk")

    made: Lanes[Item] = Lanes(lambda item: item.lane, read)

    def step(item: Item) -> None:
        made.enter(item)
        made.leave(item)

    return compare.timed(step, _items(count))


def locks(count: int) -> int:
    """The usual way: an `asyncio.Lock` for each customer."""

    async def run() -> int:
        held: dict[str, asyncio.Lock] = {}
        items = _items(count)
        start_ns = time.perf_counter_ns()
        for item in items:
            async with held.setdefault(item.lane, asyncio.Lock()):
                pass
        return time.perf_counter_ns() - start_ns

    return asyncio.run(run())


GROUPS: Final = {
    "an item in and the first one out": {
        "PriorityRings.push, .pop": ours,
        "PriorityRings.push_many, .pop": ours_by_pages,
        "four deques": deques,
        "heapq": heap,
        "asyncio.PriorityQueue": priority_queue,
    },
    "one at a time for each customer": {
        "Lanes.enter, .leave": lanes,
        "an asyncio.Lock each": locks,
    },
}

if __name__ == "__main__":
    compare.main(__doc__, GROUPS, [], 20_000)

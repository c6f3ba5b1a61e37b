"""Where the records of a backlog are. Plain state: `backlog.py` and `moves.py` have the rules that change it."""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from gateway._fast.ring import PriorityRings
from gateway.events import Kind
from gateway.store.delays import Delays
from gateway.store.lanes import Lanes
from gateway.store.memory import Memory


class Record(Protocol):
    """What a backlog holds. `cls` is a small integer, 0 going first."""

    seq: int
    body: bytes

    @property
    def cls(self) -> int: ...

    def kind_counts(self) -> tuple[tuple[Kind, int], ...]: ...


R = TypeVar("R", bound=Record)


class Places(Generic[R]):
    """The places, as attributes."""

    def __init__(self, classes: int, slots: int, memory: Memory, lanes: Lanes[R] | None) -> None:
        self.memory = memory
        self.rings = PriorityRings([slots] * classes)
        """Fresh ones, in memory."""
        self.on_disk = [0] * classes
        """Records of each class behind its ring, on disk only."""
        self.tail_seq = [0] * classes
        """The highest sequence number of each class that has been in memory; what is on disk comes after."""
        self.ahead: list[set[int]] = [set() for _ in range(classes)]
        """Sequence numbers that came into memory from another class, ahead of what pages have reached of this one."""
        self.reading = -1
        """The class of which a page is on its way; below, whether some of it on disk was withdrawn since."""
        self.has_shrunk = False
        self.taken: dict[int, R] = {}
        self.delays: Delays[R] = Delays(classes)
        self.lanes = lanes
        self.released: list[deque[R]] = [deque() for _ in range(classes)]
        """Records of each class that stand aside and hold their lane: they go before those in the ring."""
        self.moving: dict[int, int] = {}
        """Sequence numbers withdrawn while the store gives them another class, and when each was due (0: at once)."""
        self.waiting = [0] * len(Kind)
        """Events not settled, by kind."""
        self.refill_wanted = asyncio.Event()
        """Set when something is to be read back from disk."""

    def count(self, record: R, change: int) -> None:
        """Its events wait (`change` 1), or no more (-1)."""
        for kind, count in record.kind_counts():
            self.waiting[kind] += change * count

"""The steps of a backlog that every record takes: pushed, taken, settled."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar, final

from typing_extensions import disjoint_base

from gateway._fast.lane import LaneHolders
from gateway._fast.memory import Memory
from gateway._fast.ring import PriorityRings

class _Record(Protocol):
    seq: int
    body: bytes
    @property
    def cls(self) -> int: ...

_R = TypeVar("_R", bound=_Record)

@final
class Places(Generic[_R]):
    """Where the records of a backlog are, as attributes: `gateway.store.backlog` and `moves` have rules that change it too."""

    reading: int
    """The class of which a page is on its way, -1: none; below, whether some of it on disk was withdrawn since."""
    has_shrunk: bool

    def __new__(
        cls,
        classes: int,
        slots: int,
        kinds: int,
        memory: Memory,
        delays: Any,
        lanes: LaneHolders[_R] | None,
        released: list[deque[_R]],
        refill_wanted: asyncio.Event,
    ) -> Self:
        """Rings of `slots` for each of `classes`, and `kinds` of events that are counted."""

    @property
    def memory(self) -> Memory: ...
    @property
    def rings(self) -> PriorityRings:
        """Fresh ones, in memory."""

    @property
    def on_disk(self) -> list[int]:
        """Records of each class behind its ring, on disk only."""

    @property
    def tail_seq(self) -> list[int]:
        """The highest sequence number of each class that has been in memory; what is on disk comes after."""

    @property
    def ahead(self) -> list[set[int]]:
        """Sequence numbers that came into memory from another class, ahead of what pages have reached of this one."""

    @property
    def taken(self) -> dict[int, _R]: ...
    @property
    def delays(self) -> Any: ...
    @property
    def lanes(self) -> Any: ...
    @property
    def released(self) -> list[deque[_R]]:
        """Records of each class that stand aside and hold their lane: they go before those in the ring."""

    @property
    def moving(self) -> dict[int, int]:
        """Sequence numbers withdrawn while the store gives them another class, and when each was due (0: at once)."""

    @property
    def waiting(self) -> list[int]:
        """Events not settled, by kind."""

    @property
    def refill_wanted(self) -> asyncio.Event:
        """Set when something is to be read back from disk."""

    def count(self, record: _R, change: int) -> int:
        """Its events wait (`change` 1), or no more (-1). The answer says nothing."""

@disjoint_base
class Starter:
    """Who takes what comes into a backlog, at once where it may go."""

@disjoint_base
class HotBacklog(Generic[_R]):
    """Base of `gateway.store.backlog.Backlog`, which brings `_wants_refill`, `_want_refills` and `_leave_behind`."""

    starter: Starter | None
    """Told of what comes before those who wait for it; they hear of what it leaves."""
    took_delayed: bool
    """Whether what `take` gave last had been given back before."""

    def __init__(self, places: Places[_R], waiters: Any, stamp_ms: Callable[[_R], int], clock: Any) -> None:
        """`waiters` are told of what comes (`store/waiters.py`); `stamp_ms` a record is when it was accepted."""

    @property
    def memory(self) -> Memory: ...
    @property
    def _places(self) -> Places[_R]: ...
    @property
    def _waiters(self) -> Any: ...
    @property
    def _stamp_ms(self) -> Callable[[_R], int]: ...
    @property
    def _clock(self) -> Any: ...
    def push(self, record: _R) -> None:
        """Take a record that is on disk now. Call in order of `seq` within a class."""

    def take(self, allowed: int = ..., *, prefers_fresh: bool = False, only_fresh: bool = False) -> _R | None:
        """The next record of the first class in the bit mask `allowed`; in a class, delayed ones that are due go first.

        `prefers_fresh`: one that has never been tried goes before those; `only_fresh`: those don't go. It is the caller's
        until `settle` or `defer`. None: nothing is ready.
        """

    def has_ready(self, allowed: int = ...) -> bool:
        """Whether there is something for `take` to look at: all of it may turn out to wait behind others."""

    def has_fresh(self, allowed: int = ...) -> bool:
        """Whether `take` has one that was never tried, and that waits behind no other.

        Looks for it: what turns out to wait behind another is put there, and what doesn't stands ready.
        """

    def leave_lane(self, record: _R) -> None:
        """A record taken has its outcome, though not on disk yet: the next of its lane may go."""

    def settle(self, record: _R) -> None:
        """Let go of a record taken: the store has its outcome."""

    def _release(self, record: _R) -> None:
        """It stands aside and holds its lane: it goes before those in the ring."""

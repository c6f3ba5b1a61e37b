"""A queue that is a window on the store: rings of fixed size in memory, the overflow on disk, in order.

States of a record: *ready* (in a ring, or on disk behind it), *taken* (someone works on it), *delayed*
(not before a given time), gone. The store has every one of them until it is settled. *Aside* are those taken or delayed.

Overflow. A class whose ring is full goes on disk: from then on all its new records stay there until the
ring has drained to half and the next page is read back, so order is kept and pages are worth their read.

Bounds. New records go on disk, although the ring has room, while the bodies in memory come to `memory_max_bytes`.
A class is *closed*, which means that only delayed ones of it are handed out, while `aside_max` of its records are aside,
or all that is aside comes to `memory_max_bytes` and this class has more than its part of that (one of `classes`): a
dead backend or a recipient with a queue of his own must not pull everything through our hands. Other classes go on:
bulk that must wait a day closes no door to a reply. So bodies in memory come to at most twice `memory_max_bytes`, and
a page and a record a class. A class that is closed waits until some of its own have gone, whoever its next is for.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar, cast

from gateway._fast.ring import PriorityRings
from gateway.clock import NS_PER_S, Clock
from gateway.events import Kind

ALL_CLASSES: Final = 0xFFFF

MEMORY_MAX_BYTES: Final = 32 << 20
"""Of bodies in one backlog's memory. Three backlogs with everything aside (64, 43 and 32 MB: by the classes they have)
and their pages (4 MB each) stay below half of MemoryHigh=384M."""


class Record(Protocol):
    """What a backlog holds. `cls` is a small integer, 0 going first."""

    seq: int
    body: bytes

    @property
    def cls(self) -> int: ...

    def kind_counts(self) -> list[tuple[Kind, int]]: ...


R = TypeVar("R", bound=Record)
ReadPage = Callable[[int, int, int], Awaitable[list[R]]]
"""(class, after_seq, limit) to records in order."""


class Backlog(Generic[R]):
    """Records waiting for one destination, by class and age. All calls on the loop."""

    def __init__(
        self,
        classes: int,
        slots: int,
        aside_max: int,
        read_page: ReadPage[R],
        stamp_ms: Callable[[R], int],
        clock: Clock,
        memory_max_bytes: int = MEMORY_MAX_BYTES,
    ) -> None:
        """`slots` records of each class fit in memory, and `aside_max` that are taken or delayed.

        New ones go on disk while the bodies in memory come to `memory_max_bytes`. `stamp_ms` is when a record was
        accepted.
        """
        assert slots >= 2, slots
        self.slots = slots
        self.memory_max_bytes = memory_max_bytes
        self.memory_bytes = 0
        """Of the bodies in memory: ready, taken and delayed."""
        self._aside_max = aside_max
        self._aside = [0] * classes
        """Records of each class that are taken or delayed, and below the bytes of their bodies."""
        self._aside_bytes = [0] * classes
        self._closed = 0
        """Bit mask of the classes of which only delayed ones are handed out."""
        self._read_page = read_page
        self._stamp_ms = stamp_ms
        self._clock = clock
        self._rings = PriorityRings([slots] * classes)
        self._on_disk = [0] * classes
        self._tail_seq = [0] * classes
        """The highest sequence number of each class that has been in memory; what is on disk comes after."""
        self._taken: dict[int, R] = {}
        self._delayed: list[list[tuple[int, int, R]]] = [[] for _ in range(classes)]
        """A heap of (due_ns, seq, record) per class."""
        self._waiting: dict[Kind, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_ns = 0
        """What became due until then was found by whoever looked, and is of a class not allowed now."""
        self._refill_wanted = asyncio.Event()
        self._moving: dict[int, int] = {}
        """Sequence numbers withdrawn while the store gives them another class, and when each was due (0: at once)."""
        self._ahead: list[set[int]] = [set() for _ in range(classes)]
        """Sequence numbers that came into memory from another class, ahead of what pages have reached of this one."""

    # -- in

    def restore(self, cls: int, records: int, kinds: dict[Kind, int]) -> None:
        """Start with what the store already holds of a class: so many records, and the events in them."""
        self._on_disk[cls] = records
        for kind, count in kinds.items():
            self._waiting[kind] = self._waiting.get(kind, 0) + count
        self._refill_wanted.set()

    def push(self, record: R) -> None:
        """Take a record that is on disk now. Call in order of `seq` within a class."""
        for kind, count in record.kind_counts():
            self._waiting[kind] = self._waiting.get(kind, 0) + count
        cls = record.cls
        has_bytes = self.memory_bytes < self.memory_max_bytes
        if not self._on_disk[cls] and has_bytes and self._rings.push(cls, record, self._stamp_ms(record)):
            assert record.seq > self._tail_seq[cls], (record.seq, self._tail_seq[cls])
            self._tail_seq[cls] = record.seq
            self._ahead[cls].clear()
            self.memory_bytes += len(record.body)
            self._wake_one()
        else:
            self._on_disk[cls] += 1
            if self._wants_refill(cls):  # the bytes are another class's, and this one has nothing in memory
                self._refill_wanted.set()

    async def refill(self) -> None:
        """Read overflow back, for ever. One long-lived task."""
        while True:
            await self._refill_wanted.wait()
            self._refill_wanted.clear()
            for cls in range(len(self._on_disk)):
                while self._wants_refill(cls):
                    await self._refill_class(cls)

    async def _refill_class(self, cls: int) -> None:
        page = await self._read_page(cls, self._tail_seq[cls], self._rings.room(cls))
        assert page, f"class {cls} has {self._on_disk[cls]} records on disk, none after {self._tail_seq[cls]}"
        self._tail_seq[cls] = page[-1].seq
        known = self._ahead[cls]
        page = [record for record in page if record.seq not in self._moving and record.seq not in known]
        self._ahead[cls] = {seq for seq in known if seq > self._tail_seq[cls]}
        for record in page:
            entered = self._rings.push(cls, record, self._stamp_ms(record))
            assert entered, "a page larger than the room asked for"
            self.memory_bytes += len(record.body)
            self._wake_one()
        self._on_disk[cls] -= len(page)
        assert self._on_disk[cls] >= 0, self._on_disk[cls]

    # -- out

    def take(self, allowed: int = ALL_CLASSES, *, prefers_fresh: bool = False) -> R | None:
        """The next record of the first class in the bit mask `allowed`; in a class, delayed ones that are due go first.

        `prefers_fresh`: one that has never been tried goes before those. It is the caller's until `settle` or
        `defer`. None: nothing is ready.
        """
        due, fresh = self._look(allowed)
        if due >= 0 and (fresh < 0 or (due <= fresh and not prefers_fresh)):
            record = heapq.heappop(self._delayed[due])[2]
        elif fresh >= 0:
            record = cast("R", self._rings.pop(1 << fresh))
            self._count_aside(record, 1)
            if self._wants_refill(fresh):
                self._refill_wanted.set()
        else:
            return None
        self._taken[record.seq] = record
        return record

    def has_ready(self, allowed: int = ALL_CLASSES) -> bool:
        """Whether `take` would give a record now."""
        return max(self._look(allowed)) >= 0

    def in_memory(self, cls: int) -> int:
        """Records of a class that `take` may give, now or when they are due. Cheaper than asking it."""
        return self._rings.depth(cls) + len(self._delayed[cls])

    def _look(self, allowed: int) -> tuple[int, int]:
        """The first allowed class with a delayed record that is due, and the first with a fresh one; -1 for none."""
        now_ns = self._clock.now_ns()
        due = -1
        for cls, heap in enumerate(self._delayed):
            if heap and heap[0][0] <= now_ns and allowed >> cls & 1:
                due = cls
                break
        if due < 0:
            self._looked_ns = now_ns
        return due, self._rings.peek_class(allowed & ~self._closed)

    def _count_aside(self, record: R, change: int) -> None:
        """One more is aside (`change` 1), or one fewer (-1): see which classes are closed now, and wake for the others."""
        self._aside[record.cls] += change
        self._aside_bytes[record.cls] += change * len(record.body)
        is_full = sum(self._aside_bytes) >= self.memory_max_bytes
        if not (is_full or self._closed or self._aside[record.cls] >= self._aside_max):
            return
        part = self.memory_max_bytes // len(self._aside)
        was_closed, self._closed = self._closed, 0
        for cls, count in enumerate(self._aside):
            if count >= self._aside_max or (is_full and self._aside_bytes[cls] > part):
                self._closed |= 1 << cls
        if was_closed & ~self._closed:
            self.wake_all()

    def _wants_refill(self, cls: int) -> bool:
        """Resume at half, so that pages are worth their read; an empty ring gets its page whatever the bytes."""
        if not self._on_disk[cls]:
            return False
        depth = self._rings.depth(cls)
        return depth == 0 or (depth <= self.slots // 2 and self.memory_bytes <= self.memory_max_bytes // 2)

    async def get(self) -> R:
        """Wait for a record and take it. Cancelling loses nothing."""
        while (record := self.take()) is None:
            await self.wait_changed()
        return record

    async def wait_changed(self) -> None:
        """Wait until a record may have become ready."""
        waiter = self.expect_change()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # the wake-up was meant for whoever waits next
            raise

    def expect_change(self) -> asyncio.Future[None]:
        """A future that is done when a record may have become ready. Whoever stops waiting for it must `leave`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._set_timer()
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        """Wait no longer with what `expect_change` gave. What it may have been told is for the caller to look at."""
        if not waiter.done():
            self._waiters.remove(waiter)
            waiter.cancel()

    def defer(self, record: R, due_ns: int) -> None:
        """Give back a record taken, to be handed out again at `due_ns` (monotonic), before fresh ones."""
        del self._taken[record.seq]
        heapq.heappush(self._delayed[record.cls], (due_ns, record.seq, record))
        self._looked_ns = min(self._looked_ns, due_ns - 1)  # nobody has looked at this one, even if it is due
        self._set_timer()

    def hasten(self) -> None:
        """Make everything delayed due now, oldest first: the reason to wait is gone."""
        now_ns = self._clock.now_ns()
        for heap in self._delayed:
            heap[:] = sorted((min(due_ns, now_ns), seq, record) for due_ns, seq, record in heap)
        self.wake_all()

    def settle(self, record: R) -> None:
        """Let go of a record taken: the store has its outcome."""
        del self._taken[record.seq]
        self._count_aside(record, -1)
        self.memory_bytes -= len(record.body)
        for kind, count in record.kind_counts():
            self._waiting[kind] -= count
        self._want_refills()

    def _want_refills(self) -> None:
        """A place or bytes were given back: that may be what a class waited for."""
        if any(self._wants_refill(cls) for cls in range(len(self._on_disk))):
            self._refill_wanted.set()

    def has_room_to_move(self, cls: int) -> bool:
        """Whether a class takes one more record from another; what is moved stays in memory."""
        return self._aside[cls] < self._aside_max and self.memory_bytes < self.memory_max_bytes

    def withdraw(self, seq: int, cls: int) -> R | None:
        """Take a waiting record out, whatever is before it, to be given back with `reinstate`.

        The record where it is in memory; None where it is on disk only. Raises KeyError for one that does not wait
        in `cls` any more: someone works on it, it has ended, or it is being moved. Costs a walk over its class;
        meant for an operator's hand, not for each record.
        """
        if seq in self._taken or seq in self._moving:
            raise KeyError(seq)
        due_ns = 0
        delayed = [
            (of_cls, entry) for of_cls, heap in enumerate(self._delayed) for entry in heap if entry[1] == seq
        ]
        if delayed:
            of_cls, entry = delayed[0]
            if of_cls != cls:
                raise KeyError(seq)
            self._delayed[cls].remove(entry)
            heapq.heapify(self._delayed[cls])
            self._ahead[cls].discard(seq)
            due_ns, _, record = entry
            self._count_aside(record, -1)
            found: R | None = record
        elif seq in self._ahead[cls]:
            raise KeyError(seq)  # it was in memory and has ended
        elif seq > self._tail_seq[cls]:
            self._on_disk[cls] -= 1
            found = None
        else:
            found = self._withdraw_ready(seq, cls)
        self._moving[seq] = due_ns
        if found is not None:
            self.memory_bytes -= len(found.body)
            self._want_refills()
        return found

    def _withdraw_ready(self, seq: int, cls: int) -> R:
        found: R | None = None
        for _ in range(self._rings.depth(cls)):
            record = cast("R", self._rings.pop(1 << cls))
            if record.seq == seq:
                found = record
            else:
                self._rings.push(cls, record, self._stamp_ms(record))
        if found is None:
            raise KeyError(seq)
        return found

    def reinstate(self, record: R) -> None:
        """Give back what was withdrawn, in the class it has now: before what is fresh there, and when it was due."""
        now_ns = self._clock.now_ns()
        due_ns = max(now_ns, self._moving.pop(record.seq))
        if record.seq > self._tail_seq[record.cls]:
            self._ahead[record.cls].add(record.seq)
        self.memory_bytes += len(record.body)
        self._count_aside(record, 1)
        heapq.heappush(self._delayed[record.cls], (due_ns, record.seq, record))
        self._looked_ns = min(self._looked_ns, due_ns - 1)
        self.wake_all()

    def wake_all(self) -> None:
        """Let every waiter look again, after something outside has changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        """One loop timer, for the delayed record that is due next.

        What was due already when someone looked is of a class not allowed now: no timer helps it. What has
        become due since, if only a microsecond ago, still needs one.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = min(
            (heap[0][0] for heap in self._delayed if heap and heap[0][0] > self._looked_ns), default=None
        )
        if due_ns is not None and self._waiters:
            delay_s = max(0, due_ns - self._clock.now_ns()) / NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._looked_ns = self._clock.now_ns()
        self.wake_all()

    # -- seen from outside

    def depth(self, cls: int) -> int:
        """Records of a class in memory and ready."""
        return self._rings.depth(cls)

    def has_due(self, cls: int) -> bool:
        """Whether a delayed record of a class has come to its time."""
        heap = self._delayed[cls]
        return bool(heap) and heap[0][0] <= self._clock.now_ns()

    def first_stamp(self, cls: int) -> int:
        """When the next fresh record of a class in memory was accepted; -1 when there is none."""
        return self._rings.oldest_stamp(cls)

    def on_disk(self, cls: int) -> int:
        """Records of a class that wait on disk only."""
        return self._on_disk[cls]

    def taken(self) -> int:
        """Records someone works on."""
        return len(self._taken)

    def delayed(self) -> int:
        """Records that wait for their time."""
        return sum(len(heap) for heap in self._delayed)

    def total(self) -> int:
        """Records not settled."""
        return len(self._rings) + sum(self._on_disk) + len(self._taken) + self.delayed() + len(self._moving)

    def waiting(self) -> dict[Kind, int]:
        """Events not settled, by kind."""
        return dict(self._waiting)

    def oldest_ms(self, cls: int) -> int | None:
        """When the oldest unsettled record of a class was accepted; None when there is none."""
        stamps = [self._stamp_ms(record) for record in self._taken.values() if record.cls == cls]
        stamps += [self._stamp_ms(record) for _, _, record in self._delayed[cls]]
        if self._rings.depth(cls):
            stamps.append(self._rings.oldest_stamp(cls))
        return min(stamps, default=None)

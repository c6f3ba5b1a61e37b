"""A queue that is a window on the store: rings of fixed size in memory, the overflow on disk, in order.

States of a record: *ready* (in a ring, or on disk behind it), *taken* (someone works on it), *delayed*
(not before a given time), gone. The store has every one of them until it is settled. *Aside* are those taken or delayed.

Lanes. Where records have lanes (`lanes.py`), one of each is aside at a time and the others keep their order behind it;
they are aside too, for they have been looked at, until it has ended and the next of them is *released*: ready again,
before what is in the ring.

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
from gateway.clock import Clock
from gateway.events import Kind
from gateway.store.lanes import Lane, Lanes
from gateway.store.waiters import Waiters

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
        lane_of: Callable[[R], Lane] = lambda _record: None,
    ) -> None:
        """`slots` records of each class fit in memory, and `aside_max` that are taken or delayed.

        New ones go on disk while the bodies in memory come to `memory_max_bytes`. `stamp_ms` is when a record was
        accepted, `lane_of` whom it must keep its order with.
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
        self._lanes = Lanes(lane_of)
        self._released: list[deque[R]] = [deque() for _ in range(classes)]
        """Records of each class whose lane has become theirs."""
        self._delayed: list[list[tuple[int, int, R]]] = [[] for _ in range(classes)]
        """A heap of (due_ns, seq, record) per class."""
        self._waiting: dict[Kind, int] = {}
        self._waiters = Waiters(self._next_due_ns, clock)
        self._refill_wanted = asyncio.Event()
        self._moving: dict[int, int] = {}
        """Sequence numbers withdrawn while the store gives them another class, and when each was due (0: at once)."""
        self._ahead: list[set[int]] = [set() for _ in range(classes)]
        """Sequence numbers that came into memory from another class, ahead of what pages have reached of this one."""
        self._reading = -1
        """The class of which a page is on its way; below, whether some of it on disk was withdrawn since."""
        self._has_shrunk = False

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
        # While a page is on its way, which may have this record too, it counts as being on disk.
        may_enter = self.memory_bytes < self.memory_max_bytes and self._reading != cls
        if not self._on_disk[cls] and may_enter and self._rings.push(cls, record, self._stamp_ms(record)):
            assert record.seq > self._tail_seq[cls], (record.seq, self._tail_seq[cls])
            self._tail_seq[cls] = record.seq
            self._ahead[cls].clear()
            self.memory_bytes += len(record.body)
            self._waiters.wake_one()
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

    def announce(self, record: R) -> None:
        """Count a record of which the store has been asked to put it into its class; `reinstate` it when it has.

        Its sequence number may be any: it does not come at the end of its class, as with `push`.
        """
        for kind, count in record.kind_counts():
            self._waiting[kind] = self._waiting.get(kind, 0) + count
        self._moving[record.seq] = 0

    async def _refill_class(self, cls: int) -> None:
        self._reading, self._has_shrunk = cls, False
        try:
            page = await self._read_page(cls, self._tail_seq[cls], self._rings.room(cls))
        finally:
            self._reading = -1
        if not page:
            what = f"class {cls} has {self._on_disk[cls]} records on disk, none after {self._tail_seq[cls]}"
            assert self._has_shrunk, what
            return  # what was there when it was asked for has been withdrawn
        self._tail_seq[cls] = page[-1].seq
        known = self._ahead[cls]
        page = [record for record in page if record.seq not in self._moving and record.seq not in known]
        self._ahead[cls] = {seq for seq in known if seq > self._tail_seq[cls]}
        for record in page:
            entered = self._rings.push(cls, record, self._stamp_ms(record))
            assert entered, "a page larger than the room asked for"
            self.memory_bytes += len(record.body)
            self._waiters.wake_one()
        self._on_disk[cls] -= len(page)
        assert self._on_disk[cls] >= 0, self._on_disk[cls]

    # -- out

    def take(self, allowed: int = ALL_CLASSES, *, prefers_fresh: bool = False) -> R | None:
        """The next record of the first class in the bit mask `allowed`; in a class, delayed ones that are due go first.

        `prefers_fresh`: one that has never been tried goes before those. It is the caller's until `settle` or
        `defer`. None: nothing is ready.
        """
        while (record := self._next(allowed, prefers_fresh=prefers_fresh)) is not None:
            if self._lanes.enter(record):
                self._taken[record.seq] = record
                return record
        return None

    def _next(self, allowed: int, *, prefers_fresh: bool) -> R | None:
        """The next record whatever its lane; it is aside from here on."""
        due, fresh = self._look(allowed)
        if due >= 0 and (fresh < 0 or (due <= fresh and not prefers_fresh)):
            return heapq.heappop(self._delayed[due])[2]
        if fresh < 0:
            return None
        if self._released[fresh]:
            return self._released[fresh].popleft()
        record = cast("R", self._rings.pop(1 << fresh))
        self._count_aside(record, 1)
        if self._wants_refill(fresh):
            self._refill_wanted.set()
        return record

    def has_ready(self, allowed: int = ALL_CLASSES) -> bool:
        """Whether there is something for `take` to look at: all of it may turn out to wait behind others."""
        return max(self._look(allowed)) >= 0

    def in_memory(self, cls: int) -> int:
        """Records of a class that `take` may give, now or when they are due. Cheaper than asking it."""
        return self.depth(cls) + len(self._delayed[cls])

    def _look(self, allowed: int) -> tuple[int, int]:
        """The first allowed class with a delayed record that is due, and the first with a fresh one; -1 for none."""
        now_ns = self._clock.now_ns()
        due = -1
        for cls, heap in enumerate(self._delayed):
            if heap and heap[0][0] <= now_ns and allowed >> cls & 1:
                due = cls
                break
        if due < 0:
            self._waiters.looked_ns = now_ns
        fresh = self._rings.peek_class(allowed & ~self._closed)
        for cls, released in enumerate(self._released):
            if released and allowed >> cls & 1 and (fresh < 0 or cls <= fresh):
                return due, cls
        return due, fresh

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
        await self._waiters.wait()

    def expect_change(self) -> asyncio.Future[None]:
        """A future that is done when a record may have become ready. Whoever stops waiting for it must `leave`."""
        return self._waiters.enter()

    def leave(self, waiter: asyncio.Future[None]) -> None:
        """Wait no longer with what `expect_change` gave. What it may have been told is for the caller to look at."""
        self._waiters.leave(waiter)

    def defer(self, record: R, due_ns: int) -> None:
        """Give back a record taken, to be handed out again at `due_ns` (monotonic), before fresh ones."""
        del self._taken[record.seq]
        heapq.heappush(self._delayed[record.cls], (due_ns, record.seq, record))
        self._waiters.expect_at(due_ns)

    def hasten(self) -> None:
        """Make everything delayed due now, oldest first: the reason to wait is gone."""
        now_ns = self._clock.now_ns()
        for heap in self._delayed:
            heap[:] = sorted((min(due_ns, now_ns), seq, record) for due_ns, seq, record in heap)
        self.wake_all()

    def settle(self, record: R) -> None:
        """Let go of a record taken: the store has its outcome."""
        del self._taken[record.seq]
        self._leave_lane(record)
        self._count_aside(record, -1)
        self.memory_bytes -= len(record.body)
        for kind, count in record.kind_counts():
            self._waiting[kind] -= count
        self._want_refills()

    def _leave_lane(self, record: R) -> None:
        """A record is no longer of its lane: the next one of it may go."""
        released = self._lanes.leave(record)
        if released is not None:
            self._released[released.cls].append(released)
            self._waiters.wake_one()

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
            self._leave_lane(record)
            self._count_aside(record, -1)
            found: R | None = record
        elif (behind := self._lanes.waiting(seq) or self._released_one(seq)) is not None:
            if behind.cls != cls:
                raise KeyError(seq)
            self._take_out(behind)
            found = behind
        elif seq in self._ahead[cls]:
            raise KeyError(seq)  # it was in memory and has ended
        elif seq > self._tail_seq[cls]:
            self._on_disk[cls] -= 1
            self._has_shrunk = True
            found = None
        else:
            found = self._withdraw_ready(seq, cls)
        self._moving[seq] = due_ns
        if found is not None:
            self.memory_bytes -= len(found.body)
            self._want_refills()
        return found

    def _released_one(self, seq: int) -> R | None:
        return next((record for released in self._released for record in released if record.seq == seq), None)

    def _take_out(self, record: R) -> None:
        """Out of its lane, behind another or released."""
        if self._lanes.waiting(record.seq) is not None:
            self._lanes.remove(record.seq)
        else:
            self._released[record.cls].remove(record)
            self._leave_lane(record)
        self._ahead[record.cls].discard(record.seq)
        self._count_aside(record, -1)

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
        cls = record.cls
        if record.seq > self._tail_seq[cls]:
            if self._on_disk[cls] or self._reading == cls:
                self._ahead[cls].add(record.seq)
            else:
                # Nothing of the class is on disk only, and what is pushed later has a higher number.
                self._tail_seq[cls] = record.seq
                self._ahead[cls].clear()
        self.memory_bytes += len(record.body)
        self._count_aside(record, 1)
        heapq.heappush(self._delayed[record.cls], (due_ns, record.seq, record))
        self._waiters.expect_at(due_ns)
        self.wake_all()

    def drop(self, record: R) -> None:
        """Let go of a record that was withdrawn: the store has its outcome."""
        del self._moving[record.seq]
        if self._reading == record.cls and record.seq > self._tail_seq[record.cls]:
            self._ahead[record.cls].add(record.seq)  # a page from before its end may still have it
        for kind, count in record.kind_counts():
            self._waiting[kind] -= count

    def wake_all(self) -> None:
        """Let every waiter look again, after something outside has changed."""
        self._waiters.wake_all()

    def _next_due_ns(self, after_ns: int) -> int | None:
        """When the next delayed record is due that was not due at `after_ns`."""
        return min((heap[0][0] for heap in self._delayed if heap and heap[0][0] > after_ns), default=None)

    # -- seen from outside

    def depth(self, cls: int) -> int:
        """Records of a class in memory and ready, that nobody has tried yet."""
        return self._rings.depth(cls) + len(self._released[cls])

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

    def unsettled(self, cls: int) -> int:
        """Records of a class, wherever they are; one that is being moved is in none."""
        return self._rings.depth(cls) + self._on_disk[cls] + self._aside[cls]

    def taken(self) -> int:
        """Records someone works on."""
        return len(self._taken)

    def delayed(self) -> int:
        """Records that wait for their time."""
        return sum(len(heap) for heap in self._delayed)

    def behind(self) -> int:
        """Records that wait behind another one of their lane."""
        return len(self._lanes)

    def total(self) -> int:
        """Records not settled."""
        aside = len(self._taken) + self.delayed() + self.behind() + sum(map(len, self._released))
        return len(self._rings) + sum(self._on_disk) + aside + len(self._moving)

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

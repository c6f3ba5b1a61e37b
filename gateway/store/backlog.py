"""A queue that is a window on the store: rings of fixed size in memory, the overflow on disk, in order.

States of a record: *ready* (in a ring, or on disk behind it), *taken* (someone works on it), *delayed*
(not before a given time), gone. The store has every one of them until it is settled. *Aside* are those taken or delayed.

Lanes. Where records have lanes (`lanes.py`), one of each is aside at a time and the others keep their order behind it.
Of a few behind it the bodies stay in memory, and those are aside too; of what is beyond only the number is, and it is on
disk. When one has ended the next of its lane is *released*: ready again, before what is in the ring.

Overflow. A class whose ring is full goes on disk: from then on all its new records stay there until the
ring has drained to half and the next page is read back, so order is kept and pages are worth their read.

Bounds. New records go on disk, although the ring has room, while the bodies in memory come to `memory.bytes_max`.
A class is *closed* (`_fast/memory.pyx`), which means that only delayed ones of it are handed out, while too much of it is aside:
a dead backend must not pull everything through our hands. Other classes go on: bulk that must wait a day closes no door
to a reply. What waits behind others takes no more than half of what may be aside, so however much one contact or
recipient has, and however many have some, that alone closes nothing. So bodies in memory come to at most twice
`memory.bytes_max`, and a page and a record a class. A class that is closed waits until some of its own have gone.

`push`, `take` and `settle` are what each event pays: they are in `_fast/backlog.pyx`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from gateway._fast.backlog import HotBacklog, Places
from gateway._fast.memory import Memory
from gateway.clock import Clock
from gateway.events import Kind
from gateway.store.delays import Delays
from gateway.store.lanes import Lane, Lanes
from gateway.store.moves import Moves
from gateway.store.record import R
from gateway.store.waiters import Waiters

BYTES_MAX: Final = 32 << 20
"""Of bodies in one backlog's memory. Three backlogs with everything aside (64, 43 and 32 MB: by the classes they have)
and their pages (4 MB each) stay below half of MemoryHigh=384M."""

PAGE_MAX: Final = 512
"""Records read back at once: commits wait for it, and 2,000 took the store's thread 20 ms of a busy core, 40 by the clock."""

ReadPage = Callable[[int, int, int], Awaitable[list[R]]]
"""(class, after_seq, limit) to records in order."""


class Backlog(HotBacklog[R]):
    """Records waiting for one destination, by class and age. All calls on the loop."""

    def __init__(
        self,
        classes: int,
        slots: int,
        aside_max: int,
        read_page: ReadPage[R],
        stamp_ms: Callable[[R], int],
        clock: Clock,
        memory_max_bytes: int = BYTES_MAX,
        lanes: Lanes[R] | None = None,
    ) -> None:
        """`slots` records of each class fit in memory, and `aside_max` that are taken or delayed.

        New ones go on disk while the bodies in memory come to `memory_max_bytes`. `stamp_ms` is when a record was
        accepted; `lanes` are ours alone, and without them no record waits for another.
        """
        assert slots >= 2, slots
        self.slots = slots
        self._read_page = read_page
        delays: Delays[R] = Delays(classes)
        released: list[deque[R]] = [deque() for _ in range(classes)]
        refill_wanted = asyncio.Event()
        memory = Memory(classes, aside_max, memory_max_bytes)
        places: Places[R] = Places(classes, slots, len(Kind), memory, delays, lanes, released, refill_wanted)
        super().__init__(places, Waiters(delays.next_due_ns, clock), stamp_ms, clock)
        self._rings = places.rings
        self._on_disk = places.on_disk
        self._taken = places.taken
        self._delays = delays
        self._released = released
        self._lanes = lanes
        self._waiting = places.waiting
        self.moves: Moves[R] = Moves(
            places, self._waiters, self.leave_lane, self._want_refills, stamp_ms, clock
        )
        """Changes of class, and ends of what waits."""

    # -- in

    def restore(self, cls: int, records: int, kinds: dict[Kind, int]) -> None:
        """Start with what the store already holds of a class: so many records, and the events in them."""
        self._on_disk[cls] = records
        for kind, count in kinds.items():
            self._waiting[kind] += count
        self._places.refill_wanted.set()

    # -- back from disk

    async def refill(self) -> None:
        """Read overflow back, for ever. One long-lived task."""
        wanted = self._places.refill_wanted
        while True:
            await wanted.wait()
            wanted.clear()
            for cls in range(len(self._on_disk)):
                while self._wants_refill(cls):
                    await self._refill_class(cls)
            while self._lanes is not None and self._lanes.unread:
                await self._refill_lane(self._lanes, next(iter(self._lanes.unread)))

    def _wants_refill(self, cls: int) -> bool:
        """Resume at half, so that pages are worth their read; an empty ring gets its page whatever the bytes."""
        if not self._on_disk[cls]:
            return False
        depth, memory = self._rings.depth(cls), self.memory
        return depth == 0 or (depth <= self.slots // 2 and memory.bytes <= memory.bytes_max // 2)

    def _want_refills(self) -> None:
        """A place or bytes were given back: that may be what a class waited for."""
        if any(self._wants_refill(cls) for cls in range(len(self._on_disk))):
            self._places.refill_wanted.set()

    async def _refill_class(self, cls: int) -> None:
        places = self._places
        places.reading, places.has_shrunk = cls, False
        try:
            page = await self._read_page(cls, places.tail_seq[cls], min(PAGE_MAX, self._rings.room(cls)))
        finally:
            places.reading = -1
        if not page:
            what = f"class {cls} has {self._on_disk[cls]} records on disk, none after {places.tail_seq[cls]}"
            assert places.has_shrunk, what
            return  # what was there when it was asked for has been withdrawn
        places.tail_seq[cls] = page[-1].seq
        known = places.ahead[cls]
        page = [record for record in page if record.seq not in places.moving and record.seq not in known]
        places.ahead[cls] = {seq for seq in known if seq > places.tail_seq[cls]}
        for record in page:
            entered = self._rings.push(cls, record, self._stamp_ms(record))
            assert entered, "a page larger than the room asked for"
            self.memory.bytes += len(record.body)
            self._waiters.wake_one()
        self._on_disk[cls] -= len(page)
        assert self._on_disk[cls] >= 0, self._on_disk[cls]

    async def _refill_lane(self, lanes: Lanes[R], lane: Lane) -> None:
        """Read the next of a lane back: as many as are kept of one, or where memory is short the one that goes next."""
        asked = lanes.places(lane, lanes.lane_kept if self._keeps_behind(lanes) else 1)
        page = await lanes.read(asked) if asked else []
        loaded, released = lanes.load(lane, asked, page)
        has_opened = [self.memory.bring_back(record.cls, len(record.body)) for record in loaded]
        if any(has_opened):
            self.wake_all()
        if released is not None:
            self._release(released)

    # -- out

    def _leave_behind(self, lanes: Lanes[R], record: R) -> None:
        """A record waits behind another of its lane, here or on disk."""
        if lanes.wait(record, has_room=self._keeps_behind(lanes)):
            return
        if self.memory.leave_on_disk(record.cls, len(record.body)):
            self.wake_all()
        self._want_refills()

    def _keeps_behind(self, lanes: Lanes[R]) -> bool:
        return len(lanes) < self.memory.aside_max // 2 and self.memory.has_room_behind

    def in_memory(self, cls: int) -> int:
        """Records of a class that `take` may give, now or when they are due. Cheaper than asking it."""
        return self.depth(cls) + self._delays.depth(cls)

    # -- waiting

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
        waiter: asyncio.Future[None] = self._waiters.enter()
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        """Wait no longer with what `expect_change` gave. What it may have been told is for the caller to look at."""
        self._waiters.leave(waiter)

    def wake_all(self) -> None:
        """Let every waiter look again, after something outside has changed."""
        self._waiters.wake_all()

    # -- behind

    def defer(self, record: R, due_ns: int) -> None:
        """Give back a record taken, to be handed out again at `due_ns` (monotonic), before fresh ones."""
        del self._taken[record.seq]
        self._delays.add(record, due_ns)
        self._waiters.expect_at(due_ns)

    def hasten(self) -> None:
        """Make everything delayed due now, oldest first: the reason to wait is gone."""
        self._delays.hasten(self._clock.now_ns())
        self.wake_all()

    # -- seen from outside

    @property
    def memory_bytes(self) -> int:
        """Of the bodies in memory: ready, taken, delayed, and behind others."""
        return self.memory.bytes

    def depth(self, cls: int) -> int:
        """Records of a class in memory and ready, that nobody has tried yet."""
        return self._rings.depth(cls) + len(self._released[cls])

    def has_due(self, cls: int) -> bool:
        """Whether a delayed record of a class has come to its time."""
        return self._delays.first_due(1 << cls, self._clock.now_ns()) >= 0

    def first_stamp(self, cls: int) -> int:
        """When the next fresh record of a class in memory was accepted; -1 when there is none."""
        stamp_ms = self._rings.oldest_stamp(cls)
        if self._released[cls]:
            released_ms = self._stamp_ms(self._released[cls][0])
            return released_ms if stamp_ms < 0 else min(stamp_ms, released_ms)
        return stamp_ms

    def on_disk(self, cls: int) -> int:
        """Records of a class that wait on disk only, behind the ring or behind others of their lanes."""
        return self._on_disk[cls] + self.memory.behind_on_disk[cls]

    def unsettled(self, cls: int) -> int:
        """Records of a class, wherever they are; one that is being moved is in none."""
        return self._rings.depth(cls) + self.on_disk(cls) + self.memory.aside[cls]

    def taken(self) -> int:
        """Records someone works on."""
        return len(self._taken)

    def delayed(self) -> int:
        """Records that wait for their time."""
        return self._delays.count

    def behind(self) -> int:
        """Records that wait behind another one of their lane."""
        return (0 if self._lanes is None else len(self._lanes)) + sum(self.memory.behind_on_disk)

    def total(self) -> int:
        """Records not settled."""
        aside = len(self._taken) + self.delayed() + self.behind() + sum(map(len, self._released))
        return len(self._rings) + sum(self._on_disk) + aside + len(self._places.moving)

    def waiting(self) -> dict[Kind, int]:
        """Events not settled, by kind."""
        return {kind: count for kind, count in zip(Kind, self._waiting, strict=True) if count}

    def oldest_ms(self, cls: int) -> int | None:
        """When the oldest unsettled record of a class was accepted; None when there is none."""
        aside = [record for record in self._taken.values() if record.cls == cls]
        aside += [*self._delays.of_class(cls), *self._released[cls]]
        stamps = [self._stamp_ms(record) for record in aside]
        if self._rings.depth(cls):
            stamps.append(self._rings.oldest_stamp(cls))
        return min(stamps, default=None)

"""The backlog hands out in order what waits, whether in memory or on disk, and loses nothing."""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from builders import WALL_MS, Disk, MemoryStore, inbound, inbound_backlog, turns
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model.backlog import BacklogModel

from gateway.clock import NS_PER_MS, FakeClock, SystemClock
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.store.backlog import ALL_CLASSES, Backlog
from gateway.store.protocol import Change

Queue = Backlog[InboundRecord]
MESSAGE, FAILURE, RECEIPT = InboundClass


async def pushed(store: MemoryStore, queue: Queue, *records: InboundRecord) -> None:
    """Put records on disk, then into the queue."""
    for record in records:
        await store.submit(Change(inbound=[record], on_commit=[functools.partial(queue.push, record)]))


async def test_takes_the_first_class_first_and_in_it_the_oldest() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    await pushed(store, queue, inbound(1, RECEIPT), inbound(2, FAILURE), inbound(3), inbound(4))
    taken = [queue.take() for _ in range(5)]
    assert [record and record.seq for record in taken] == [3, 4, 2, 1, None]


async def test_a_class_that_is_not_allowed_stays() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    await pushed(store, queue, inbound(1), inbound(2, RECEIPT))
    only_receipts = 1 << RECEIPT
    assert queue.has_ready(only_receipts)
    first = queue.take(only_receipts)
    assert first is not None
    assert first.seq == 2
    assert not queue.has_ready(only_receipts)
    assert queue.take(only_receipts) is None
    assert queue.has_ready()


async def test_a_deferred_record_comes_back_on_time_and_not_a_nanosecond_before() -> None:
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1), inbound(2))
    first = queue.take()
    assert first is not None
    queue.defer(first, clock.now_ns() + 100)
    clock.advance_ns(99)
    second = queue.take()
    assert second is not None
    assert second.seq == 2
    assert queue.take() is None
    clock.advance_ns(1)
    assert queue.take() is first


async def test_a_delayed_record_that_is_due_waits_for_a_higher_class() -> None:
    """A retry of bulk must not go before a fresh reply."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1, RECEIPT))
    receipt = queue.take()
    assert receipt is not None
    queue.defer(receipt, clock.now_ns())
    await pushed(store, queue, inbound(2, MESSAGE))
    assert [record and record.seq for record in (queue.take(), queue.take())] == [2, 1]


async def test_a_class_with_as_many_aside_as_may_be_hands_out_no_fresh_ones() -> None:
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock, aside_max=2)
    await pushed(store, queue, *(inbound(seq) for seq in range(1, 5)))
    due_ns = clock.now_ns() + 1000
    for _ in range(2):
        record = queue.take()
        assert record is not None
        queue.defer(record, due_ns)
    assert not queue.has_ready()
    assert queue.take() is None
    clock.advance_ns(1000)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert (first.seq, second.seq) == (1, 2)
    assert queue.take() is None, "taken ones count as delayed ones do"
    queue.settle(first)
    assert [record and record.seq for record in (queue.take(), queue.take())] == [3, None]


async def test_delayed_records_of_one_class_do_not_close_another() -> None:
    """Bulk that waits a day for the end of a restriction must not hold replies up for a day."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock, aside_max=2)
    await pushed(store, queue, inbound(1, RECEIPT), inbound(2, RECEIPT))
    for _ in range(2):
        record = queue.take()
        assert record is not None
        queue.defer(record, clock.now_ns() + 10**15)
    await pushed(store, queue, inbound(3, MESSAGE))
    record = queue.take(ALL_CLASSES & ~(1 << RECEIPT))
    assert record is not None
    assert record.seq == 3


async def test_large_bodies_that_are_delayed_close_their_class_and_leave_others_their_part() -> None:
    """An empty ring gets its page whatever the bytes: that alone would read all of a flood into memory."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock, slots=2)
    queue.memory_max_bytes = 3000
    refill = asyncio.create_task(queue.refill())
    for cls in (RECEIPT, MESSAGE):
        await pushed(store, queue, *(inbound(store.next_seq(), cls, body=bytes(300)) for _ in range(20)))
    aside = dict.fromkeys(InboundClass, 0)
    for cls in (RECEIPT, MESSAGE):
        await turns()
        while (record := queue.take(1 << cls)) is not None:
            aside[cls] += 1
            queue.defer(record, clock.now_ns() + 10**15)
            await turns()
    assert aside == {RECEIPT: 10, FAILURE: 0, MESSAGE: 4}, "all of the limit; one more than a third of it"
    assert queue.memory_bytes <= (10 + 4) * 300 + 2 * 2 * 300, "and one page each"
    getting = asyncio.create_task(queue.get())
    await turns()
    assert not getting.done()
    clock.advance_ns(10**15)
    first = queue.take(1 << MESSAGE)
    assert first is not None
    assert first.seq == 21, "what is delayed is handed out"
    queue.settle(first)
    assert (await getting).seq == 22
    refill.cancel()


async def test_overflow_goes_to_disk_and_comes_back_in_order() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock(), slots=4)
    await pushed(store, queue, *(inbound(seq) for seq in range(1, 12)))
    assert (queue.depth(MESSAGE), queue.on_disk(MESSAGE), queue.total()) == (4, 7, 11)
    refill = asyncio.create_task(queue.refill())
    seqs = []
    for _ in range(11):
        record = await queue.get()
        seqs.append(record.seq)
    assert seqs == list(range(1, 12))
    assert queue.on_disk(MESSAGE) == 0
    refill.cancel()


async def test_what_comes_while_older_ones_are_on_disk_goes_there_though_the_ring_has_room() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock(), slots=4)
    refill = asyncio.create_task(queue.refill())
    await pushed(store, queue, *(inbound(seq) for seq in range(1, 6)))
    first = queue.take()
    assert first is not None
    await pushed(store, queue, inbound(6))
    assert (queue.depth(MESSAGE), queue.on_disk(MESSAGE)) == (3, 2)
    rest = [(await queue.get()).seq for _ in range(5)]
    assert [first.seq, *rest] == [1, 2, 3, 4, 5, 6]
    refill.cancel()


async def test_what_comes_while_a_page_is_read_goes_behind_it() -> None:
    """The ring has room again, but older ones are on disk still."""
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock(), slots=2)
    await pushed(store, queue, inbound(1), inbound(2), inbound(3))
    refill = asyncio.create_task(queue.refill())
    await turns()
    first = queue.take()
    assert first is not None
    await pushed(store, queue, inbound(4), inbound(5))
    rest = [(await queue.get()).seq for _ in range(4)]
    assert [first.seq, *rest] == [1, 2, 3, 4, 5]
    refill.cancel()


async def test_starts_with_what_the_store_holds() -> None:
    disk = Disk()
    kinds = [Kind.MESSAGE, Kind.MESSAGE, Kind.ERROR]
    disk.write(Change(inbound=[inbound(seq, kinds=kinds) for seq in (7, 8)]), WALL_MS)
    disk.write(Change(inbound=[inbound(9, RECEIPT, kinds=[Kind.READ])]), WALL_MS)
    store = MemoryStore(disk=disk)
    queue = inbound_backlog(store, FakeClock())
    for cls in InboundClass:
        queue.restore(cls, store.recovered.inbound_counts[cls], store.recovered.inbound_kinds[cls])
    assert queue.total() == 3
    assert queue.waiting() == {Kind.MESSAGE: 4, Kind.ERROR: 2, Kind.READ: 1}
    refill = asyncio.create_task(queue.refill())
    seqs = [(await queue.get()).seq for _ in range(3)]
    assert sorted(seqs) == [7, 8, 9]
    assert seqs.index(7) < seqs.index(8)
    refill.cancel()


async def test_the_oldest_of_a_class_is_seen_in_the_ring_taken_and_delayed() -> None:
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    assert queue.oldest_ms(MESSAGE) is None
    await pushed(store, queue, inbound(1, received_ms=10), inbound(2, received_ms=20))
    assert queue.oldest_ms(MESSAGE) == 10
    record = queue.take()
    assert record is not None
    assert queue.oldest_ms(MESSAGE) == 10
    queue.defer(record, clock.now_ns() + 5)
    assert queue.oldest_ms(MESSAGE) == 10
    clock.advance_ns(5)
    assert queue.take() is record
    queue.settle(record)
    assert queue.oldest_ms(MESSAGE) == 20
    assert queue.oldest_ms(RECEIPT) is None


# -- waiting


async def test_get_waits_for_a_push() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    getting = asyncio.create_task(queue.get())
    await turns()
    assert not getting.done()
    await pushed(store, queue, inbound(1))
    assert (await getting).seq == 1


async def test_each_push_wakes_another_waiter() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    getting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await turns()
    await pushed(store, queue, *(inbound(seq) for seq in (1, 2, 3)))
    assert sorted(record.seq for record in await asyncio.gather(*getting)) == [1, 2, 3]


async def test_a_cancelled_waiter_takes_nothing_with_it() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    getting = asyncio.create_task(queue.get())
    await turns()
    getting.cancel()
    await pushed(store, queue, inbound(1))
    assert (await queue.get()).seq == 1
    assert queue.taken() == 1


async def test_the_wake_up_of_a_cancelled_waiter_goes_to_the_next() -> None:
    """Cancelled after it was woken and before it ran: the record is the next waiter's."""
    store = MemoryStore(holds_commits=True)
    queue = inbound_backlog(store, FakeClock())
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await turns()
    queue.push(inbound(1))
    first.cancel()
    assert (await second).seq == 1
    assert first.cancelled()


async def test_who_leaves_takes_no_wake_up_and_leaves_no_waiter() -> None:
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock())
    for _ in range(3):
        queue.leave(queue.expect_change())
    getting = asyncio.create_task(queue.get())
    await turns()
    await pushed(store, queue, inbound(1))
    assert (await getting).seq == 1
    assert len(queue._waiters) == 0
    told = queue.expect_change()
    await pushed(store, queue, inbound(2))
    assert told.done()
    queue.leave(told)
    assert len(queue._waiters) == 0


async def test_a_timer_wakes_who_waits_for_a_delayed_record() -> None:
    store, clock = MemoryStore(), SystemClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1))
    record = queue.take()
    assert record is not None
    due_ns = clock.now_ns() + 2 * NS_PER_MS
    queue.defer(record, due_ns)
    assert await queue.get() is record
    assert clock.now_ns() >= due_ns


async def test_a_record_deferred_to_now_wakes_who_waits() -> None:
    """Deferred after a login: it is due at once, and nobody else will come to look."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1))
    record = queue.take()
    assert record is not None
    getting = asyncio.create_task(queue.get())
    await turns()
    queue.defer(record, clock.now_ns())
    assert await getting is record


class TickingClock(FakeClock):
    """Time that passes between any two lines."""

    def now_ns(self) -> int:
        self.advance_ns(1)
        return super().now_ns()


@pytest.mark.parametrize("delay_ns", range(6))
async def test_a_record_that_becomes_due_between_looking_and_waiting_is_not_missed(delay_ns: int) -> None:
    store, clock = MemoryStore(), TickingClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1))
    record = queue.take()
    assert record is not None
    queue.defer(record, clock.now_ns() + delay_ns)
    assert await queue.get() is record


async def test_another_deferral_does_not_disarm_the_timer_of_one_that_is_due() -> None:
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1), inbound(2))
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.defer(first, clock.now_ns() + 10**15)
    getting = asyncio.create_task(queue.get())
    await turns()
    clock.advance_ns(10**15)  # due now, and the loop's timer has not fired yet
    queue.defer(second, clock.now_ns() + 10**15)
    assert await getting is first


async def test_a_due_record_of_a_class_not_allowed_does_not_spin() -> None:
    """Bulk is paused for a day: whoever waits for other work sleeps."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock)
    await pushed(store, queue, inbound(1, RECEIPT))
    record = queue.take()
    assert record is not None
    queue.defer(record, clock.now_ns())
    looks = 0

    async def wait_for_a_message() -> None:
        nonlocal looks
        while not queue.has_ready(1 << MESSAGE):
            looks += 1
            await queue.wait_changed()

    waiting = asyncio.create_task(wait_for_a_message())
    await turns(100)
    assert looks <= 2
    await pushed(store, queue, inbound(2))
    await waiting


async def test_a_class_that_opens_wakes_who_waits_for_it() -> None:
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock, aside_max=1)
    await pushed(store, queue, inbound(1), inbound(2), inbound(3))
    record = queue.take()
    assert record is not None
    queue.defer(record, clock.now_ns() + 10**15)
    getting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in getting)
    clock.advance_ns(10**15)
    assert queue.take() is record
    queue.settle(record)
    await turns()
    assert sorted(other.result().seq for other in getting if other.done()) == [2]
    queue.settle(next(other.result() for other in getting if other.done()))
    assert sorted(other.seq for other in await asyncio.gather(*getting)) == [2, 3]


# -- beside a model


_CLASSES = st.sampled_from([MESSAGE, MESSAGE, MESSAGE, FAILURE, RECEIPT])
_KINDS = st.lists(st.sampled_from([kind for kind in Kind if kind is not Kind.SEND]), min_size=1, max_size=3)
_WHICH = st.integers(0, 1000)


class BacklogBesideModel(RuleBasedStateMachine):
    """The queue on a store of plain dicts; refills run to their end after each step, or are held up."""

    @initialize(
        slots=st.integers(2, 5),
        aside_max=st.integers(1, 4),
        memory_max_bytes=st.sampled_from([1, 100, 500, 10**6]),
        restored=st.lists(_CLASSES, max_size=8),
    )
    def start(self, slots: int, aside_max: int, memory_max_bytes: int, restored: list[InboundClass]) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        disk = Disk()
        self.model = BacklogModel(len(InboundClass), aside_max, memory_max_bytes)
        for at, cls in enumerate(restored):
            record = inbound(at + 1, cls, [Kind.MESSAGE] * (at % 3 + 1))
            disk.write(Change(inbound=[record]), WALL_MS)
            self.model.push(record)
        self.store = MemoryStore(self.clock, disk)
        self.queue = inbound_backlog(self.store, self.clock, slots, aside_max)
        self.queue.memory_max_bytes = memory_max_bytes
        for cls in InboundClass:
            recovered = self.store.recovered
            self.queue.restore(cls, recovered.inbound_counts[cls], recovered.inbound_kinds[cls])
        self.refill = self.loop.create_task(self.queue.refill())
        self.settle_down()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.refill.cancel()
            self.loop.run_until_complete(asyncio.gather(self.refill, return_exceptions=True))
            self.loop.close()

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run_until_complete(work())

    def settle_down(self) -> None:
        """Let refills run to their end."""
        for _ in range(50):
            self.run(lambda: turns(2))
            if self.refill.done():
                self.refill.result()
            if not any(self.queue._wants_refill(cls) for cls in InboundClass):
                return
        pytest.fail("a class wants its page, and nobody reads it")

    @rule(cls=_CLASSES, kinds=_KINDS, count=st.integers(1, 8), body_bytes=st.integers(1, 200))
    def records_arrive(self, cls: InboundClass, kinds: list[Kind], count: int, body_bytes: int) -> None:
        async def push_all() -> None:
            for _ in range(count):
                record = inbound(self.store.next_seq(), cls, kinds, bytes(body_bytes))
                self.model.push(record)
                await pushed(self.store, self.queue, record)

        self.run(push_all)
        self.settle_down()

    @rule(
        allowed=st.sampled_from([ALL_CLASSES, ALL_CLASSES, 0b001, 0b010, 0b110, 0b101, 0]),
        count=st.integers(1, 6),
    )
    def records_are_taken(self, allowed: int, count: int) -> None:
        for _ in range(count):
            expected = self.model.next(allowed, self.clock.now_ns())
            assert self.queue.has_ready(allowed) == (expected is not None)
            record = self.queue.take(allowed)
            assert record is None or expected is not None
            assert (record and record.seq) == (expected and expected.seq)
            if record is not None:
                self.model.take(record)
            self.settle_down()

    @rule(allowed=st.sampled_from([ALL_CLASSES, 0b010]))
    def records_are_taken_before_pages_are_read(self, allowed: int) -> None:
        """Of each class in order; which class is first depends on what memory holds."""
        taken = []
        while (record := self.queue.take(allowed)) is not None:
            taken.append(record)
            if len(taken) > 4:
                break
        for record in taken:
            fresh = self.model.fresh[record.cls]
            is_delayed = any(other.seq == record.seq for _, other in self.model.delayed[record.cls])
            assert is_delayed or record.seq == fresh[0].seq
            self.model.take(record)
        self.settle_down()

    @precondition(lambda self: self.model.taken)
    @rule(which=_WHICH, delay_ns=st.integers(0, 50))
    def a_record_is_deferred(self, which: int, delay_ns: int) -> None:
        record = self.model.taken[which % len(self.model.taken)]
        self.queue.defer(record, self.clock.now_ns() + delay_ns)
        self.model.defer(record, self.clock.now_ns() + delay_ns)

    @precondition(lambda self: self.model.taken)
    @rule(which=_WHICH)
    def a_record_is_settled(self, which: int) -> None:
        record = self.model.taken[which % len(self.model.taken)]
        self.run(lambda: self._settle(record))

    async def _settle(self, record: InboundRecord) -> None:
        await self.store.submit(
            Change(inbound_done=[record], on_commit=[lambda: self.queue.settle(record)]),
        )
        self.model.settle(record)

    @precondition(lambda self: len(self.model.records()) > len(self.model.taken))
    @rule(which=_WHICH, new=st.sampled_from(InboundClass))
    def a_waiting_record_is_given_another_class(self, which: int, new: InboundClass) -> None:
        """Wherever it waits; pages are read while it is between the classes."""
        taken = {record.seq for record in self.model.taken}
        waiting = sorted(
            (record for record in self.model.records() if record.seq not in taken), key=lambda r: r.seq
        )
        record = waiting[which % len(waiting)]
        if record.cls is new or not self.queue.has_room_to_move(new):
            return
        self.queue.withdraw(record.seq, record.cls)
        self.settle_down()
        moved = msgspec.structs.replace(record, cls=new)
        self.store.disk.inbound[record.seq] = moved
        self.queue.reinstate(moved)
        self.model.move(record, moved, self.clock.now_ns())
        self.settle_down()

    @rule(delta_ns=st.integers(1, 40))
    def time_passes(self, delta_ns: int) -> None:
        self.clock.advance_ns(delta_ns)

    @invariant()
    def the_same_waits(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue, model = self.queue, self.model
        assert {kind: count for kind, count in queue.waiting().items() if count} == model.waiting()
        assert queue.total() == len(model.records()) == len(self.store.disk.inbound)
        assert queue.taken() == len(model.taken)
        assert queue.delayed() == sum(len(delayed) for delayed in model.delayed)
        in_memory = [*model.taken, *(record for delayed in model.delayed for _, record in delayed)]
        aside = Counter(record.cls for record in in_memory)
        for cls in InboundClass:
            has_room = aside[cls] < model.aside_max and queue.memory_bytes < queue.memory_max_bytes
            assert queue.has_room_to_move(cls) == has_room
            assert queue.depth(cls) + queue.on_disk(cls) == len(model.fresh[cls])
            assert queue.depth(cls) <= queue.slots
            in_memory += model.fresh[cls][: queue.depth(cls)]
        assert queue.memory_bytes == sum(len(record.body) for record in in_memory)


TestBacklogBesideModel = BacklogBesideModel.TestCase
TestBacklogBesideModel.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)


def test_refuses_a_ring_that_can_not_be_half_full() -> None:
    with pytest.raises(AssertionError):
        inbound_backlog(MemoryStore(), FakeClock(), slots=1)


async def test_bodies_beyond_the_byte_limit_stay_on_disk_and_come_back_in_order() -> None:
    disk: dict[int, InboundRecord] = {}

    async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
        return [disk[seq] for seq in sorted(disk) if seq > after_seq][: min(limit, 3)]

    queue: Backlog[InboundRecord] = Backlog(
        1, 64, 4, read_page, lambda record: record.received_ms, FakeClock(), memory_max_bytes=1000
    )
    refilling = asyncio.create_task(queue.refill())
    for seq in range(1, 31):
        disk[seq] = inbound(seq, body=b"x" * 300)
        queue.push(disk[seq])
    assert queue.depth(0) == 4, "the fourth body reaches the limit"
    assert queue.on_disk(0) == 26
    taken = []
    while queue.total():
        record = await queue.get()
        taken.append(record.seq)
        assert queue.memory_bytes <= 1000 + 3 * 300, "the limit, and one page"
        queue.settle(record)
        del disk[record.seq]
    assert taken == list(range(1, 31))
    assert queue.memory_bytes == 0
    refilling.cancel()


def test_prefers_fresh_leaves_due_ones_for_later() -> None:
    async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
        raise AssertionError("nothing is on disk")

    clock = FakeClock()
    queue: Backlog[InboundRecord] = Backlog(1, 8, 4, read_page, lambda record: record.received_ms, clock)
    for seq in (1, 2):
        queue.push(inbound(seq))
    failed = queue.take()
    assert failed is not None
    queue._delayed[0].append((clock.now_ns(), failed.seq, failed))
    del queue._taken[failed.seq]
    fresh = queue.take(prefers_fresh=True)
    assert fresh is not None
    assert fresh.seq == 2
    assert queue.take(prefers_fresh=True) is failed

"""The backlog hands out in order what waits, whether in memory or on disk, and loses nothing."""

import asyncio
import functools

import msgspec
import pytest
from builders import WALL_MS, Disk, MemoryStore, inbound, inbound_backlog, turns

from gateway._fast.ring import EVERY_CLASS
from gateway.clock import FakeClock
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.store.backlog import Backlog
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
    record = queue.take(EVERY_CLASS & ~(1 << RECEIPT))
    assert record is not None
    assert record.seq == 3


async def test_large_bodies_that_are_delayed_close_their_class_and_leave_others_their_part() -> None:
    """An empty ring gets its page whatever the bytes: that alone would read all of a flood into memory."""
    store, clock = MemoryStore(), FakeClock()
    queue = inbound_backlog(store, clock, slots=2)
    queue.memory.bytes_max = 3000
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
    queue.defer(failed, clock.now_ns())
    fresh = queue.take(prefers_fresh=True)
    assert fresh is not None
    assert fresh.seq == 2
    assert queue.take(prefers_fresh=True) is failed


async def test_one_that_came_from_another_class_and_has_ended_can_not_be_withdrawn() -> None:
    """By its number it might be among those on disk that no page has reached yet."""
    store = MemoryStore()
    queue = inbound_backlog(store, FakeClock(), slots=2)
    await pushed(store, queue, *(inbound(seq, RECEIPT) for seq in range(1, 5)), inbound(5, MESSAGE))
    moving = queue.moves.withdraw(5, MESSAGE)
    assert moving is not None
    queue.moves.reinstate(msgspec.structs.replace(moving, cls=RECEIPT))
    moved = queue.take()
    assert moved is not None
    assert moved.seq == 5
    queue.settle(moved)
    with pytest.raises(KeyError):
        queue.moves.withdraw(5, RECEIPT)
    assert (queue.on_disk(RECEIPT), queue.total()) == (2, 4)

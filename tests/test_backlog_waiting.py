"""Who waits for a backlog is woken by each change that may be for him, and by nothing else."""

import asyncio

import pytest
from builders import MemoryStore, inbound, inbound_backlog, turns
from test_backlog import pushed

from gateway.clock import NS_PER_MS, FakeClock, SystemClock
from gateway.events import InboundClass

MESSAGE, FAILURE, RECEIPT = InboundClass


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

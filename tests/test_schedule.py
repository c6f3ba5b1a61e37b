"""Scheduled sends wait on disk until their time, then go in their class, few at a time, and block nobody."""

import asyncio
import json

import pytest
from builders import push_body, turns
from push_rig import PushRig
from virtual_time import WALL_START_MS, run_virtual, virtual_loop

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import Kind, Outcome, SendClass
from gateway.outbound.queue import STARTED_MAX


def in_s(rig: PushRig, seconds: float) -> str:
    """A time that far ahead, as the header has it."""
    at_ms = rig.clock.wall_ms() + int(seconds * 1000)
    return f"{at_ms // 1000}" if at_ms % 1000 == 0 else pytest.fail("whole seconds")


async def scheduled(rig: PushRig, seconds: float, priority: str = "normal", **headers: str) -> str:
    return await rig.pushed(priority, X_Gateway_Not_Before=in_s(rig, seconds), **headers)


async def test_it_goes_at_its_time_and_not_a_millisecond_before() -> None:
    rig = PushRig()
    send_id = await scheduled(rig, 10)
    assert await rig.state(send_id) == "scheduled"
    assert (rig.queue.total(), rig.queue.memory_bytes, rig.difference()) == (1, 0, 0)
    assert await rig.schedule.start_due() == rig.clock.wall_ms() + 10_000
    rig.clock.advance_ns(10 * NS_PER_S - NS_PER_MS)
    assert await rig.schedule.start_due() == rig.clock.wall_ms() + 1
    assert rig.next() is None
    rig.clock.advance_ns(NS_PER_MS)
    await rig.schedule.start_due()
    assert await rig.schedule.start_due() is None
    assert await rig.state(send_id) == "queued"
    record = rig.next()
    assert record is not None
    assert (record.id, record.is_scheduled) == (send_id, False)
    assert rig.difference() == 0
    await rig.answered(record)
    assert (rig.queue.total(), rig.difference(), rig.store.disk.sends) == (0, 0, {})


async def test_a_time_to_live_begins_at_its_time() -> None:
    rig = PushRig()
    await scheduled(rig, 10, X_Gateway_TTL="5s")
    (record,) = rig.store.disk.sends.values()
    assert record.expires_ms == rig.clock.wall_ms() + 15_000


async def test_a_time_that_has_passed_is_none() -> None:
    rig = PushRig()
    send_id = await scheduled(rig, -5)
    record = rig.next()
    assert record is not None
    assert (record.id, record.not_before_ms) == (send_id, 0)


async def test_a_scheduled_send_survives_a_restart_and_is_counted_as_waiting() -> None:
    rig = PushRig()
    send_id = await scheduled(rig, 10, "bulk")
    again = PushRig(disk=rig.store.disk, clock=rig.clock)
    assert (again.queue.scheduled(SendClass.BULK), again.queue.total(), again.difference()) == (1, 1, 0)
    rig.clock.advance_ns(10 * NS_PER_S)
    await again.schedule.start_due()
    record = again.next()
    assert record is not None
    assert record.id == send_id


async def test_one_that_was_started_before_a_restart_waits_in_its_class() -> None:
    rig = PushRig()
    send_id = await scheduled(rig, 1)
    later = await rig.pushed(to="1556")
    rig.clock.advance_ns(NS_PER_S)
    await rig.schedule.start_due()
    again = PushRig(disk=rig.store.disk, clock=rig.clock)
    refilling = asyncio.create_task(again.queue.refill())
    await turns(20)
    refilling.cancel()
    found = [again.next() for _ in range(2)]
    assert [record and record.id for record in found] == [send_id, later]


async def test_it_can_be_cancelled_and_given_another_class_while_it_waits_for_its_time() -> None:
    rig = PushRig()
    first, second = [await scheduled(rig, 10, "bulk") for _ in range(2)]
    assert (await rig.changes.cancel(first)).status == 200
    assert (await rig.changes.reclass(second, "high")).status == 200
    assert (await rig.state(first), await rig.state(second)) == ("cancelled", "scheduled")
    assert (rig.queue.total(), rig.queue.scheduled(SendClass.HIGH), rig.difference()) == (1, 1, 0)
    assert rig.books.outcomes[Kind.SEND, Outcome.CANCELLED] == 1
    rig.clock.advance_ns(10 * NS_PER_S)
    await rig.schedule.start_due()
    record = rig.next()
    assert record is not None
    assert (record.id, record.cls) == (second, SendClass.HIGH)


async def test_scheduled_sends_count_against_the_queue_s_bound() -> None:
    rig = PushRig(queue_max=2)
    for _ in range(2):
        await scheduled(rig, 10)
    assert (await rig.push()).status == 429


async def test_many_that_are_due_at_once_come_in_few_at_a_time_and_hold_up_no_other_class() -> None:
    rig = PushRig(queue_max=5_000, slots=16)
    rig.queue.memory.aside_max = 4_096
    count = STARTED_MAX * 2 + 10
    at = in_s(rig, 10)
    body = {"to": "1", "type": "text", "gateway": {"priority": "bulk", "not_before": at}}
    assert (await rig.batch(*({**body, "to": f"15{n}"} for n in range(count)))).status == 202
    high = await scheduled(rig, 10, "high")
    rig.clock.advance_ns(10 * NS_PER_S)
    await rig.schedule.start_due()
    assert await rig.schedule.start_due() is None, "no room for more bulk"
    assert rig.queue.delayed() == STARTED_MAX + 1
    assert rig.queue.memory_bytes < (STARTED_MAX + 1) * 200
    record = rig.next()
    assert record is not None
    assert record.id == high
    await rig.answered(record, "wa-high")
    gone = 0
    wanted: list[int] = []
    rig.queue.on_scheduled = lambda: wanted.append(gone)
    while rig.queue.total():
        record = rig.next()
        if record is None:
            await rig.schedule.start_due()
            continue
        await rig.answered(record, f"wa-{record.seq}")
        gone += 1
        assert rig.queue.delayed() <= STARTED_MAX
        if gone == STARTED_MAX // 2:
            assert len(wanted) == 1, "half of them have gone"
    assert gone == count
    assert rig.difference() == 0


def test_one_timer_for_the_next_due_and_none_while_there_is_none() -> None:
    async def main() -> None:
        loop = virtual_loop()
        rig = PushRig(clock=loop)  # type: ignore[arg-type]
        working = asyncio.create_task(rig.schedule.work())
        await asyncio.sleep(0)
        times = (30, 20, 500)
        ids = {}
        for seconds in times:
            at_ms = WALL_START_MS + seconds * 1000
            answer = await rig.push(push_body(f"1{seconds}"), X_Gateway_Not_Before=str(at_ms // 1000))
            ids[json.loads(answer.body)["messages"][0]["id"]] = seconds
        jumps = loop.virtual.jumps
        came: list[tuple[int, int]] = []
        while len(came) < len(times):
            record = rig.next()
            if record is None:
                await rig.queue.wait_changed()
                continue
            came.append((ids[record.id], (loop.wall_ms() - WALL_START_MS) // 1000))
            await rig.answered(record, record.id)
        assert came == [(seconds, seconds) for seconds in sorted(times)]
        # One for each that is due, and one a minute for a clock that is set forward.
        assert loop.virtual.jumps - jumps <= len(times) + 500 // 60 + 1
        working.cancel()

    run_virtual(main())

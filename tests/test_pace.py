"""The pacer grants sends one by one, on time, the most urgent first, and is silent while paused."""

import asyncio

import pytest
from builders import FakeAlarm, MemoryStore, send, send_backlog, turns
from pacer_rig import FakeBudget, Rig

from gateway.budget.classes import ClassShares
from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock, SystemClock
from gateway.events import SendClass, TpsKind
from gateway.outbound.alarm import KernelAlarm
from gateway.outbound.front import NEVER_NS
from gateway.outbound.pace import PAUSE_BULK_MS, PAUSE_MAX_MS, PAUSE_MIN_MS, Pacer

REPLY, HIGH, NORMAL, BULK = SendClass


async def test_grants_in_strict_order_of_class_and_then_of_age() -> None:
    rig = Rig()
    rig.push(BULK, NORMAL, HIGH, NORMAL, REPLY)
    granted = [await rig.pacer.next() for _ in range(5)]
    assert [(record.cls, record.seq) for record in granted if record] == [
        (REPLY, 5), (HIGH, 3), (NORMAL, 2), (NORMAL, 4), (BULK, 1),
    ]  # fmt: skip


async def test_a_send_is_chosen_when_its_moment_comes_and_not_before() -> None:
    """What arrives in a higher class while the pacer sleeps goes first."""
    rig = Rig(interval_ns=1000)
    rig.push(BULK, BULK)
    assert await rig.next_class() is BULK
    asking = rig.ask()
    await turns()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + 1000
    rig.push(REPLY)
    rig.alarm.reach()
    record = await asking
    assert record is not None
    assert record.cls is REPLY


async def test_an_alarm_that_rings_early_grants_nothing() -> None:
    rig = Rig(interval_ns=1000)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    rig.clock.advance_ns(999)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    assert rig.budget.granted == 1
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    assert await asking is not None


async def test_nothing_is_taken_from_the_budget_without_work() -> None:
    rig = Rig()
    asking = rig.ask()
    await turns()
    assert rig.budget.granted == 0
    rig.push(NORMAL)
    assert await asking is not None
    assert rig.budget.granted == 1


async def test_those_who_wait_are_served_in_order() -> None:
    rig = Rig()
    first, second = rig.ask(), rig.ask()
    await turns()
    rig.push(NORMAL)
    await turns()
    assert first.done()
    assert not second.done()
    rig.push(NORMAL)
    assert await second is not None


@pytest.mark.parametrize("is_asleep", [False, True])
async def test_cancelling_loses_no_send_and_no_grant(is_asleep: bool) -> None:
    rig = Rig(interval_ns=1000)
    if is_asleep:
        rig.push(NORMAL)
        await rig.pacer.next()
        rig.push(NORMAL)
    granted = rig.budget.granted
    asking = rig.ask()
    await turns()
    asking.cancel()
    await turns()
    assert asking.cancelled()
    assert rig.budget.granted == granted
    rig.clock.advance_ns(1000)
    if not is_asleep:
        rig.push(NORMAL)
    assert await rig.pacer.next() is not None


# -- suspended


@pytest.mark.parametrize("is_asleep", [False, True])
async def test_suspended_grants_nothing_whatever_comes_and_resumed_goes_on(is_asleep: bool) -> None:
    rig = Rig(interval_ns=1000)
    if is_asleep:  # for the budget's next moment, when it is suspended
        rig.push(NORMAL, NORMAL)
        await rig.pacer.next()
    asking = rig.ask()
    await turns()
    rig.pacer.suspend()
    granted = rig.budget.granted
    rig.push(REPLY)
    rig.clock.advance_ns(1_000_000 * NS_PER_S)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    assert rig.budget.granted == granted
    rig.pacer.resume()
    assert await asking is not None
    assert rig.budget.granted == granted + 1


async def test_draining_ends_whoever_waits_while_suspended() -> None:
    rig = Rig()
    rig.push(NORMAL)
    rig.pacer.suspend()
    asking = rig.ask()
    await turns()
    rig.pacer.drain()
    assert await asking is None
    assert rig.budget.granted == 0


async def test_the_kernels_timer_takes_the_time_that_never_comes() -> None:
    """As the suspended pacer waits: until it is rung for."""
    alarm = KernelAlarm()
    try:
        waiting = asyncio.create_task(alarm.wait_until(NEVER_NS))
        await turns()
        assert not waiting.done()
        alarm.ring()
        await waiting
    finally:
        alarm.close()


# -- pauses


async def test_a_pause_holds_everything_until_its_end() -> None:
    rig = Rig()
    rig.push(REPLY)
    until_ns = rig.pacer.pause_all(None)
    assert until_ns == rig.clock.now_ns() + PAUSE_MIN_MS * NS_PER_MS
    assert rig.pacer.paused_ms() == PAUSE_MIN_MS
    asking = rig.ask()
    await turns()
    assert rig.alarm.deadline_ns == until_ns
    assert rig.budget.granted == 0
    rig.alarm.reach()
    assert await asking is not None
    assert rig.pacer.paused_ms() == 0


async def test_a_pause_that_begins_while_the_pacer_sleeps_counts() -> None:
    rig = Rig(interval_ns=1000)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    until_ns = rig.pacer.pause_all(None)
    rig.alarm.reach()
    await turns()
    assert not asking.done()
    assert rig.alarm.deadline_ns == until_ns
    rig.alarm.reach()
    assert await asking is not None


async def test_the_time_the_node_names_is_kept() -> None:
    rig = Rig()
    assert rig.pacer.pause_all(7.5) == rig.clock.now_ns() + 7_500 * NS_PER_MS
    assert rig.pacer.pause_all(3.0) == rig.clock.now_ns() + 7_500 * NS_PER_MS
    assert rig.pacer.pause_all(9.0) == rig.clock.now_ns() + 9_000 * NS_PER_MS


async def test_a_time_beyond_the_bound_is_not_believed() -> None:
    rig = Rig()
    assert rig.pacer.pause_all(86_400.0) == rig.clock.now_ns() + PAUSE_MAX_MS * NS_PER_MS


async def test_pauses_in_a_row_double_up_to_a_bound_until_a_send_succeeds() -> None:
    rig = Rig()

    def pause_ms() -> int:
        ms = (rig.pacer.pause_all(None) - rig.clock.now_ns()) // NS_PER_MS
        rig.clock.advance_ns(ms * NS_PER_MS)
        return ms

    assert [pause_ms() for _ in range(7)] == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    rig.pacer.succeeded()
    assert [pause_ms() for _ in range(2)] == [2_000, 4_000]
    assert rig.pacer.pauses == 9


@pytest.mark.parametrize("retry_after_s", [None, 2.0])
async def test_answers_to_sends_that_were_under_way_are_one_pause(retry_after_s: float | None) -> None:
    """Sixteen connections, one overload: the next pause is the second, not the seventeenth."""
    rig = Rig()
    for _ in range(16):
        rig.pacer.pause_all(retry_after_s)
    assert rig.pacer.pauses == 1
    rig.clock.advance_ns(2_000 * NS_PER_MS)
    assert rig.pacer.pause_all(None) == rig.clock.now_ns() + 4_000 * NS_PER_MS


async def test_a_pause_of_bulk_leaves_the_other_classes() -> None:
    rig = Rig()
    rig.push(BULK, NORMAL)
    until_ns = rig.pacer.pause_bulk()
    assert until_ns == rig.clock.now_ns() + PAUSE_BULK_MS * NS_PER_MS
    assert await rig.next_class() is NORMAL
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.push(REPLY)
    record = await asking
    assert record is not None
    assert record.cls is REPLY
    rig.clock.advance_ns(PAUSE_BULK_MS * NS_PER_MS - 1)
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.queue.wake_all()
    record = await asking
    assert record is not None
    assert record.cls is BULK


async def test_bulk_that_becomes_allowed_is_not_slept_over() -> None:
    """Nobody pushes at the end of the pause: the pacer must wake by itself."""
    rig = Rig()
    rig.push(BULK)
    rig.pacer.pause_bulk()
    rig.clock.advance_ns(PAUSE_BULK_MS * NS_PER_MS - NS_PER_MS)
    asking = rig.ask()
    await turns()
    assert not asking.done()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + NS_PER_MS
    rig.alarm.reach()
    assert await asking is not None


# -- draining


async def test_draining_ends_all_who_wait() -> None:
    rig = Rig()
    asking = [rig.ask() for _ in range(3)]
    await turns()
    rig.pacer.drain()
    assert await asyncio.gather(*asking) == [None, None, None]


async def test_draining_ends_a_sleep_and_leaves_the_send_in_the_queue() -> None:
    rig = Rig(interval_ns=NS_PER_S)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    rig.pacer.drain()
    assert await asking is None
    assert (rig.queue.total(), rig.queue.taken()) == (2, 1)
    assert rig.budget.granted == 1


async def test_a_drained_pacer_grants_nothing() -> None:
    rig = Rig()
    rig.push(NORMAL)
    rig.pacer.drain()
    assert await rig.pacer.next() is None
    assert rig.budget.granted == 0


# -- with the real budget and the real alarm


async def test_a_campaign_never_exceeds_the_window_and_uses_the_rate() -> None:
    """Ten simulated seconds: the alarm is reached as soon as it is set."""
    rig = Rig()
    tps = 20
    budget = TpsBudget(tps, dict.fromkeys(TpsKind, 1), 0, rig.clock.now_ns())
    pacer = Pacer(rig.queue, budget, rig.alarm, rig.clock)
    granted_ns: list[int] = []
    end_ns = rig.clock.now_ns() + WINDOW_NS + 10 * NS_PER_S

    async def work() -> None:
        while (record := await pacer.next()) is not None:
            granted_ns.append(rig.clock.now_ns())
            rig.queue.settle(record)
            rig.push(BULK)

    rig.push(BULK)
    working = asyncio.create_task(work())
    while rig.clock.now_ns() < end_ns:
        await turns(3)
        if rig.alarm.deadline_ns is not None:
            rig.alarm.reach()
    pacer.drain()
    await working
    for at, first_ns in enumerate(granted_ns):
        assert sum(first_ns <= other_ns < first_ns + WINDOW_NS for other_ns in granted_ns[at:]) <= tps
    assert len(granted_ns) >= 10 * tps * 99 // 100


async def test_the_kernel_alarm_wakes_on_time_and_when_rung() -> None:
    alarm, clock = KernelAlarm(), SystemClock()
    deadline_ns = clock.now_ns() + NS_PER_MS
    await alarm.wait_until(deadline_ns)
    assert clock.now_ns() >= deadline_ns
    await alarm.wait_until(clock.now_ns() - 1)
    waiting = asyncio.create_task(alarm.wait_until(clock.now_ns() + 3600 * NS_PER_S))
    await turns()
    assert not waiting.done()
    alarm.ring()
    await waiting
    alarm.close()


async def test_a_pause_lowers_the_ceiling_once_and_successes_raise_it() -> None:
    rig = Rig()
    rig.pacer.pause_all(None)
    assert rig.budget.slowed == 0, "a node that is away says nothing of its load"
    rig.clock.advance_ns(PAUSE_MAX_MS * NS_PER_MS)
    for _ in range(5):
        rig.pacer.slow_down(None)
    assert rig.budget.slowed == 1, "answers to sends that were under way are one episode"
    rig.pacer.succeeded()
    assert rig.budget.successes == 1


async def test_bulk_keeps_its_floor_and_replies_their_cap() -> None:
    clock = FakeClock()
    queue = send_backlog(MemoryStore(clock), clock, slots=512, aside_max=512)
    pacer = Pacer(queue, FakeBudget(), FakeAlarm(clock), clock, shares=ClassShares(5, 80))
    for seq in range(1, 401):
        queue.push(send(seq, SendClass.REPLY if seq % 2 else SendClass.BULK, f"4915{seq}"))
    taken = []
    for _ in range(200):
        record = await pacer.next()
        assert record is not None
        taken.append(record.cls)
    assert taken.count(SendClass.BULK) in (39, 40), "a fifth of all is not for replies, and only bulk waits"

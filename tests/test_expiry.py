"""A send whose time to live is over is not sent: looked at just before it goes, without spending budget."""

import asyncio
import json

import pytest
from builders import FakeAlarm, push_body, turns
from pacer_rig import FakeBudget
from push_rig import PushRig

from gateway._fast.ring import EVERY_CLASS
from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import Kind, Outcome
from gateway.outbound.front import Front
from gateway.outbound.pace import Pacer


def expired(rig: PushRig) -> int:
    return rig.books.outcomes[Kind.SEND, Outcome.EXPIRED]


@pytest.mark.parametrize(("late_ms", "goes"), [(-1, True), (0, False)])
async def test_it_goes_a_millisecond_before_and_not_any_more_then(late_ms: int, goes: bool) -> None:
    rig = PushRig()
    send_id = await rig.pushed(X_Gateway_TTL="1s")
    rig.clock.advance_ns((1_000 + late_ms) * NS_PER_MS)
    record = rig.next()
    await turns()
    assert (record is not None) is goes
    assert expired(rig) == (0 if goes else 1)
    assert await rig.state(send_id) == ("queued" if goes else "expired")
    assert (rig.queue.total(), rig.difference()) == (1 if goes else 0, 0)


async def test_where_it_comes_from_the_header_the_message_or_the_setting() -> None:
    rig = PushRig(ttl_ms=5_000)
    template = {"type": "template", "ttl": {"days": 1}}
    for headers, fields in (({}, {}), ({}, template), ({"X_Gateway_TTL": "7s"}, template)):
        await rig.push(push_body(**fields), **headers)  # type: ignore[arg-type]
    now_ms = rig.clock.wall_ms()
    lives_ms = [record.expires_ms - now_ms for record in rig.store.disk.sends.values()]
    assert lives_ms == [5_000, 86_400_000, 7_000]


async def test_one_that_expires_in_hand_makes_room_for_the_next() -> None:
    rig = PushRig()
    await rig.pushed(X_Gateway_TTL="1s")
    other = await rig.pushed(to="15550100112")
    assert rig.front.look(EVERY_CLASS, rig.clock.now_ns()).ready
    rig.clock.advance_ns(NS_PER_S)
    record = rig.next()
    assert record is not None
    assert record.id == other
    await turns()
    assert (expired(rig), rig.queue.total(), rig.difference()) == (1, 1, 0)


async def test_expired_ones_deep_in_the_queue_end_when_they_are_reached() -> None:
    rig = PushRig(queue_max=100, slots=4, sends_per_s=1e6)
    for number in range(20):
        await rig.push(push_body(f"15550{number}"), X_Gateway_TTL="1s")
    last = await rig.pushed(to="15551")
    rig.clock.advance_ns(NS_PER_S)
    refilling = asyncio.create_task(rig.queue.refill())
    while (record := rig.next()) is None:
        await turns()
    await turns()
    refilling.cancel()
    assert (record.id, expired(rig), rig.queue.total(), rig.difference()) == (last, 20, 1, 0)


async def test_an_expired_send_spends_no_budget() -> None:
    rig = PushRig(sends_per_s=1e6)
    budget = FakeBudget(interval_ns=NS_PER_S)
    pacer = Pacer(rig.queue, budget, FakeAlarm(rig.clock), rig.clock, rig.front)
    for number in range(3):
        await rig.push(push_body(f"15550{number}"), X_Gateway_TTL="1s")
    rig.clock.advance_ns(NS_PER_S)
    asking = asyncio.create_task(pacer.next())
    await turns()
    assert not asking.done()
    assert (budget.granted, expired(rig)) == (0, 3)
    asking.cancel()


async def test_a_group_send_that_is_held_and_one_that_has_a_slot_end_too() -> None:
    rig = PushRig(sends_per_s=1e6)
    sizes = GroupSizes(Ratios())
    sizes.ratios.delivered_ratio = 1.0
    fanout = FanOut(10)
    rig.front = front = Front(rig.queue, fanout, sizes, PairLimit(6 * NS_PER_S, 1))
    front.has_expired, front.expire = rig.endings.has_expired, rig.endings.expire
    for name in ("a", "b"):
        sizes.told(name, 40, rig.clock.now_ns())
        await rig.push(push_body(name, recipient_type="group"), X_Gateway_TTL="2s")
    for _ in range(2):
        await rig.push(push_body("1"), X_Gateway_TTL="2s")
    gone = []
    while (record := rig.next()) is not None:
        gone.append(record.to)
        await rig.answered(record, f"wa-{record.seq}")
        front.look(EVERY_CLASS, rig.clock.now_ns())
    assert gone == ["a", "1"]
    assert (front.held(), front.booked()) == (1, 1)
    rig.clock.advance_ns(6 * NS_PER_S)
    assert rig.next() is None
    await turns()
    assert (expired(rig), front.held(), front.booked()) == (2, 0, 0)
    assert (rig.queue.total(), rig.difference()) == (0, 0)


async def test_a_cancelled_send_keeps_no_slot_in_memory() -> None:
    rig = PushRig()
    rig.front = front = Front(rig.queue, pairs=PairLimit(6 * NS_PER_S, 1))
    rig.withdrawals.release, rig.withdrawals.forget = front.release, front.forget
    ids = [await rig.pushed() for _ in range(2)]
    record = rig.next()
    assert record is not None
    await rig.answered(record)
    front.look(EVERY_CLASS, rig.clock.now_ns())
    assert front.booked() == 1
    assert (await rig.changes.cancel(ids[1])).status == 200
    assert (front.booked(), rig.queue.total()) == (0, 0)


async def test_one_that_expires_while_it_waits_for_its_retry_keeps_its_attempts() -> None:
    rig = PushRig()
    send_id = await rig.pushed(X_Gateway_TTL="1s")
    record = rig.next()
    assert record is not None
    record.attempts = 2
    rig.front.refused(record, rig.clock.now_ns())
    rig.queue.defer(record, rig.clock.now_ns() + 2 * NS_PER_S)
    rig.clock.advance_ns(2 * NS_PER_S)
    assert rig.next() is None
    await turns()
    found = json.loads((await rig.queries.find(send_id)).body)
    assert (found["state"], found["attempts"], found["node_id"]) == ("expired", 2, None)

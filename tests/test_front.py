"""The front lets a send that must wait, for receipts of groups or for its recipient, stand aside while others go on."""

import asyncio

from builders import send, turns
from pacer_rig import LARGE, SMALL, GroupRig, PairRig

from gateway.budget.fanout import CLEAR_MAX_NS, EXPIRY_NS, HUSH_NS
from gateway.budget.groups import ASK_WAIT_NS, MEMBERS_ASSUMED
from gateway.clock import NS_PER_S
from gateway.events import SendClass

REPLY, HIGH, NORMAL, BULK = SendClass


async def test_a_group_waits_for_the_receipts_of_the_one_before_while_others_go_on() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group()
    rig.push(NORMAL, NORMAL)
    assert [await rig.next_seq() for _ in range(2)] == [held + 1, held + 2]
    assert rig.front.held() == 1
    assert rig.queue.taken() == 4
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + EXPIRY_NS
    rig.arrive(first, 29)
    await turns()
    assert not asking.done()
    rig.arrive(first, 1, first=29)
    record = await asking
    assert record is not None
    assert record.seq == held
    assert rig.fanout.outstanding == 10 + SMALL
    assert rig.front.held() == 0


async def test_without_receipts_a_group_goes_when_they_expire_and_not_before() -> None:
    rig = GroupRig()
    await rig.send_group()
    held = rig.push_group()
    asking = await rig.asks_in_vain()
    rig.clock.advance_ns(EXPIRY_NS - 1)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    record = await asking
    assert record is not None
    assert record.seq == held


async def test_a_pacer_that_waits_for_receipts_wakes_for_what_matters_only() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group()
    asking = await rig.asks_in_vain()
    looks = rig.looks
    await turns(50)
    assert rig.looks == looks
    rig.arrive(first, 29)
    await turns(50)
    assert rig.looks == looks, "receipts that make no room wake nobody"
    rig.push(BULK)
    assert await asking is not None
    assert rig.looks == looks + 1
    asking = await rig.asks_in_vain()
    looks = rig.looks
    rig.arrive(first, 11, first=29)
    record = await asking
    assert record is not None
    assert record.seq == held
    assert rig.looks == looks + 1, "and those that make room wake once"


async def test_one_that_is_held_goes_before_fresh_ones_of_its_class_and_after_those_above() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group(NORMAL)
    asking = await rig.asks_in_vain()
    asking.cancel()
    await turns()
    rig.push(NORMAL, HIGH, BULK)
    rig.arrive(first, SMALL)
    assert [await rig.next_seq() for _ in range(4)] == [held + 2, held, held + 1, held + 3]


async def test_held_ones_of_a_class_go_in_order() -> None:
    rig = GroupRig()
    await rig.send_group()
    seqs = [rig.push_group(members=members) for members in (SMALL, 2, SMALL)]
    granted: list[int] = []
    for _ in seqs:
        asking = rig.ask()
        await turns()
        if not asking.done():
            rig.alarm.reach()
        record = await asking
        assert record is not None
        granted.append(record.seq)
    assert granted == seqs


async def test_a_group_below_does_not_take_the_room_that_one_above_waits_for() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    high = rig.push_group(HIGH, SMALL)
    rig.push_group(BULK, 2)
    asking = await rig.asks_in_vain()
    rig.arrive(first, SMALL)
    record = await asking
    assert record is not None
    assert record.seq == high


async def test_a_class_above_overtakes_a_held_group_with_its_own_group() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    normal = rig.push_group(NORMAL)
    asking = await rig.asks_in_vain()
    high = rig.push_group(HIGH)
    await turns()
    rig.arrive(first, SMALL)
    record = await asking
    assert record is not None
    assert record.seq == high
    rig.front.refused(record, rig.clock.now_ns())
    assert await rig.next_seq() == normal


async def test_clearing_holds_its_class_and_those_below_and_no_longer_than_its_bound() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    rig.fanout.charge_arrival(100, rig.clock.now_ns())
    rig.push(NORMAL, BULK, HIGH)
    assert await rig.next_seq() == large + 3
    begun_ns = rig.clock.now_ns()
    asking = await rig.asks_in_vain()
    while rig.clock.now_ns() < begun_ns + CLEAR_MAX_NS - NS_PER_S:
        rig.clock.advance_ns(NS_PER_S)
        rig.fanout.charge_arrival(100, rig.clock.now_ns())
        rig.alarm.ring()
        await turns()
        assert not asking.done()
    assert rig.alarm.deadline_ns == begun_ns + CLEAR_MAX_NS
    rig.clock.advance_ns(NS_PER_S - 1)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    record = await asking
    assert record is not None
    assert record.seq == large
    # And after it they hush, until its first receipts can be here.
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + HUSH_NS
    rig.clock.advance_ns(HUSH_NS)
    rig.alarm.ring()
    after = await asking
    assert after is not None
    assert [after.seq, await rig.next_seq()] == [large + 1, large + 2]


async def test_a_class_above_does_not_hush() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    assert await rig.next_seq() == large
    rig.push(HIGH)
    assert await rig.next_seq() == large + 1


async def test_clearing_ends_as_soon_as_it_is_quiet() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    rig.fanout.charge_arrival(100, rig.clock.now_ns())
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + 10 * NS_PER_S
    rig.alarm.reach()
    record = await asking
    assert record is not None
    assert record.seq == large


async def test_single_chats_go_on_however_many_group_sends_of_their_class_are_held() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    seqs = [rig.push_group(BULK, 20) for _ in range(1000)]
    rig.push(BULK)
    single = rig._seq
    assert await rig.next_seq() == single
    (await rig.asks_in_vain()).cancel()
    assert rig.front.held() == len(seqs)
    rig.arrive(first, SMALL)
    await turns()
    granted = []
    for _ in seqs:
        record = await rig.pacer.next()
        assert record is not None
        granted.append(record.seq)
        rig.front.refused(record, rig.clock.now_ns())
    assert granted == seqs


async def test_at_the_bound_of_what_stands_aside_its_class_waits_and_the_others_do_not() -> None:
    rig = GroupRig(aside_max=8)
    first = await rig.send_group()
    seqs = [rig.push_group(BULK, 20) for _ in range(10)]
    rig.push(BULK)
    single = rig._seq
    rig.push(HIGH)
    rig.push_group(NORMAL, 20)
    rig.push(NORMAL)
    assert [await rig.next_seq() for _ in range(2)] == [single + 1, single + 3]
    (await rig.asks_in_vain()).cancel()
    assert rig.front.held() == 8 + 1
    assert rig.queue.depth(BULK) == 3
    rig.arrive(first, SMALL)
    await turns()
    granted: list[int] = []
    while len(granted) < 12:
        record = await asyncio.wait_for(rig.pacer.next(), 1)
        assert record is not None
        granted.append(record.seq)
        rig.front.refused(record, rig.clock.now_ns())
        rig.queue.settle(record)
    assert granted == [single + 2, *seqs, single]


async def test_cancelling_and_draining_lose_no_held_send() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = [rig.push_group(), rig.push_group(BULK)]
    asking = await rig.asks_in_vain()
    asking.cancel()
    await turns()
    assert asking.cancelled()
    assert rig.front.held() == 2
    asking = await rig.asks_in_vain()
    rig.pacer.drain()
    assert await asking is None
    assert rig.front.held() == 0
    rig.queue.settle(first)
    assert (rig.queue.taken(), rig.queue.total()) == (0, 2)
    assert sorted(rec.seq for rec in (rig.queue.take(), rig.queue.take()) if rec) == held


async def test_a_pause_of_bulk_holds_a_held_group_of_bulk_too() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    rig.push_group(BULK)
    asking = await rig.asks_in_vain()
    rig.pacer.pause_bulk()
    rig.arrive(first, SMALL)
    await turns()
    assert not asking.done()
    rig.push_group(NORMAL)
    record = await asking
    assert record is not None
    assert record.cls is NORMAL


async def test_a_send_to_a_group_of_unknown_size_waits_for_the_answer_and_for_it_only() -> None:
    rig = GroupRig(asks=True)
    rig.queue.push(send(1, NORMAL, "new group", is_group=True))
    rig._seq = 1
    rig.push(NORMAL)
    assert await rig.next_seq() == 2
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + ASK_WAIT_NS
    assert rig.sizes.next_wanted() == "new group"
    rig.sizes.told("new group", 3, rig.clock.now_ns())
    rig.pacer.ring()
    assert await asking is not None
    assert rig.fanout.outstanding == 3


async def test_when_the_answer_does_not_come_the_largest_size_is_assumed() -> None:
    rig = GroupRig(asks=True)
    rig.queue.push(send(1, NORMAL, "new group", is_group=True))
    asking = await rig.asks_in_vain()
    rig.alarm.reach()
    assert await asking is not None
    assert rig.fanout.outstanding == MEMBERS_ASSUMED


# -- the pair limit


async def test_one_recipient_over_its_limit_holds_nobody_else_up() -> None:
    rig = PairRig()
    rig.push_to("a", "a", "a", "a", "b")
    assert await rig.granted(3) == [1, 2, 5]
    assert rig.front.booked() == 2
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(6 * NS_PER_S - 1)
    rig.queue.wake_all()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.queue.wake_all()
    record = await asking
    assert record is not None
    assert record.seq == 3
    rig.answer(record)
    rig.push_to("a", "c")
    assert await rig.granted(1) == [7]
    assert rig.front.booked() == 2
    rig.clock.advance_ns(6 * NS_PER_S)
    assert await rig.granted(1) == [4]
    rig.clock.advance_ns(6 * NS_PER_S)
    assert await rig.granted(1) == [6]


async def test_a_slot_is_booked_once_however_long_the_budget_takes() -> None:
    rig = PairRig(interval_ns=NS_PER_S)
    rig.push_to("b", "a", "a")
    assert await rig.granted(1) == [1]
    asking = rig.ask()
    await turns()
    for _ in range(5):
        rig.alarm.ring()
        await turns()
    rig.alarm.reach()
    record = await asking
    assert record is not None
    rig.answer(record)
    rig.clock.advance_ns(NS_PER_S)
    assert await rig.granted(1) == [3], "both of the burst, though the first was looked at many times"


# -- one at a time


async def test_a_send_waits_for_the_answer_to_another_to_its_recipient_whatever_its_class() -> None:
    rig = PairRig()
    rig.push_to("a", "b")
    first = await rig.ask()
    assert first is not None
    rig.queue.push(send(3, SendClass.REPLY, "+a"))
    second = await rig.ask()
    assert second is not None
    assert second.seq == 2, "another recipient's goes on"
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.answer(first)
    third = await asking
    assert third is not None
    assert third.seq == 3


async def test_what_waits_for_an_answer_comes_back_at_a_drain_and_can_be_given_another_class() -> None:
    rig = PairRig()
    rig.push_to("a")
    first = await rig.ask()
    assert first is not None
    rig.queue.push(send(2, SendClass.REPLY, "a"))
    rig.queue.push(send(3, SendClass.BULK, "a"))
    rig.ask().cancel()
    rig.front.look(0b1111, rig.clock.now_ns())
    assert rig.queue.taken() == 3
    rig.front.release(3, rig.clock.now_ns())
    moved = rig.queue.moves.withdraw(3, SendClass.BULK)
    assert moved is not None
    rig.queue.moves.reinstate(moved)
    rig.front.give_back(rig.clock.now_ns())
    assert (rig.queue.taken(), rig.queue.total()) == (1, 3)

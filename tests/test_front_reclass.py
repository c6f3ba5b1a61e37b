"""A send that was looked at and has not begun can be given another class, and the front goes on without it."""

import msgspec
import pytest
from builders import turns
from pacer_rig import LARGE, SMALL, GroupRig, PairRig, Rig

from gateway.clock import NS_PER_S
from gateway.events import SendClass

REPLY, HIGH, NORMAL, BULK = SendClass


async def moved(rig: Rig, seq: int, old: SendClass, new: SendClass) -> None:
    """What the acceptor does for a class change, the disk apart; KeyError for a send that is under way."""
    assert rig.pacer.front is not None
    rig.pacer.front.release(seq, rig.clock.now_ns())
    record = rig.queue.moves.withdraw(seq, old)
    assert record is not None
    await turns()
    rig.queue.moves.reinstate(msgspec.structs.replace(record, cls=new))


async def test_a_held_send_that_changes_class_lets_the_next_one_go_and_keeps_those_in_order() -> None:
    rig = GroupRig()
    await rig.send_group()
    held = [rig.push_group(NORMAL, members) for members in (SMALL, 5, 5)]
    asking = await rig.asks_in_vain()
    await moved(rig, held[0], NORMAL, BULK)
    record = await asking
    assert record is not None
    assert (record.seq, await rig.next_seq()) == (held[1], held[2])


async def test_a_send_that_others_clear_the_way_for_opens_it_when_its_class_is_lowered() -> None:
    rig = GroupRig()
    large = rig.push_group(HIGH, LARGE)
    rig.fanout.charge_arrival(100, rig.clock.now_ns())
    rig.push(NORMAL)
    asking = await rig.asks_in_vain()
    await moved(rig, large, HIGH, BULK)
    record = await asking
    assert record is not None
    assert record.seq == large + 1


async def test_in_its_new_class_it_is_behind_the_group_sends_held_there() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    high, normal = rig.push_group(HIGH), rig.push_group(NORMAL, 2)
    (await rig.asks_in_vain()).cancel()
    await turns()
    await moved(rig, normal, NORMAL, HIGH)
    fresh = rig.push_group(HIGH, 2)
    rig.arrive(first, SMALL)
    assert [await rig.next_seq() for _ in range(3)] == [high, normal, fresh]


async def test_a_send_in_hand_while_its_class_is_paused_can_be_raised_out_of_it() -> None:
    rig = Rig(interval_ns=1000)
    rig.push(NORMAL, BULK)
    assert await rig.next_class() is NORMAL
    asking = rig.ask()
    await turns()
    rig.pacer.pause_bulk()
    rig.alarm.reach()
    await turns()
    assert not asking.done()
    await moved(rig, 2, BULK, HIGH)
    record = await asking
    assert record is not None
    assert (record.seq, record.cls) == (2, HIGH)


async def test_a_send_that_was_granted_can_not_be_withdrawn() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    with pytest.raises(KeyError):
        await moved(rig, first.seq, NORMAL, HIGH)


async def test_a_send_keeps_the_slot_it_has_whatever_class_it_is_given() -> None:
    rig = PairRig(interval_ns=NS_PER_S)
    rig.push_to("b", "a", "a", "a")
    assert await rig.granted(1) == [1]
    asking = rig.ask()
    await turns()  # 2 is in hand, and has the first slot of a
    await moved(rig, 2, NORMAL, HIGH)
    rig.alarm.reach()
    record = await asking
    assert record is not None
    assert record.seq == 2
    rig.answer(record)
    rig.clock.advance_ns(NS_PER_S)
    assert await rig.granted(1) == [3], "the second of the burst"
    rig.clock.advance_ns(NS_PER_S)
    asking = rig.ask()
    await turns()
    assert rig.front.booked() == 1
    await moved(rig, 4, NORMAL, REPLY)
    rig.clock.advance_ns(4 * NS_PER_S - 1)  # its slot is 6 s after 2 has gone
    rig.queue.wake_all()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.queue.wake_all()
    record = await asking
    assert record is not None
    assert (record.seq, record.cls, rig.front.booked()) == (4, REPLY, 0)

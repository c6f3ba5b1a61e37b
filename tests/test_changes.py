"""Sends that wait can be given another class or be cancelled, one by one or as a batch, wherever they wait."""

import asyncio
import json

import pytest
from builders import settled, turns
from push_rig import PushRig

from gateway._fast.ring import EVERY_CLASS
from gateway.events import Kind, Outcome, ReceiptMask, SendClass, SendRecord
from gateway.outbound.front import Front
from gateway.store.protocol import Change

# -- another class


async def bulk_ids(rig: PushRig, count: int) -> list[str]:
    answers = [await rig.push(priority="bulk") for _ in range(count)]
    return [json.loads(answer.body)["messages"][0]["id"] for answer in answers]


@pytest.mark.parametrize("which", [0, 3, 9])
async def test_a_waiting_send_can_be_given_another_class_wherever_it_waits(which: int) -> None:
    """In memory (the first ones) and on disk behind them: it goes before what stayed in its class."""
    rig = PushRig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 10)
    answer = await rig.changes.reclass(ids[which], "high")
    assert answer.status == 200
    assert json.loads(answer.body)["class"] == "high"
    first = rig.queue.take()
    assert first is not None
    assert (first.id, first.cls) == (ids[which], SendClass.HIGH)
    assert rig.books.difference(rig.queue.waiting()) == 0
    rest = []
    refilling = asyncio.create_task(rig.queue.refill())
    while rig.queue.total() > rig.queue.taken():
        rest.append((await rig.queue.get()).id)
    refilling.cancel()
    assert rest == [send_id for at, send_id in enumerate(ids) if at != which]


async def test_a_class_change_keeps_the_attempts_of_a_send_that_waits_for_its_retry() -> None:
    rig = PushRig()
    (send_id,) = await bulk_ids(rig, 1)
    record = rig.queue.take()
    assert record is not None
    record.attempts = 3
    due_ns = rig.clock.now_ns() + 1000
    rig.queue.defer(record, due_ns)
    assert (await rig.changes.reclass(send_id, "reply")).status == 200
    assert rig.queue.take() is None, "its retry is not due yet"
    rig.clock.advance_ns(1000)
    moved = rig.queue.take()
    assert moved is not None
    assert (moved.cls, moved.attempts) == (SendClass.REPLY, 3)


async def test_a_send_that_is_under_way_or_has_ended_keeps_its_class() -> None:
    rig = PushRig()
    (send_id,) = await bulk_ids(rig, 1)
    record = rig.queue.take()
    assert record is not None
    assert (await rig.changes.reclass(send_id, "high")).status == 409
    rig.queue.settle(record)
    await rig.store.submit(Change(settled=[settled(record)]))
    assert (await rig.changes.reclass(send_id, "high")).status == 409


async def test_a_send_that_was_looked_at_and_not_sent_can_be_given_another_class() -> None:
    rig = PushRig()
    front = Front(rig.queue)
    rig.withdrawals.release = front.release
    (send_id,) = await bulk_ids(rig, 1)
    assert front.look(EVERY_CLASS, rig.clock.now_ns()).ready == 1 << SendClass.BULK
    assert rig.queue.taken() == 1
    assert (await rig.changes.reclass(send_id, "high")).status == 200
    assert front.look(EVERY_CLASS, rig.clock.now_ns()).ready == 1 << SendClass.HIGH
    record = front.take(SendClass.HIGH, rig.clock.now_ns())
    assert (record.id, record.cls) == (send_id, SendClass.HIGH)
    assert (await rig.changes.reclass(send_id, "normal")).status == 409, "now it is under way"


async def test_changes_of_one_send_at_once_are_made_one_after_the_other() -> None:
    rig = PushRig()
    (send_id,) = await bulk_ids(rig, 1)
    answers = await asyncio.gather(
        *(rig.changes.reclass(send_id, cls) for cls in ("high", "reply", "normal"))
    )
    assert [answer.status for answer in answers] == [200] * 3
    record = rig.queue.take()
    assert record is not None
    assert record.cls is SendClass.NORMAL


async def test_a_class_that_is_none_and_a_send_that_is_none_are_refused() -> None:
    rig = PushRig()
    (send_id,) = await bulk_ids(rig, 1)
    assert (await rig.changes.reclass(send_id, "urgent")).status == 400
    assert (await rig.changes.reclass(send_id, None)).status == 400
    assert (await rig.changes.reclass("gw-00000000-1", "high")).status == 404
    assert (await rig.changes.reclass(send_id, "bulk")).status == 200, "the class it has"


async def test_a_send_moved_into_a_class_that_waits_on_disk_goes_once_and_strands_none() -> None:
    """Its row lies among those that pages of its new class still have to read."""
    rig = PushRig(queue_max=100, slots=4)
    bulk = await bulk_ids(rig, 6)
    answer = await rig.push(priority="normal")
    moved = json.loads(answer.body)["messages"][0]["id"]
    bulk += await bulk_ids(rig, 4)
    assert (await rig.changes.reclass(moved, "bulk")).status == 200
    refilling = asyncio.create_task(rig.queue.refill())
    taken = []
    while rig.queue.total() > rig.queue.taken():
        taken.append((await rig.queue.get()).id)
        await turns()
    refilling.cancel()
    assert taken == [moved, *bulk]
    assert rig.queue.on_disk(SendClass.BULK) == 0


async def test_a_class_without_room_takes_no_other_sends() -> None:
    rig = PushRig(queue_max=200)
    ids = await bulk_ids(rig, 66)
    answers = [(await rig.changes.reclass(send_id, "high")).status for send_id in ids]
    assert answers == [200] * 64 + [429] * 2


# -- cancelled


async def settle_all(rig: PushRig, refilling: "asyncio.Task[None] | None" = None) -> list[str]:
    """Let everything go that waits, and have the node take it; the ids in order."""
    gone = []
    refilling = refilling or asyncio.create_task(rig.queue.refill())
    while rig.queue.total():
        await turns()
        record = rig.next()
        if record is not None:
            gone.append(record.id)
            await rig.answered(record, f"wa-{record.seq}")
    refilling.cancel()
    return gone


@pytest.mark.parametrize("which", [0, 3, 4, 9])
async def test_a_waiting_send_is_cancelled_wherever_it_waits(which: int) -> None:
    """In memory and on disk: it never goes, the others go in order, and the books have its end."""
    rig = PushRig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 10)
    answer = await rig.changes.cancel(ids[which])
    assert (answer.status, json.loads(answer.body)["state"]) == (200, "cancelled")
    assert rig.books.outcomes[Kind.SEND, Outcome.CANCELLED] == 1
    assert rig.difference() == 0
    assert await settle_all(rig) == [send_id for at, send_id in enumerate(ids) if at != which]
    assert rig.difference() == 0
    assert rig.store.disk.sends == {}


async def test_a_second_cancel_changes_nothing() -> None:
    rig = PushRig()
    send_id = await rig.pushed()
    answers = [await rig.changes.cancel(send_id) for _ in range(2)]
    assert [(answer.status, json.loads(answer.body)["state"]) for answer in answers] == [
        (200, "cancelled")
    ] * 2
    assert rig.books.outcomes[Kind.SEND, Outcome.CANCELLED] == 1


async def test_cancels_of_one_send_at_once_end_it_once() -> None:
    rig = PushRig()
    send_id = await rig.pushed()
    answers = await asyncio.gather(*(rig.changes.cancel(send_id) for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    assert rig.books.outcomes[Kind.SEND, Outcome.CANCELLED] == 1
    assert (rig.queue.total(), rig.difference()) == (0, 0)


async def test_a_send_in_hand_or_waiting_for_its_retry_is_cancelled() -> None:
    rig = PushRig()
    first, second = [await rig.pushed(to=f"1555010011{n}") for n in range(2)]
    record = rig.next()
    assert record is not None
    assert record.id == first
    rig.front.refused(record, rig.clock.now_ns())
    rig.queue.defer(record, rig.clock.now_ns() + 1_000)
    assert rig.front.look(EVERY_CLASS, rig.clock.now_ns()).ready, "the second is in hand"
    assert rig.queue.taken() == 1
    assert [(await rig.changes.cancel(send_id)).status for send_id in (first, second)] == [200, 200]
    rig.clock.advance_ns(1_000)
    assert rig.next() is None
    assert (rig.queue.total(), rig.difference()) == (0, 0)


async def test_a_send_that_is_under_way_or_has_ended_is_not_cancelled() -> None:
    rig = PushRig()
    send_id = await rig.pushed()
    record = rig.next()
    assert record is not None
    assert (await rig.changes.cancel(send_id)).status == 409
    await rig.answered(record)
    assert (await rig.changes.cancel(send_id)).status == 409
    assert rig.refusals.counts == {"too_late": 2}
    assert await rig.state(send_id) == "sent"
    assert (await rig.changes.cancel("gw-0badcafe-99")).status == 404


async def test_a_page_read_before_a_cancel_does_not_bring_the_send_back() -> None:
    """The row was there when the page was read, and is gone when it arrives."""
    rig = PushRig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 6)
    read_sends = rig.store.read_sends
    arrive = asyncio.Event()

    async def slow(cls: int, after_seq: int, limit: int) -> list[SendRecord]:
        page = await read_sends(SendClass(cls), after_seq, limit)
        await arrive.wait()
        return page

    rig.queue._read_page = slow
    refilling = asyncio.create_task(rig.queue.refill())
    for _ in range(4):
        record = rig.next()
        assert record is not None
        await rig.answered(record)
    await turns()
    assert (await rig.changes.cancel(ids[4])).status == 200
    late = await rig.pushed("bulk")
    arrive.set()
    assert await settle_all(rig, refilling) == [ids[5], late]
    assert (rig.queue.on_disk(SendClass.BULK), rig.difference()) == (0, 0)


async def test_what_comes_while_a_page_is_read_that_is_empty_by_now_goes_once() -> None:
    """All that was on disk is cancelled; the page, read late, has the one that came since."""
    rig = PushRig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 5)
    read_sends = rig.store.read_sends
    ask = asyncio.Event()

    async def slow(cls: int, after_seq: int, limit: int) -> list[SendRecord]:
        await ask.wait()
        return await read_sends(SendClass(cls), after_seq, limit)

    rig.queue._read_page = slow
    refilling = asyncio.create_task(rig.queue.refill())
    for _ in range(4):
        record = rig.next()
        assert record is not None
        await rig.answered(record)
    await turns()
    assert (await rig.changes.cancel(ids[4])).status == 200
    late = await rig.pushed("bulk")
    ask.set()
    assert await settle_all(rig, refilling) == [late]
    assert (rig.queue.on_disk(SendClass.BULK), rig.difference()) == (0, 0)


async def test_when_all_that_a_page_was_asked_for_is_cancelled_nothing_comes() -> None:
    rig = PushRig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 5)
    for _ in range(4):
        record = rig.next()
        assert record is not None
        await rig.answered(record)
    refilling = asyncio.create_task(rig.queue.refill())
    cancelling = asyncio.create_task(rig.changes.cancel(ids[4]))
    await turns(30)
    assert (await cancelling).status == 200
    assert not refilling.done()
    refilling.cancel()
    assert (rig.queue.total(), rig.difference()) == (0, 0)


@pytest.mark.parametrize("at", [0, 9])
async def test_the_end_of_a_cancelled_send_knows_which_receipts_were_wanted(at: int) -> None:
    """In memory and on disk only: with none wanted the backend is not told of the cancel."""
    rig = PushRig(queue_max=100, slots=4)
    ids = [await rig.pushed("bulk", X_Gateway_Receipts="none") for _ in range(10)]
    ended: list[SendRecord] = []

    class Ended:
        def tell(self, record: SendRecord, *_: object) -> None:
            ended.append(record)

    rig.settler.ended = Ended()
    assert (await rig.changes.cancel(ids[at])).status == 200
    assert [(record.id, record.mask) for record in ended] == [(ids[at], ReceiptMask.NONE)]

"""All sends of a batch that wait are given another class, or cancelled, by few changes on disk."""

import json
from collections.abc import Sequence

from push_rig import PushRig
from test_changes import bulk_ids, settle_all

from gateway.events import SendClass, SendRecord
from gateway.outbound.batches import BATCH_MAX
from gateway.outbound.withdrawals import SLICE


async def batch_of(rig: PushRig, count: int, priority: str = "bulk") -> tuple[str, list[str]]:
    messages = [{"to": f"155501{n:05}", "type": "text", "text": {"body": "hi"}} for n in range(count)]
    answer = await rig.batch(*messages, X_Gateway_Priority=priority)
    assert answer.status == 202, answer.body
    body = json.loads(answer.body)
    return body["batch_id"], [message["id"] for message in body["messages"]]


async def test_a_batch_is_cancelled_but_for_what_is_under_way_or_has_ended() -> None:
    rig = PushRig(queue_max=100, slots=4)
    other = await rig.pushed("bulk")
    batch_id, ids = await batch_of(rig, 20)
    for _ in range(3):
        record = rig.next()
        assert record is not None
        if record.id != ids[1]:
            await rig.answered(record)
    answer = await rig.changes.cancel_batch(batch_id)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "batch_id": batch_id, "cancelled": 18, "under_way": 1, "ended_before": 1,
    }  # fmt: skip
    assert [await rig.state(send_id) for send_id in (other, *ids[:3])] == [
        "sent",
        "sent",
        "queued",
        "cancelled",
    ]
    assert rig.queue.total() == 1
    assert rig.difference() == 0
    again = json.loads((await rig.changes.cancel_batch(batch_id)).body)
    assert (again["cancelled"], again["under_way"], again["ended_before"]) == (0, 1, 19)
    assert (await rig.changes.cancel_batch("gwb-0badcafe-1")).status == 404


async def test_a_batch_is_given_another_class_and_goes_before_what_stayed() -> None:
    rig = PushRig(queue_max=100, slots=4)
    stayed = await bulk_ids(rig, 3)
    batch_id, ids = await batch_of(rig, 10)
    answer = await rig.changes.reclass_batch(batch_id, "high")
    assert json.loads(answer.body) == {
        "batch_id": batch_id, "changed": 10, "under_way": 0, "no_room": 0, "ended_before": 0,
    }  # fmt: skip
    assert await settle_all(rig) == [*ids, *stayed]
    assert rig.difference() == 0
    assert (await rig.changes.reclass_batch(batch_id, "urgent")).status == 400
    assert (await rig.changes.reclass_batch("gwb-0badcafe-99", "high")).status == 404


async def test_a_batch_is_moved_by_a_page_at_a_time() -> None:
    """In memory, on disk and scheduled; what was under way stays, and what had no room."""
    rig = PushRig(queue_max=2_000, slots=BATCH_MAX + 8, sends_per_s=1e6)
    batch_id, ids = await batch_of(rig, BATCH_MAX)
    under_way = rig.next()
    assert under_way is not None
    reclass_sends = rig.store.reclass_sends
    moves: list[int] = []

    async def counted(
        seqs: Sequence[int], old: SendClass, new: SendClass, *, is_scheduled: bool = False
    ) -> list[SendRecord]:
        moves.append(len(seqs))
        return await reclass_sends(seqs, old, new, is_scheduled=is_scheduled)

    rig.store.reclass_sends = counted  # type: ignore[method-assign]
    rig.queue.memory.aside_max = 700
    counts = json.loads((await rig.changes.reclass_batch(batch_id, "reply")).body)
    assert (counts["changed"], counts["under_way"], counts["no_room"]) == (700, 1, BATCH_MAX - 701)
    assert moves == [SLICE - 1, SLICE, 700 - 2 * SLICE + 1]
    rig.queue.memory.aside_max = 10_000
    counts = json.loads((await rig.changes.reclass_batch(batch_id, "reply")).body)
    assert (counts["changed"], counts["under_way"], counts["no_room"]) == (BATCH_MAX - 1, 1, 0)
    await rig.answered(under_way)
    assert (await settle_all(rig))[:9] == ids[1:10]
    assert rig.difference() == 0


async def test_scheduled_sends_of_a_batch_are_moved_too() -> None:
    rig = PushRig(queue_max=100)
    at_s = rig.clock.wall_ms() // 1000 + 10
    messages = [{"to": f"1555{n}", "type": "text", "text": {"body": "hi"}} for n in range(3)]
    answer = await rig.batch(*messages, X_Gateway_Not_Before=str(at_s), X_Gateway_Priority="bulk")
    batch_id = json.loads(answer.body)["batch_id"]
    counts = json.loads((await rig.changes.reclass_batch(batch_id, "high")).body)
    assert counts["changed"] == 3
    assert (rig.queue.scheduled(SendClass.HIGH), rig.queue.scheduled(SendClass.BULK)) == (3, 0)
    assert rig.difference() == 0

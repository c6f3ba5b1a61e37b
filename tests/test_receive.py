"""Webhooks: 200 means it is on disk, duplicates are dropped, and the door closes in order."""

import asyncio
import json

import pytest
from builders import (
    CONTACT,
    GROUP,
    cloud_body,
    message,
    onprem_body,
    status,
    turns,
)
from receive_rig import STORE_MAX, Rig

from gateway._fast.seen import SeenSet
from gateway.errors import StoreError
from gateway.events import InboundClass, Kind, TpsKind
from gateway.inbound.receive import PENDING_MAX


async def test_answers_200_only_once_the_store_has_it() -> None:
    rig = Rig(holds_commits=True)
    receiving = asyncio.create_task(rig.receive(onprem_body([message()])))
    await turns()
    assert not receiving.done()
    assert rig.receiver.pending == 1
    assert rig.messages.total() == 0
    rig.store.commit()
    assert await receiving == 200
    assert rig.receiver.pending == 0
    assert rig.messages.total() == 1
    assert len(rig.store.disk.inbound) == 1


async def test_a_record_is_what_came() -> None:
    rig = Rig()
    body = onprem_body([message("a"), message("b")])
    assert await rig.receive(body) == 200
    record = rig.messages.take()
    assert record is not None
    assert (record.body, record.lane, record.cls) == (body, CONTACT, InboundClass.MESSAGE)
    assert record.kind_counts() == ((Kind.MESSAGE, 2),)
    assert record.received_ms == rig.clock.wall_ms()
    rig.assert_books_balance()


async def test_messages_and_statuses_go_to_their_own_queues() -> None:
    rig = Rig()
    body = onprem_body([message()], [status(name="read"), status(name="failed")], [{"code": 1}])
    assert await rig.receive(body) == 200
    assert (rig.messages.total(), rig.events.total()) == (1, 1)
    assert rig.messages.waiting() == {Kind.MESSAGE: 1}
    assert rig.events.waiting() == {Kind.READ: 1, Kind.FAILED: 1, Kind.ERROR: 1}
    record = rig.events.take()
    assert record is not None
    assert record.cls is InboundClass.FAILURE
    rig.assert_books_balance()


async def test_what_is_no_json_is_refused_and_counted() -> None:
    rig = Rig()
    reception = await rig.receiver.receive(b"{")
    assert reception.status == 400
    assert "JSON" in reception.reason
    assert (rig.receiver.not_json, rig.receiver.webhooks) == (1, 1)
    assert rig.store.disk.inbound == {}


async def test_what_is_not_recognised_is_counted_and_forwarded_as_a_message() -> None:
    rig = Rig()
    body = b'{"something": "new"}'
    assert await rig.receive(body) == 200
    assert rig.receiver.unrecognised == 1
    record = rig.messages.take()
    assert record is not None
    assert record.body == body
    assert record.kind_counts() == ((Kind.OTHER, 1),)
    rig.assert_books_balance()


async def test_an_empty_body_is_acknowledged_and_not_stored() -> None:
    rig = Rig(holds_commits=True)
    assert await rig.receive(b'{"messages": []}') == 200
    assert rig.messages.total() == 0


# -- duplicates


async def test_a_duplicate_within_a_body_is_dropped() -> None:
    rig = Rig()
    assert await rig.receive(onprem_body([message("a"), message("a"), message("b")])) == 200
    record = rig.messages.take()
    assert record is not None
    assert json.loads(record.body) == {"messages": [message("a"), message("b")]}
    assert rig.receiver.duplicates[Kind.MESSAGE] == 1
    assert rig.books.accepted[Kind.MESSAGE] == 2
    rig.assert_books_balance()


async def test_a_body_that_comes_again_is_acknowledged_and_dropped() -> None:
    rig = Rig()
    body = onprem_body([message()], [status()])
    assert [await rig.receive(body) for _ in range(3)] == [200, 200, 200]
    assert (rig.messages.total(), rig.events.total()) == (1, 1)
    assert rig.receiver.duplicates[Kind.MESSAGE] == rig.receiver.duplicates[Kind.DELIVERED] == 2
    rig.assert_books_balance()


async def test_of_a_body_that_is_half_known_the_new_half_is_stored() -> None:
    rig = Rig()
    await rig.receive(onprem_body([message("a")]))
    await rig.receive(onprem_body([message("a"), message("b")]))
    rig.messages.take()
    record = rig.messages.take()
    assert record is not None
    assert json.loads(record.body) == {"messages": [message("b")]}


async def test_the_second_copy_is_acknowledged_only_once_the_first_is_stored() -> None:
    """Its 200 promises the first copy, which may still be on its way to the disk."""
    rig = Rig(holds_commits=True)
    body = onprem_body([message()])
    first = asyncio.create_task(rig.receive(body))
    await turns()
    second = asyncio.create_task(rig.receive(body))
    await turns()
    assert not second.done()
    rig.store.commit()
    assert [await first, await second] == [200, 200]
    assert rig.messages.total() == 1


async def test_when_the_first_copy_fails_the_second_is_refused_too() -> None:
    rig = Rig(holds_commits=True)
    body = onprem_body([message()])
    tasks = [asyncio.create_task(rig.receive(body)) for _ in range(2)]
    await turns()
    rig.store.fail(StoreError("the disk is ill"))
    assert await asyncio.gather(*tasks) == [503, 503]
    assert rig.messages.total() == 0
    assert rig.receiver.pending == 0
    assert await rig.receive(onprem_body([message("b")])) == 503


async def test_fingerprints_are_stored_with_their_events() -> None:
    rig = Rig()
    await rig.receive(onprem_body([message("a"), message(None)], [status()]))
    marks = b"".join(mark for _, mark in rig.store.disk.seen)
    assert len(marks) == 16
    after_restart = SeenSet(1000)
    after_restart.add_packed(marks)
    again = Rig()
    again.receiver._seen = after_restart
    await again.receive(onprem_body([message("a")], [status()]))
    assert (again.messages.total(), again.events.total()) == (0, 0)


async def test_events_without_an_id_are_never_duplicates() -> None:
    rig = Rig()
    body = onprem_body([message(None)], errors=[{"code": 1}])
    await rig.receive(body)
    await rig.receive(body)
    assert (rig.messages.total(), rig.events.total()) == (2, 2)


async def test_each_recipient_and_each_status_is_an_event_of_its_own() -> None:
    rig = Rig()
    for name in ("sent", "delivered", "read"):
        for recipient in ("1", "2"):
            await rig.receive(onprem_body(statuses=[status("gBGG1", name, recipient)]))
    assert rig.events.total() == 6


# -- refusing


async def test_a_full_store_refuses_everything() -> None:
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    reception = await rig.receiver.receive(onprem_body([message()]))
    assert (reception.status, reception.reason) == (503, "store_full")
    assert rig.receiver.refused == {"store_full": 1}


async def test_a_store_one_byte_under_the_bound_takes_messages() -> None:
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX - 1
    assert await rig.receive(onprem_body([message()])) == 200


@pytest.mark.parametrize("make", [onprem_body, lambda **arrays: cloud_body(arrays)])
async def test_a_nearly_full_store_refuses_receipts_and_takes_the_rest(make: object) -> None:
    assert callable(make)
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX * 95 // 100
    assert (
        await rig.receive(make(statuses=[status(name=name) for name in ("sent", "delivered", "read")])) == 503
    )
    assert rig.receiver.refused == {"store_nearly_full": 1}
    assert await rig.receive(make(statuses=[status(name="failed")])) == 200
    assert await rig.receive(make(messages=[message()], statuses=[status()])) == 200
    rig.store.fixed_used_bytes -= 1
    assert await rig.receive(make(statuses=[status(name="read")])) == 200


async def test_what_was_refused_is_no_duplicate_when_it_comes_again() -> None:
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    body = onprem_body([message()])
    assert await rig.receive(body) == 503
    rig.store.fixed_used_bytes = 0
    assert await rig.receive(body) == 200
    assert rig.messages.total() == 1


async def test_too_many_waiting_for_the_disk_are_refused() -> None:
    rig = Rig(holds_commits=True)
    tasks = [asyncio.create_task(rig.receive(onprem_body([message(None)]))) for _ in range(PENDING_MAX)]
    await turns()
    reception = await rig.receiver.receive(onprem_body([message("late")]))
    assert (reception.status, reception.reason) == (503, "disk_slow")
    rig.store.commit()
    assert set(await asyncio.gather(*tasks)) == {200}


# -- charging


async def test_arrivals_are_charged_by_kind_when_they_come() -> None:
    """Sent receipts, failures and errors cost nothing."""
    rig = Rig(holds_commits=True)
    names = ("sent", "delivered", "read", "failed", "played")
    body = onprem_body([message("a"), message("b")], [status(name=name) for name in names], [{"code": 1}])
    receiving = asyncio.create_task(rig.receive(body))
    await turns()
    now_ns = rig.clock.now_ns()
    assert sorted(rig.charged) == sorted(
        (kind, 1, now_ns)
        for kind in (TpsKind.RECEIVE, TpsKind.RECEIVE, TpsKind.DELIVERED, TpsKind.READ, TpsKind.READ)
    )
    rig.store.commit()
    assert await receiving == 200


async def test_duplicates_are_not_charged() -> None:
    rig = Rig()
    body = onprem_body([message(), message()], [status()])
    await rig.receive(body)
    await rig.receive(body)
    assert sorted(kind for kind, _, _ in rig.charged) == [TpsKind.RECEIVE, TpsKind.DELIVERED]


async def test_what_is_refused_is_charged_once_however_often_the_node_repeats_it() -> None:
    """The number has spent it when it came first: with the store full, sends must not take the budget for idle."""
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    body = onprem_body([message("a"), message("a")], [status(), status(name="sent")])
    once = [TpsKind.RECEIVE, TpsKind.DELIVERED]
    for _ in range(3):
        assert await rig.receive(body) == 503
        assert [kind for kind, _, _ in rig.charged] == once
    rig.store.fixed_used_bytes = 0
    assert await rig.receive(onprem_body([message("a"), message("b")], [status()])) == 200
    assert [kind for kind, _, _ in rig.charged] == [*once, TpsKind.RECEIVE], "b alone is new"
    assert await rig.receive(body) == 200
    assert len(rig.charged) == 3


async def test_a_duplicate_of_what_is_stored_costs_nothing_when_it_is_refused() -> None:
    rig = Rig()
    assert await rig.receive(onprem_body([message("a")])) == 200
    rig.store.fixed_used_bytes = STORE_MAX
    assert await rig.receive(onprem_body([message("a"), message("b")])) == 503
    assert len(rig.charged) == 2


async def test_what_is_refused_without_an_id_is_charged_each_time() -> None:
    """It may be another one each time: that errs on the safe side, and so does forgetting."""
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    for _ in range(2):
        assert await rig.receive(onprem_body([message(None)])) == 503
    rig.store.fixed_used_bytes = 0
    assert await rig.receive(onprem_body([message(None)])) == 200
    assert len(rig.charged) == 3


async def test_refused_events_that_are_known_to_be_charged_are_bounded() -> None:
    rig = Rig()
    rig.receiver._charged = SeenSet(2)
    rig.store.fixed_used_bytes = STORE_MAX
    for name in "abcba":
        assert await rig.receive(onprem_body([message(name)])) == 503
    assert len(rig.charged) == 4, "a was forgotten for c, and is charged again"
    assert len(rig.receiver._charged) == 2


async def test_receipts_are_told_with_message_and_participant_in_every_shape_they_come_in() -> None:
    rig = Rig()
    onprem = {**status("a", "delivered", "member 1"), "group_id": GROUP}
    cloud = {
        **status("b", "read", GROUP),
        "recipient_type": "group",
        "recipient_participant_id": "member 2",
    }
    await rig.receive(onprem_body(statuses=[onprem, status("c", "read"), status("d", "sent")]))
    await rig.receive(cloud_body({"statuses": [cloud, status("e", "failed")], "messages": [message()]}))
    assert rig.told == [
        (TpsKind.DELIVERED, "a", "member 1"),
        (TpsKind.READ, "c", CONTACT),
        (TpsKind.READ, "b", "member 2"),
    ]


async def test_a_receipt_that_comes_again_is_not_told_again() -> None:
    rig = Rig()
    body = onprem_body(statuses=[status(), status()])
    await rig.receive(body)
    await rig.receive(body)
    assert rig.told == [(TpsKind.DELIVERED, "gBGG1", CONTACT)]


async def test_a_caller_that_goes_away_undoes_nothing() -> None:
    rig = Rig(holds_commits=True)
    receiving = asyncio.create_task(rig.receive(onprem_body([message()])))
    await turns()
    receiving.cancel()
    await turns()
    assert receiving.cancelled()
    assert rig.receiver.pending == 1
    rig.store.commit()
    assert rig.receiver.pending == 0
    assert rig.messages.total() == 1
    rig.assert_books_balance()


async def test_a_receipt_that_was_refused_is_told_once_when_it_is_taken() -> None:
    """The node repeats what was refused: told each time, one phone would count as many."""
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    body = onprem_body(statuses=[status()])
    for _ in range(3):
        assert await rig.receive(body) == 503
    assert rig.told == []
    assert sum(rig.receiver.duplicates.values()) == 0
    rig.store.fixed_used_bytes = 0
    assert await rig.receive(body) == 200
    assert len(rig.told) == 1


@pytest.mark.parametrize("is_usual", [True, False])
async def test_what_could_not_be_taken_is_no_duplicate_when_it_comes_again(
    is_usual: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A part that fails while the change is made: nothing of it is remembered, so the node's next try is whole."""
    rig = Rig()
    body = onprem_body([message()], errors=[] if is_usual else [{"code": 1}])

    def broken(*_: object) -> bytes:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(rig.clock, "wall_ms", broken)
        with pytest.raises(RuntimeError):
            rig.receiver.take(body, lambda _: None)
    assert rig.receiver.pending == 0
    assert await rig.receive(body) == 200
    assert (rig.messages.total(), rig.receiver.duplicates[Kind.MESSAGE]) == (1, 0)
    rig.assert_books_balance()

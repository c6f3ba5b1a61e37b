"""Webhooks under pressure and policies: which receipts come in, what is kept of those that don't, who is refused."""

import pytest
from builders import message, onprem_body, status
from receive_rig import Rig

from gateway.clock import NS_PER_S
from gateway.dialects.webhook import decode
from gateway.events import Kind, Outcome, ReceiptMask
from gateway.inbound.admit import Reason
from gateway.inbound.receipt_book import ReceiptBook
from gateway.overload.ladder import THRESHOLDS, Policies, ReceiptClass, Rung


def climb(rig: Rig, rung: Rung) -> None:
    rig.ladder.update(THRESHOLDS[rung], rig.clock.now_ns())
    assert rig.ladder.rung is rung


def waiting(rig: Rig) -> list[Kind]:
    return [
        event.kind
        for record in sorted(rig.store.disk.inbound.values(), key=lambda record: record.seq)
        for event in decode(record.body).events
    ]


async def test_a_receipt_that_is_shed_ends_at_once_and_the_rest_goes_on() -> None:
    rig = Rig()
    climb(rig, Rung.SHED_DELIVERED)
    body = onprem_body([message()], [status(name=name) for name in ("delivered", "read", "failed")])
    assert await rig.receive(body) == 200
    assert waiting(rig) == [Kind.MESSAGE, Kind.READ, Kind.FAILED]
    assert rig.books.accepted[Kind.DELIVERED] == 1
    assert rig.books.outcomes[Kind.DELIVERED, Outcome.SHED] == 1
    assert rig.gatekeeper.dropped == {(ReceiptClass.DELIVERED, Reason.OVERLOAD): 1}
    rig.assert_books_balance()


async def test_what_is_shed_is_in_the_ledger_and_no_news_when_it_comes_again() -> None:
    rig = Rig()
    climb(rig, Rung.SHED_READ)
    for _ in range(2):
        assert (
            await rig.receive(onprem_body(statuses=[status("m1", "read"), status("m1", "delivered")])) == 200
        )
    assert rig.store.disk.inbound == {}
    assert rig.receiver.duplicates[Kind.READ] == 1
    known = rig.receipts.look("m1", rig.clock.wall_ms())
    assert known is not None
    assert (known.status, known.delivered.count, known.read.count) == ("read", 1, 1)


async def test_what_the_disk_has_makes_the_same_ledger() -> None:
    rig = Rig()
    climb(rig, Rung.SHED_SENT)
    names = ("sent", "delivered", "read", "failed")
    for number in range(20):
        await rig.receive(
            onprem_body(statuses=[status(f"m{number % 7}", name, str(number)) for name in names])
        )
        if number == 10:
            change = rig.receipts.checkpoint()
            assert change is not None
            await rig.store.submit(change)
    found = ReceiptBook(type(rig.receipts.ledger)(1000), bytes(16), 3_600_000)
    found.restore(rig.store.disk.recover())
    for number in range(8):
        at_ms = rig.clock.wall_ms()
        assert found.look(f"m{number}", at_ms) == rig.receipts.look(f"m{number}", at_ms)


async def test_a_ledger_of_another_size_begins_anew_on_disk_too() -> None:
    rig = Rig()
    await rig.receive(onprem_body(statuses=[status("m1", "read")]))
    first = rig.receipts.checkpoint()
    assert first is not None
    await rig.store.submit(first)
    other = ReceiptBook(type(rig.receipts.ledger)(500), bytes(16), 3_600_000)
    other.restore(rig.store.disk.recover())
    assert other.look("m1", rig.clock.wall_ms()) is None
    anew = other.checkpoint()
    assert anew is not None
    await rig.store.submit(anew)
    assert other.checkpoint() is None
    again = ReceiptBook(type(rig.receipts.ledger)(500), bytes(16), 3_600_000)
    again.restore(rig.store.disk.recover())
    assert again.checkpoint() is None


async def test_the_sender_of_a_message_chooses_its_receipts() -> None:
    rig = Rig()
    rig.receipts.want("m1", ReceiptMask.FAILED)
    names = ("sent", "delivered", "read", "failed")
    await rig.receive(onprem_body(statuses=[status("m1", name) for name in names]))
    await rig.receive(onprem_body(statuses=[status("m2", name) for name in names]))
    assert waiting(rig) == [Kind.FAILED, Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.FAILED]
    assert sum(rig.gatekeeper.dropped.values()) == 3
    rig.assert_books_balance()


async def test_a_policy_drops_a_kind_and_nothing_else() -> None:
    rig = Rig(policies=Policies(sent="drop", group="drop"))
    await rig.receive(onprem_body(statuses=[status(name=name) for name in ("sent", "delivered", "read")]))
    await rig.receive(onprem_body(statuses=[{**status("g1"), "group_id": "49-1"}]))
    assert waiting(rig) == [Kind.DELIVERED, Kind.READ]
    assert set(rig.gatekeeper.dropped) == {
        (ReceiptClass.SENT, Reason.POLICY),
        (ReceiptClass.GROUP_DELIVERED, Reason.POLICY),
    }


async def test_a_receipt_that_is_overtaken_is_folded() -> None:
    rig = Rig()
    await rig.receive(onprem_body(statuses=[status("m1", "read")]))
    climb(rig, Rung.FOLD)
    await rig.receive(onprem_body(statuses=[status("m1", "delivered"), status("m2", "delivered")]))
    assert waiting(rig) == [Kind.READ, Kind.DELIVERED]
    assert rig.gatekeeper.dropped == {(ReceiptClass.DELIVERED, Reason.FOLDED): 1}


async def test_nothing_is_folded_into_a_receipt_that_was_shed_when_more_pressed() -> None:
    """The `read` was shed at the top; the pressure falls, and its `delivered` comes: the backend would hear of neither."""
    rig = Rig()
    climb(rig, Rung.SHED_READ)
    await rig.receive(onprem_body(statuses=[status("m1", "read")]))
    while rig.ladder.rung is not Rung.FOLD:
        rig.clock.advance_ns(NS_PER_S)
        rig.ladder.update(0.0, rig.clock.now_ns())
    await rig.receive(onprem_body(statuses=[status("m2", "read")]))
    await rig.receive(onprem_body(statuses=[status("m1", "delivered"), status("m2", "delivered")]))
    kept = [event for record in rig.store.disk.inbound.values() for event in decode(record.body).events]
    assert [(event.message_id, event.kind) for event in kept] == [
        ("m2", Kind.READ),
        ("m1", Kind.DELIVERED),
    ]
    assert rig.gatekeeper.dropped == {
        (ReceiptClass.READ, Reason.OVERLOAD): 1,
        (ReceiptClass.DELIVERED, Reason.FOLDED): 1,
    }
    rig.assert_books_balance()


@pytest.mark.parametrize("rung", Rung)
async def test_only_the_last_rung_refuses_and_only_receipts(rung: Rung) -> None:
    rig = Rig()
    climb(rig, rung)
    refused = 503 if rung is Rung.REFUSE else 200
    assert await rig.receive(onprem_body(statuses=[status("m1", "read")])) == refused
    assert rig.receiver.refused == ({"overload": 1} if rung is Rung.REFUSE else {})
    assert await rig.receive(onprem_body([message("a")])) == 200
    assert await rig.receive(onprem_body(statuses=[status("m2", "failed")])) == 200
    assert await rig.receive(onprem_body([message("b")], [status("m3", "read")])) == 200
    assert waiting(rig).count(Kind.MESSAGE) == 2
    assert waiting(rig).count(Kind.FAILED) == 1


async def test_what_was_left_with_the_node_comes_in_later() -> None:
    rig = Rig()
    climb(rig, Rung.REFUSE)
    body = onprem_body(statuses=[status("m1", "read")])
    assert await rig.receive(body) == 503
    assert rig.receipts.look("m1", rig.clock.wall_ms()) is None
    for second in range(1, 20):
        rig.ladder.update(0.0, rig.clock.now_ns() + second * 1_000_000_000)
    assert await rig.receive(body) == 200
    assert waiting(rig) == [Kind.READ]


async def test_every_webhook_is_told_and_its_wait_for_the_disk() -> None:
    rig = Rig()
    told: list[int] = []
    rig.receiver.on_webhook = lambda: told.append(1)
    await rig.receive(onprem_body([message()]))
    assert told == [1]
    assert rig.receiver.waits.take(lambda: -1.0) == 0.0
    assert rig.receiver.waits.take(lambda: 7.0) == 7.0

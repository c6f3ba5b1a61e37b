"""What is answered to whoever asks for receipts: one or many, by WhatsApp's id or by ours."""

import json
from typing import Any

import pytest
from builders import WALL_MS, MemoryStore, send, settled

from gateway._fast.ledger import ReceiptLedger
from gateway.clock import FakeClock
from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.dialects.webhook import Event
from gateway.events import InboundClass, Kind, Outcome
from gateway.inbound.receipt_answers import IDS_MAX, ReceiptAnswers
from gateway.inbound.receipt_book import ReceiptBook
from gateway.store.protocol import Change

NOW_S = WALL_MS // 1000
READ: dict[str, Any] = {
    "id": "m1",
    "status": "read",
    "sent_s": None,
    "delivered": {"count": 0, "first_s": None, "last_s": None},
    "read": {"count": 1, "first_s": NOW_S, "last_s": NOW_S},
    "failed": 0,
}


class Desk:
    """Answers from a book and a store."""

    def __init__(self, dialect: Dialect | None = None) -> None:
        self.clock = FakeClock(wall_ms=WALL_MS)
        self.store = MemoryStore(self.clock)
        self.book = ReceiptBook(ReceiptLedger(100), bytes(16), 3_600_000)
        self.answers = ReceiptAnswers(self.book, self.store, dialect or OnPrem(), self.clock)

    def come(self, message_id: str, kind: Kind = Kind.READ) -> None:
        place = (0, 0, "statuses", 0)
        event = Event(kind, InboundClass.RECEIPT, "key", "491", place, message_id=message_id)
        self.book.note([event], self.clock.wall_ms())

    async def ask(self, ids: list[str]) -> list[Any]:
        answer = await self.answers.find_many(json.dumps({"ids": ids}).encode())
        assert answer.status == 200
        return list(json.loads(answer.body)["receipts"])


async def test_tells_what_is_known_of_a_message() -> None:
    desk = Desk()
    desk.come("m1")
    answer = await desk.answers.find("m1")
    assert (answer.status, json.loads(answer.body)) == (200, READ)


@pytest.mark.parametrize("dialect", [OnPrem(), Cloud()])
async def test_an_unknown_one_is_404_in_the_dialects_own_shape(dialect: Dialect) -> None:
    answer = await Desk(dialect).answers.find("m1")
    assert answer.status == 404
    body = json.loads(answer.body)
    error = body["errors"][0] if isinstance(dialect, OnPrem) else body["error"]
    assert error["code"] == dialect.codes.not_found


async def test_what_is_older_than_its_retention_is_unknown() -> None:
    desk = Desk()
    desk.come("m1")
    desk.clock.advance_ns(3_601 * 1_000_000_000)
    assert (await desk.answers.find("m1")).status == 404
    assert await desk.ask(["m1"]) == [None]


async def test_our_own_id_is_answered_as_soon_as_the_node_has_named_the_message() -> None:
    desk = Desk()
    record = send(1)
    await desk.store.submit(Change(sends=[record]))
    ours = desk.store.send_id(1)
    assert (await desk.answers.find(ours)).status == 404
    await desk.store.submit(Change(settled=[settled(record)]))
    assert (await desk.answers.find(ours)).status == 404, "no receipt has come yet"
    desk.come("gBGG1")
    answer = await desk.answers.find(ours)
    assert answer.status == 200
    assert json.loads(answer.body) == {"queue_id": ours, **READ, "id": "gBGG1"}


@pytest.mark.parametrize("ours", ["gw-", "gw-0badcafe-2", "gw-0badcafe-x", "gw-1badcafe-1"])
async def test_an_id_of_ours_that_was_never_given_is_unknown(ours: str) -> None:
    assert (await Desk().answers.find(ours)).status == 404


async def test_a_send_that_failed_without_a_name_has_no_receipts() -> None:
    desk = Desk()
    record = send(1)
    end = settled(record, Outcome.FAILED)
    unnamed = type(end)(record, Outcome.FAILED, "", "1013", WALL_MS)
    await desk.store.submit(Change(sends=[record], settled=[unnamed]))
    assert (await desk.answers.find(desk.store.send_id(1))).status == 404


async def test_many_are_answered_in_their_order_with_null_for_what_is_unknown() -> None:
    desk = Desk()
    desk.come("m1")
    desk.come("m2")
    found = await desk.ask(["m2", "nobody", "m1", "m2"])
    assert [item and item["id"] for item in found] == ["m2", None, "m1", "m2"]


async def test_as_many_as_may_be_asked_are_answered_and_one_more_is_refused() -> None:
    desk = Desk()
    assert await desk.ask(["m1"] * IDS_MAX) == [None] * IDS_MAX
    answer = await desk.answers.find_many(json.dumps({"ids": ["m1"] * (IDS_MAX + 1)}).encode())
    assert answer.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ids": []}',
        b'{"ids": "m1"}',
        b'{"ids": [1]}',
        b'{"ids": [null]}',
        b'{"ids": ["m1"], "more": 1}',
        b'{"ids": ["\xff"]}',
        b'{"ids": ["m1"]',
    ],
)
async def test_a_question_of_another_shape_is_refused_with_the_shape_it_should_have(body: bytes) -> None:
    answer = await Desk().answers.find_many(body)
    assert answer.status == 400
    assert b'{\\"ids\\": [...]}' in answer.body

"""Sends that end without reaching WhatsApp: settled, entered in the books and told to the event webhook, all or nothing."""

import json
from typing import Any

import pytest
from builders import CONTACT, GROUP, MemoryStore, inbound_backlog, send, send_backlog, turns
from conftest import PAYLOADS

from gateway.app.bridges import EndedSends
from gateway.clock import FakeClock
from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect, Unsent
from gateway.dialects.onprem import OnPrem
from gateway.dialects.webhook import decode
from gateway.errors import StoreError
from gateway.events import InboundClass, Kind, Outcome, ReceiptMask, SendRecord
from gateway.outbound.settle import Settler
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change

ONPREM, CLOUD = OnPrem(), Cloud("900000000000200")


def unsent(outcome: Outcome = Outcome.FAILED, code: int | None = 1013, to: str = CONTACT) -> Unsent:
    return Unsent(
        "gw-0badcafe-7", to, to == GROUP, outcome, "HTTP 400: User is not valid", code, 1_700_000_001_999
    )


def status_in(body: bytes) -> dict[str, Any]:
    """The one status of a body in either dialect."""
    top = json.loads(body)
    value = top["entry"][0]["changes"][0]["value"] if "entry" in top else top
    (status,) = value["statuses"]
    assert isinstance(status, dict)
    return status


def shape(value: object) -> object:
    """The names and types in a JSON value, without links to documentation."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if name != "href"}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


# -- the body


def test_an_onprem_status_tells_our_id_the_recipient_the_error_and_the_outcome() -> None:
    assert json.loads(ONPREM.failed_status(unsent())) == {
        "statuses": [
            {
                "id": "gw-0badcafe-7",
                "recipient_id": CONTACT,
                "status": "failed",
                "timestamp": "1700000001",
                "errors": [
                    {
                        "code": 1013,
                        "title": "Message failed to send",
                        "details": "HTTP 400: User is not valid",
                    }
                ],
                "gateway": {
                    "id": "gw-0badcafe-7",
                    "outcome": "failed",
                    "reason": "HTTP 400: User is not valid",
                },
            }
        ]
    }


@pytest.mark.parametrize(
    ("dialect", "real", "to"),
    [
        (ONPREM, "onprem_status_failed", CONTACT),
        (CLOUD, "cloud_status_failed", CONTACT),
        (CLOUD, "cloud_group_status_failed", GROUP),
    ],
)
def test_it_has_the_shape_of_a_real_one_and_beside_that_only_our_mark(
    dialect: Dialect, real: str, to: str
) -> None:
    ours = json.loads(dialect.failed_status(unsent(to=to)))
    mark = status_in(dialect.failed_status(unsent(to=to)))["gateway"]
    expected = json.loads((PAYLOADS / f"{real}.json").read_bytes())
    value = expected["entry"][0]["changes"][0]["value"] if "entry" in expected else expected
    value["statuses"][0]["gateway"] = mark
    assert shape(ours) == shape(expected)


@pytest.mark.parametrize("dialect", [ONPREM, CLOUD])
@pytest.mark.parametrize("to", [CONTACT, GROUP, f"+{CONTACT}"])
def test_we_read_it_as_one_failure_of_that_recipient(dialect: Dialect, to: str) -> None:
    (event,) = decode(dialect.failed_status(unsent(to=to))).events
    assert (event.kind, event.cls) == (Kind.FAILED, InboundClass.FAILURE)
    assert (event.message_id, event.lane) == ("gw-0badcafe-7", to.removeprefix("+"))


@pytest.mark.parametrize(
    ("dialect", "outcome", "code", "told"),
    [
        (ONPREM, Outcome.FAILED, 470, 470),
        (ONPREM, Outcome.FAILED, None, 500),
        (ONPREM, Outcome.EXPIRED, None, 410),
        (ONPREM, Outcome.CANCELLED, None, 410),
        (CLOUD, Outcome.FAILED, 131047, 131047),
        (CLOUD, Outcome.FAILED, None, 131000),
        (CLOUD, Outcome.EXPIRED, None, 131000),
    ],
)
def test_where_the_node_named_no_code_it_has_one_of_the_dialect(
    dialect: Dialect, outcome: Outcome, code: int | None, told: int
) -> None:
    status = status_in(dialect.failed_status(unsent(outcome, code)))
    assert status["errors"][0]["code"] == told
    assert status["gateway"]["outcome"] == outcome.label


# -- the change


class Rig:
    """A settler on a store in memory, and who tells of what it settles."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.sends = send_backlog(self.store, self.clock)
        self.events = inbound_backlog(self.store, self.clock)
        self.books = Books()
        self.settler = Settler(self.store, self.sends, self.books, self.clock)
        self.ended = EndedSends(ONPREM, self.store, self.events, self.books, self.clock)
        self.settler.ended = self.ended

    async def taken(self, mask: ReceiptMask = ReceiptMask.ALL) -> SendRecord:
        """A send that was accepted and taken from the queue."""
        record = send(self.store.next_seq())
        record.mask = mask
        books = accepted_entries([(Kind.SEND, 1)])
        await self.store.submit(Change(sends=[record], books=books))
        self.books.apply(books)
        self.sends.push(record)
        assert self.sends.take() is record
        return record

    def difference(self) -> int:
        return self.books.difference(
            {**self.sends.waiting(), Kind.FAILED: self.events.waiting().get(Kind.FAILED, 0)}
        )

    def told(self) -> list[dict[str, Any]]:
        """What the event webhook is told, as it stands on disk."""
        records = sorted(self.store.disk.inbound.values(), key=lambda record: record.seq)
        return [status_in(record.body) for record in records]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.EXPIRED, Outcome.CANCELLED])
async def test_a_send_that_ends_is_told_with_its_outcome_and_the_books_hold(outcome: Outcome) -> None:
    rig = Rig()
    record = await rig.taken()
    assert await rig.settler.settle(record, outcome, reason="HTTP 400 (1013): no", code=1013)
    (status,) = rig.told()
    assert status["id"] == record.id
    assert status["gateway"] == {"id": record.id, "outcome": outcome.label, "reason": "HTTP 400 (1013): no"}
    assert rig.books.accepted[Kind.FAILED] == rig.store.disk.books[Kind.FAILED, None] == 1
    assert rig.books.outcomes[Kind.SEND, outcome] == 1
    assert rig.difference() == 0
    told = rig.events.take()
    assert told is not None
    assert (told.cls, told.received_ms) == (InboundClass.FAILURE, rig.clock.wall_ms())
    assert rig.ended.told[outcome] == 1


async def test_a_send_that_was_sent_is_not_told() -> None:
    """Its receipts tell it."""
    rig = Rig()
    assert await rig.settler.settle(await rig.taken(), Outcome.DELIVERED, node_id="gBGG1")
    assert rig.told() == []
    assert rig.difference() == 0


@pytest.mark.parametrize("mask", list(ReceiptMask))
async def test_whoever_wants_no_receipts_at_all_is_not_told(mask: ReceiptMask) -> None:
    rig = Rig()
    assert await rig.settler.settle(await rig.taken(mask), Outcome.FAILED, reason="no")
    assert len(rig.told()) == (mask is not ReceiptMask.NONE)
    assert rig.difference() == 0


async def test_with_nobody_to_tell_the_send_ends_all_the_same() -> None:
    rig = Rig()
    rig.settler.ended = None
    assert await rig.settler.settle(await rig.taken(), Outcome.FAILED, reason="no")
    assert (rig.told(), rig.books.accepted[Kind.FAILED]) == ([], 0)


async def test_end_and_status_are_on_disk_together_or_not_at_all() -> None:
    rig = Rig()
    record = await rig.taken()
    submitted: list[Change] = []
    submit = rig.store.submit

    def watch(change: Change) -> Any:
        submitted.append(change)
        return submit(change)

    rig.store.submit = watch  # type: ignore[method-assign]
    rig.store.fail(StoreError("no room"))
    assert not await rig.settler.settle(record, Outcome.FAILED, reason="no")
    (change,) = submitted
    assert (len(change.settled), len(change.inbound)) == (1, 1)
    await turns()
    assert (rig.told(), rig.events.total(), rig.sends.taken()) == ([], 0, 1)
    assert rig.difference() == 0


async def test_many_ends_in_one_change_are_told_in_order() -> None:
    rig = Rig()
    records = [await rig.taken() for _ in range(5)]
    change = Change()
    for record in records:
        rig.settler.add(change, record, Outcome.CANCELLED, reason="by whoever sent it")
    await rig.store.submit(change)
    assert [status["id"] for status in rig.told()] == [record.id for record in records]
    assert rig.difference() == 0


async def test_who_settles_a_send_that_was_not_taken_says_how_it_leaves_the_queue() -> None:
    rig = Rig()
    record = await rig.taken()
    left: list[SendRecord] = []
    await rig.store.submit(
        rig.settler.add(Change(), record, Outcome.EXPIRED, reason="old", let_go=left.append)
    )
    assert left == [record]
    assert rig.sends.taken() == 1


async def test_the_ledger_learns_of_a_named_send_in_the_same_change() -> None:
    rig = Rig()
    rig.settler.on_named = lambda record, node_id: f"{record.id}={node_id};".encode()
    record = await rig.taken()
    change = rig.settler.add(Change(ledger_items=b"before;"), record, Outcome.DELIVERED, node_id="gBGG1")
    assert change.ledger_items == f"before;{record.id}=gBGG1;".encode()

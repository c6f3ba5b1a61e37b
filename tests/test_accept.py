"""The push API's door: who may push, what is refused and how, and that 202 means stored."""

import asyncio
import json

import pytest
from builders import CONTACT, push_body, send, settled, turns
from push_rig import STORE_MAX, PushRig, error_of

from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.errors import StoreError
from gateway.events import Kind, Outcome, SendClass
from gateway.outbound.accept import PUSHES_FULL
from gateway.store.protocol import Change

both = pytest.mark.parametrize("dialect", [OnPrem(), Cloud()], ids=lambda dialect: dialect.name)


# -- who may push


@pytest.mark.parametrize("header", ["Bearer one", "Bearer two", "bearer one", "BEARER  one "])
def test_a_token_of_ours_may_push(header: str) -> None:
    assert PushRig().door.authorise(header) is None


@both
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "one",
        "Basic one",
        "Bearer on",
        "Bearer onee",
        "Bearer \udcff",
        "Bearer one two",
    ],
)
def test_anyone_else_is_denied_in_the_shape_of_the_dialect(dialect: Dialect, header: str | None) -> None:
    rig = PushRig(dialect)
    refusal = rig.door.authorise(header)
    assert refusal is not None
    assert error_of(refusal, dialect)[:2] == (401, dialect.codes.denied)
    assert rig.refusals.counts == {"denied": 1}


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer x"])
def test_without_tokens_the_door_is_closed_and_says_why(header: str | None) -> None:
    refusal = PushRig(tokens=()).door.authorise(header)
    assert refusal is not None
    assert refusal.status == 401
    assert b"GATEWAY_PUSH_TOKENS" in refusal.body


# -- accepting


@both
async def test_answers_202_only_once_the_send_is_stored(dialect: Dialect) -> None:
    rig = PushRig(dialect, holds_commits=True)
    pushing = asyncio.create_task(rig.push())
    await turns()
    assert not pushing.done()
    assert rig.queue.total() == 0
    rig.store.commit()
    answer = await pushing
    assert answer.status == 202
    assert json.loads(answer.body)["messages"] == [{"id": rig.store.send_id(1)}]
    assert rig.queue.total() == 1
    assert sorted(rig.store.disk.sends) == [1]
    assert rig.books.difference(rig.queue.waiting()) == 0


async def test_a_send_is_what_was_pushed() -> None:
    rig = PushRig()
    body = push_body("15550100999-1690000000", recipient_type="group")
    await rig.push(body)
    record = rig.queue.take()
    assert record is not None
    assert (record.to, record.is_group, record.body, record.cls) == (
        "15550100999-1690000000", True, body, SendClass.NORMAL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "cls"),
    [
        (None, SendClass.NORMAL),
        ("reply", SendClass.REPLY),
        ("high", SendClass.HIGH),
        ("normal", SendClass.NORMAL),
        ("bulk", SendClass.BULK),
        (" Bulk ", SendClass.BULK),
    ],
)
async def test_the_priority_header_names_the_class(header: str | None, cls: SendClass) -> None:
    rig = PushRig()
    await rig.push(priority=header)
    record = rig.queue.take()
    assert record is not None
    assert record.cls is cls


@both
@pytest.mark.parametrize("header", ["", "urgent", "reply,high", "0", "\udcff", "REPLY\x00"])
async def test_an_unknown_priority_is_refused_with_the_ones_there_are(dialect: Dialect, header: str) -> None:
    """A header may carry any byte, and the refusal must still be JSON."""
    rig = PushRig(dialect)
    status, code, details = error_of(await rig.push(priority=header), dialect)
    assert (status, code) == (400, dialect.codes.invalid)
    assert "reply, high, normal, bulk" in details
    assert rig.queue.total() == 0


@both
async def test_a_wrong_request_is_refused(dialect: Dialect) -> None:
    rig = PushRig(dialect)
    assert error_of(await rig.push(b"{}"), dialect)[:2] == (400, dialect.codes.missing)
    assert error_of(await rig.push(b"no"), dialect)[:2] == (400, dialect.codes.invalid)
    assert rig.refusals.counts == {"invalid": 2}
    assert rig.store.disk.sends == {}


@both
async def test_a_large_body_is_refused_with_the_limit(dialect: Dialect) -> None:
    refusals = PushRig(dialect).refusals
    status, code, details = error_of(refusals.answer(refusals.large(123)), dialect)
    assert (status, code) == (413, dialect.codes.invalid)
    assert "123 bytes" in details


# -- full


@both
async def test_a_full_queue_is_refused_with_a_time_to_come_back(dialect: Dialect) -> None:
    rig = PushRig(dialect, queue_max=2)
    assert [(await rig.push()).status for _ in range(2)] == [202, 202]
    answer = await rig.push()
    assert error_of(answer, dialect)[:2] == (429, dialect.codes.busy)
    assert int(answer.headers["Retry-After"]) >= 1
    assert rig.refusals.counts == {"full": 1}


async def test_sends_on_their_way_to_the_disk_count_as_waiting() -> None:
    rig = PushRig(queue_max=2, holds_commits=True)
    tasks = [asyncio.create_task(rig.push()) for _ in range(3)]
    await turns()
    rig.store.commit()
    assert sorted([(await task).status for task in tasks]) == [202, 202, 429]


async def test_sends_under_way_and_delayed_count_as_waiting() -> None:
    rig = PushRig(queue_max=2)
    await rig.push()
    await rig.push()
    taken, delayed = rig.queue.take(), rig.queue.take()
    assert taken is not None
    assert delayed is not None
    rig.queue.defer(delayed, 10**18)
    assert (await rig.push()).status == 429
    rig.queue.settle(taken)
    assert (await rig.push()).status == 202


async def test_a_full_store_is_refused() -> None:
    rig = PushRig()
    # The last quarter of the store belongs to what comes in.
    rig.store.fixed_used_bytes = int(STORE_MAX * PUSHES_FULL)
    answer = await rig.push()
    assert answer.status == 429
    assert b"store is full" in answer.body
    rig.store.fixed_used_bytes -= 1
    assert (await rig.push()).status == 202


@both
async def test_a_failed_store_is_answered_503(dialect: Dialect) -> None:
    rig = PushRig(dialect, holds_commits=True)
    pushing = asyncio.create_task(rig.push())
    await turns()
    rig.store.fail(StoreError("the disk is ill"))
    answer = await pushing
    assert error_of(answer, dialect)[:2] == (503, dialect.codes.busy)
    assert "Retry-After" in answer.headers
    assert rig.queue.total() == 0
    assert rig.books.accepted[Kind.SEND] == 0


async def test_after_a_refusal_there_is_room_again() -> None:
    """What failed to enter is not counted as entering for ever."""
    rig = PushRig(queue_max=1, holds_commits=True)
    pushing = asyncio.create_task(rig.push())
    await turns()
    pushing.cancel()
    await turns()
    assert pushing.cancelled()
    assert rig.acceptor.full() is None


# -- asking


async def test_tells_what_became_of_a_send() -> None:
    rig = PushRig()
    pushed = json.loads((await rig.push(priority="high")).body)["messages"][0]["id"]
    answer = await rig.queries.find(pushed)
    assert answer.status == 200
    found = json.loads(answer.body)
    assert (found["id"], found["state"], found["class"], found["to"]) == (pushed, "queued", "high", CONTACT)
    assert (found["node_id"], found["reason"], found["settled_ms"]) == (None, None, None)
    record = rig.queue.take()
    assert record is not None
    record.attempts = 1
    await rig.store.submit(Change(settled=[settled(record, Outcome.FAILED)]))
    found = json.loads((await rig.queries.find(pushed)).body)
    assert (found["state"], found["attempts"], found["is_uncertain"]) == ("failed", 1, False)


@both
@pytest.mark.parametrize("send_id", ["gw-0badcafe-9", "", "'; DROP TABLE", "\udcff"])
async def test_an_unknown_send_is_not_found(dialect: Dialect, send_id: str) -> None:
    rig = PushRig(dialect)
    await rig.store.submit(Change(sends=[send(1)]))
    assert error_of(await rig.queries.find(send_id), dialect)[:2] == (404, dialect.codes.not_found)


async def test_sends_added_to_a_change_enter_the_queue_and_the_books_with_it() -> None:
    rig = PushRig(holds_commits=True)
    records = [send(seq, SendClass.REPLY) for seq in (1, 2)]
    change = rig.acceptor.add(Change(), records)
    future = rig.store.submit(change)
    assert rig.queue.total() == 0
    rig.store.commit()
    await future
    assert rig.queue.waiting() == {Kind.SEND: 2}
    assert rig.books.difference(rig.queue.waiting()) == 0
    assert rig.store.disk.books[Kind.SEND, None] == 2

"""The push API's door: who may push, what is refused and how, and that 202 means stored."""

import asyncio
import json
from typing import Any

import pytest
from builders import CONTACT, MemoryStore, push_body, send, send_backlog, settled, turns

from gateway.clock import FakeClock
from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.errors import StoreError
from gateway.events import Kind, Outcome, SendClass
from gateway.outbound.accept import PUSHES_FULL, Acceptor, PushAnswer
from gateway.outbound.front import Front
from gateway.outbound.options import PRIORITY
from gateway.store.backlog import ALL_CLASSES
from gateway.store.books import Books
from gateway.store.protocol import Change

STORE_MAX = 1_000_000
both = pytest.mark.parametrize("dialect", [OnPrem(), Cloud()], ids=lambda dialect: dialect.name)


class Rig:
    """An acceptor on a store in memory."""

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        queue_max: int = 10,
        tokens: tuple[str, ...] = ("one", "two"),
        holds_commits: bool = False,
        slots: int = 64,
    ) -> None:
        self.clock = clock = FakeClock()
        self.dialect = dialect or OnPrem()
        self.store = MemoryStore(clock, holds_commits=holds_commits)
        self.queue = send_backlog(self.store, clock, slots)
        self.books = Books()
        self.acceptor = Acceptor(
            self.store, STORE_MAX, self.queue, queue_max, tokens, self.dialect, self.books, clock
        )

    async def push(self, body: bytes | None = None, priority: str | None = None) -> PushAnswer:
        headers = {} if priority is None else {PRIORITY: priority}
        return await self.acceptor.accept(push_body() if body is None else body, headers)


def error_of(answer: PushAnswer, dialect: Dialect) -> tuple[int, int, str]:
    """HTTP status, code and details of a refusal, read from the dialect's own shape."""
    parsed: dict[str, Any] = json.loads(answer.body)
    if dialect.name == "cloud":
        error = parsed["error"]
        return answer.status, error["code"], error["error_data"]["details"]
    (error,) = parsed["errors"]
    return answer.status, error["code"], error["details"]


# -- who may push


@pytest.mark.parametrize("header", ["Bearer one", "Bearer two", "bearer one", "BEARER  one "])
def test_a_token_of_ours_may_push(header: str) -> None:
    assert Rig().acceptor.authorise(header) is None


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
    rig = Rig(dialect)
    refusal = rig.acceptor.authorise(header)
    assert refusal is not None
    assert error_of(refusal, dialect)[:2] == (401, dialect.codes.denied)
    assert rig.acceptor.refused == {"denied": 1}


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer x"])
def test_without_tokens_the_door_is_closed_and_says_why(header: str | None) -> None:
    refusal = Rig(tokens=()).acceptor.authorise(header)
    assert refusal is not None
    assert refusal.status == 401
    assert b"GATEWAY_PUSH_TOKENS" in refusal.body


# -- accepting


@both
async def test_answers_202_only_once_the_send_is_stored(dialect: Dialect) -> None:
    rig = Rig(dialect, holds_commits=True)
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
    rig = Rig()
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
    rig = Rig()
    await rig.push(priority=header)
    record = rig.queue.take()
    assert record is not None
    assert record.cls is cls


@both
@pytest.mark.parametrize("header", ["", "urgent", "reply,high", "0", "\udcff", "REPLY\x00"])
async def test_an_unknown_priority_is_refused_with_the_ones_there_are(dialect: Dialect, header: str) -> None:
    """A header may carry any byte, and the refusal must still be JSON."""
    rig = Rig(dialect)
    status, code, details = error_of(await rig.push(priority=header), dialect)
    assert (status, code) == (400, dialect.codes.invalid)
    assert "reply, high, normal, bulk" in details
    assert rig.queue.total() == 0


@both
async def test_a_wrong_request_is_refused(dialect: Dialect) -> None:
    rig = Rig(dialect)
    assert error_of(await rig.push(b"{}"), dialect)[:2] == (400, dialect.codes.missing)
    assert error_of(await rig.push(b"no"), dialect)[:2] == (400, dialect.codes.invalid)
    assert rig.acceptor.refused == {"invalid": 2}
    assert rig.store.disk.sends == {}


@both
async def test_a_large_body_is_refused_with_the_limit(dialect: Dialect) -> None:
    status, code, details = error_of(Rig(dialect).acceptor.refuse_large(123), dialect)
    assert (status, code) == (413, dialect.codes.invalid)
    assert "123 bytes" in details


# -- full


@both
async def test_a_full_queue_is_refused_with_a_time_to_come_back(dialect: Dialect) -> None:
    rig = Rig(dialect, queue_max=2)
    assert [(await rig.push()).status for _ in range(2)] == [202, 202]
    answer = await rig.push()
    assert error_of(answer, dialect)[:2] == (429, dialect.codes.busy)
    assert int(answer.headers["Retry-After"]) >= 1
    assert rig.acceptor.refused == {"full": 1}


async def test_sends_on_their_way_to_the_disk_count_as_waiting() -> None:
    rig = Rig(queue_max=2, holds_commits=True)
    tasks = [asyncio.create_task(rig.push()) for _ in range(3)]
    await turns()
    rig.store.commit()
    assert sorted([(await task).status for task in tasks]) == [202, 202, 429]


async def test_sends_under_way_and_delayed_count_as_waiting() -> None:
    rig = Rig(queue_max=2)
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
    rig = Rig()
    # The last quarter of the store belongs to what comes in.
    rig.store.fixed_used_bytes = int(STORE_MAX * PUSHES_FULL)
    answer = await rig.push()
    assert answer.status == 429
    assert b"store is full" in answer.body
    rig.store.fixed_used_bytes -= 1
    assert (await rig.push()).status == 202


@both
async def test_a_failed_store_is_answered_503(dialect: Dialect) -> None:
    rig = Rig(dialect, holds_commits=True)
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
    rig = Rig(queue_max=1, holds_commits=True)
    pushing = asyncio.create_task(rig.push())
    await turns()
    pushing.cancel()
    await turns()
    assert pushing.cancelled()
    assert rig.acceptor._full() is None


# -- asking


async def test_tells_what_became_of_a_send() -> None:
    rig = Rig()
    pushed = json.loads((await rig.push(priority="high")).body)["messages"][0]["id"]
    answer = await rig.acceptor.find(pushed)
    assert answer.status == 200
    found = json.loads(answer.body)
    assert (found["id"], found["state"], found["class"], found["to"]) == (pushed, "queued", "high", CONTACT)
    assert (found["node_id"], found["reason"], found["settled_ms"]) == (None, None, None)
    record = rig.queue.take()
    assert record is not None
    record.attempts = 1
    await rig.store.submit(Change(settled=[settled(record, Outcome.FAILED)]))
    found = json.loads((await rig.acceptor.find(pushed)).body)
    assert (found["state"], found["attempts"], found["is_uncertain"]) == ("failed", 1, False)


@both
@pytest.mark.parametrize("send_id", ["gw-0badcafe-9", "", "'; DROP TABLE", "\udcff"])
async def test_an_unknown_send_is_not_found(dialect: Dialect, send_id: str) -> None:
    rig = Rig(dialect)
    await rig.store.submit(Change(sends=[send(1)]))
    assert error_of(await rig.acceptor.find(send_id), dialect)[:2] == (404, dialect.codes.not_found)


async def test_sends_added_to_a_change_enter_the_queue_and_the_books_with_it() -> None:
    rig = Rig(holds_commits=True)
    records = [send(seq, SendClass.REPLY) for seq in (1, 2)]
    change = rig.acceptor.add(Change(), records)
    future = rig.store.submit(change)
    assert rig.queue.total() == 0
    rig.store.commit()
    await future
    assert rig.queue.waiting() == {Kind.SEND: 2}
    assert rig.books.difference(rig.queue.waiting()) == 0
    assert rig.store.disk.books[Kind.SEND, None] == 2


# -- another class


async def bulk_ids(rig: Rig, count: int) -> list[str]:
    answers = [await rig.push(priority="bulk") for _ in range(count)]
    return [json.loads(answer.body)["messages"][0]["id"] for answer in answers]


@pytest.mark.parametrize("which", [0, 3, 9])
async def test_a_waiting_send_can_be_given_another_class_wherever_it_waits(which: int) -> None:
    """In memory (the first ones) and on disk behind them: it goes before what stayed in its class."""
    rig = Rig(queue_max=100, slots=4)
    ids = await bulk_ids(rig, 10)
    answer = await rig.acceptor.reclass(ids[which], "high")
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
    rig = Rig()
    (send_id,) = await bulk_ids(rig, 1)
    record = rig.queue.take()
    assert record is not None
    record.attempts = 3
    due_ns = rig.clock.now_ns() + 1000
    rig.queue.defer(record, due_ns)
    assert (await rig.acceptor.reclass(send_id, "reply")).status == 200
    assert rig.queue.take() is None, "its retry is not due yet"
    rig.clock.advance_ns(1000)
    moved = rig.queue.take()
    assert moved is not None
    assert (moved.cls, moved.attempts) == (SendClass.REPLY, 3)


async def test_a_send_that_is_under_way_or_has_ended_keeps_its_class() -> None:
    rig = Rig()
    (send_id,) = await bulk_ids(rig, 1)
    record = rig.queue.take()
    assert record is not None
    assert (await rig.acceptor.reclass(send_id, "high")).status == 409
    rig.queue.settle(record)
    await rig.store.submit(Change(settled=[settled(record)]))
    assert (await rig.acceptor.reclass(send_id, "high")).status == 409


async def test_a_send_that_was_looked_at_and_not_sent_can_be_given_another_class() -> None:
    rig = Rig()
    front = Front(rig.queue)
    rig.acceptor.release = front.release
    (send_id,) = await bulk_ids(rig, 1)
    assert front.look(ALL_CLASSES, rig.clock.now_ns()).ready == 1 << SendClass.BULK
    assert rig.queue.taken() == 1
    assert (await rig.acceptor.reclass(send_id, "high")).status == 200
    assert front.look(ALL_CLASSES, rig.clock.now_ns()).ready == 1 << SendClass.HIGH
    record = front.take(SendClass.HIGH, rig.clock.now_ns())
    assert (record.id, record.cls) == (send_id, SendClass.HIGH)
    assert (await rig.acceptor.reclass(send_id, "normal")).status == 409, "now it is under way"


async def test_changes_of_one_send_at_once_are_made_one_after_the_other() -> None:
    rig = Rig()
    (send_id,) = await bulk_ids(rig, 1)
    answers = await asyncio.gather(
        *(rig.acceptor.reclass(send_id, cls) for cls in ("high", "reply", "normal"))
    )
    assert [answer.status for answer in answers] == [200] * 3
    record = rig.queue.take()
    assert record is not None
    assert record.cls is SendClass.NORMAL


async def test_a_class_that_is_none_and_a_send_that_is_none_are_refused() -> None:
    rig = Rig()
    (send_id,) = await bulk_ids(rig, 1)
    assert (await rig.acceptor.reclass(send_id, "urgent")).status == 400
    assert (await rig.acceptor.reclass(send_id, None)).status == 400
    assert (await rig.acceptor.reclass("gw-00000000-1", "high")).status == 404
    assert (await rig.acceptor.reclass(send_id, "bulk")).status == 200, "the class it has"


async def test_a_send_moved_into_a_class_that_waits_on_disk_goes_once_and_strands_none() -> None:
    """Its row lies among those that pages of its new class still have to read."""
    rig = Rig(queue_max=100, slots=4)
    bulk = await bulk_ids(rig, 6)
    answer = await rig.push(priority="normal")
    moved = json.loads(answer.body)["messages"][0]["id"]
    bulk += await bulk_ids(rig, 4)
    assert (await rig.acceptor.reclass(moved, "bulk")).status == 200
    refilling = asyncio.create_task(rig.queue.refill())
    taken = []
    while rig.queue.total() > rig.queue.taken():
        taken.append((await rig.queue.get()).id)
        await turns()
    refilling.cancel()
    assert taken == [moved, *bulk]
    assert rig.queue.on_disk(SendClass.BULK) == 0


async def test_a_class_without_room_takes_no_other_sends() -> None:
    rig = Rig(queue_max=200)
    ids = await bulk_ids(rig, 66)
    answers = [(await rig.acceptor.reclass(send_id, "high")).status for send_id in ids]
    assert answers == [200] * 64 + [429] * 2

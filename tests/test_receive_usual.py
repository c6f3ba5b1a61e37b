"""The native step for usual webhooks does what the complete path does, event for event, whatever comes in whatever state."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from builders import CONTACT, GROUP, AskedBackend, cloud_body, message, onprem_body, status
from hypothesis import given
from hypothesis import strategies as st
from receive_rig import STORE_MAX, Rig

from gateway._fast.breaker import Breaker
from gateway._fast.intake import Batch
from gateway._fast.ledger import ReceiptLedger
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.config import ReceiptPolicy
from gateway.dialects.webhook import Webhook, decode
from gateway.errors import StoreError
from gateway.events import Kind, ReceiptMask
from gateway.inbound import receive
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Singles
from gateway.inbound.receive import Reception
from gateway.overload.ladder import Policies
from gateway.store.room import LOW_BYTES

IDS = ["gBGG1", "gBGG2", "gBGG3"]
NAMES = ["sent", "delivered", "read", "played", "failed", "deleted"]

messages = st.builds(message, st.sampled_from(IDS), st.sampled_from([CONTACT, "15550100222"]))
messages |= st.just(message("gBGG4", group_id=GROUP)) | st.just(message(None))
statuses = st.builds(
    status, st.sampled_from(IDS), st.sampled_from(NAMES), st.sampled_from([CONTACT, "15550100222"])
)
statuses |= statuses.map(
    lambda one: {**one, "recipient_participant_id": "15550100333", "recipient_type": "group"}
)
events = st.tuples(st.lists(messages, max_size=2), st.lists(statuses, max_size=2)) | st.one_of(
    messages.map(lambda one: ([one], [])), statuses.map(lambda one: ([], [one]))
)
bodies = (
    events.map(lambda both: onprem_body(*both))
    | events.map(lambda both: cloud_body({"messages": both[0]} if both[0] else {"statuses": both[1]}))
    | st.sampled_from(
        [b"{}", b"[1]", b"no json", onprem_body([message()], contacts=[{"profile": {"name": "é"}}])]
    )
)
steps = st.one_of(
    *[st.tuples(st.just("webhooks"), st.lists(bodies, min_size=1, max_size=6))] * 6,
    st.tuples(st.just("commit"), st.none()),
    st.tuples(st.just("advance"), st.integers(0, 3 * 10**9)),
    st.tuples(st.just("pressure"), st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.6, 0.9, 0.96, 1.0])),
    st.tuples(st.just("mask"), st.tuples(st.sampled_from(IDS), st.sampled_from(ReceiptMask))),
    st.tuples(st.just("used"), st.sampled_from([4096, int(STORE_MAX * 0.96), STORE_MAX])),
    st.tuples(st.just("fail"), st.none()),
)
policies: st.SearchStrategy[ReceiptPolicy] = st.sampled_from(["forward", "forward", "batch", "fold", "drop"])


class Side:
    """A receiver, and what it has answered."""

    def __init__(self, policy: Policies, dry_run: frozenset[str], *, is_native: bool) -> None:
        self.rig = rig = Rig(holds_commits=True, seen_max=16, policies=policy, dry_run=dry_run)
        self.answers: list[list[tuple[int, str]]] = []
        if not is_native:
            rig.receiver.take = lambda body, answer: rig.receiver._take(body, answer, rig.clock.now_ns())

    def do(self, what: str, argument: Any) -> None:
        rig = self.rig
        if what == "webhooks":
            for body in argument:
                self.take(body)
            return
        rig.store._make()  # the turn of the loop is over
        if what == "commit":
            rig.store.commit()
        elif what == "advance":
            rig.clock.advance_ns(argument)
        elif what == "pressure":
            rig.ladder.update(argument, rig.clock.now_ns())
        elif what == "mask":
            rig.receipts.want(*argument)
        elif what == "used":
            rig.store.fixed_used_bytes = argument
        else:
            rig.store.fail(StoreError("the disk is gone"))

    def take(self, body: bytes) -> None:
        answered: list[tuple[int, str]] = []
        self.answers.append(answered)
        self.rig.receiver.take(body, lambda got: answered.append((got.status, got.reason)))

    def found(self) -> tuple[Any, ...]:
        """All that can be seen of it from outside."""
        rig, receiver, disk = self.rig, self.rig.receiver, self.rig.store.disk
        queues = [
            (queue.total(), queue.waiting(), queue.memory_bytes) for queue in (rig.messages, rig.events)
        ]
        counts = (
            receiver.pending,
            receiver.duplicates,
            receiver.refused,
            receiver.not_json,
            receiver.unrecognised,
        )
        stored = (disk.inbound, disk.seen, +disk.books, disk.ledger_items)
        ledger = [rig.receipts.look(of, rig.clock.wall_ms()) for of in IDS]
        dropped = (rig.gatekeeper.dropped, rig.gatekeeper.would_have)
        accepted = (rig.books.accepted, rig.books.outcomes)
        return self.answers, rig.charged, rig.told, counts, stored, queues, ledger, dropped, accepted


@given(
    sequence=st.lists(steps, max_size=30),
    sent=policies,
    delivered=policies,
    read=policies,
    group=policies,
    dry_run=st.sets(st.sampled_from(["batch", "fold", "digest", "shed", "refuse"]), max_size=2),
)
async def test_both_ways_lead_to_the_same(
    sequence: Sequence[tuple[str, Any]],
    sent: ReceiptPolicy,
    delivered: ReceiptPolicy,
    read: ReceiptPolicy,
    group: ReceiptPolicy,
    dry_run: set[str],
) -> None:
    policy = Policies(sent=sent, delivered=delivered, read=read, group=group)
    native, complete = (Side(policy, frozenset(dry_run), is_native=is_native) for is_native in (True, False))
    for step in [*sequence, ("commit", None)]:
        native.do(*step)
        complete.do(*step)
        if step[0] != "webhooks":
            assert native.found() == complete.found()


async def test_what_is_usual_takes_the_native_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    unusual: list[bytes] = []

    def noted(body: bytes) -> Webhook:
        unusual.append(body)
        return decode(body)

    monkeypatch.setattr(receive, "decode", noted)
    usual = [
        onprem_body([message("gBGG1")]),
        *(onprem_body(statuses=[status("gBGG2", name)]) for name in NAMES[:5]),
    ]
    for body in usual:
        assert await rig.receive(body) == 200
    assert unusual == []
    assert await rig.receive(usual[0]) == 200
    assert await rig.receive(onprem_body([message("gBGG5"), message("gBGG6")])) == 200
    assert len(unusual) == 2
    rig.receipts.want("gBGG2", ReceiptMask.READ)
    assert await rig.receive(onprem_body(statuses=[status("gBGG2", "read", "15550100222")])) == 200
    assert len(unusual) == 3, "its message has a mask"
    rig.assert_books_balance()


async def test_after_a_refusal_all_but_what_was_refused_takes_the_native_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    rig.store.fixed_used_bytes = STORE_MAX
    assert await rig.receive(onprem_body([message("gBGG1")])) == 503
    rig.store.fixed_used_bytes = None
    unusual: list[bytes] = []

    def noted(body: bytes) -> Webhook:
        unusual.append(body)
        return decode(body)

    monkeypatch.setattr(receive, "decode", noted)
    assert await rig.receive(onprem_body([message("gBGG2")])) == 200
    assert (len(unusual), len(rig.charged)) == (0, 2)
    assert await rig.receive(onprem_body([message("gBGG1")])) == 200
    assert (len(unusual), len(rig.charged)) == (1, 2), "it was charged when it was refused"


async def test_webhooks_of_one_turn_are_one_change() -> None:
    rig = Rig(holds_commits=True)
    got: list[Reception] = []
    for number in range(7):
        rig.receiver.take(onprem_body([message(f"gBGG{number}")]), got.append)
    rig.store._make()
    assert [change.size for change in rig.store._submitted] == [7]
    assert (rig.receiver.pending, got) == (7, [])
    rig.store.commit()
    assert (rig.receiver.pending, [reception.status for reception in got]) == (0, [200] * 7)
    assert [rig.messages.take() is not None for _ in range(8)] == [True] * 7 + [False]
    assert +rig.store.disk.books == {(Kind.MESSAGE, None): 7}


async def test_each_webhook_of_a_batch_is_answered_once_whatever_an_answer_does() -> None:
    rig = Rig(holds_commits=True)
    got: list[tuple[int, int]] = []

    def take(number: int, *, is_ill: bool) -> None:
        def answer(reception: Reception) -> None:
            got.append((number, reception.status))
            if is_ill:
                raise ValueError(number)

        rig.receiver.take(onprem_body([message(f"gBGG{number}")]), answer)

    for number in range(4):
        take(number, is_ill=number == 1)
    rig.store._make()
    (change,) = rig.store._submitted
    with pytest.raises(ValueError, match="1"):
        rig.store.commit()
    for tell in change.on_failure:  # as the store does
        tell(StoreError("a part failed"))
    assert got == [(0, 200), (1, 200), (2, 503), (3, 503)]
    assert rig.receiver.pending == 0

    got.clear()
    for number in range(4, 8):
        take(number, is_ill=number == 5)
    with pytest.raises(ValueError, match="5"):
        rig.store.fail()
    assert got == [(number, 503) for number in range(4, 8)]
    assert rig.receiver.pending == 0


async def test_a_receipt_of_this_turn_is_no_old_one() -> None:
    """What is too old is forgotten and put on disk between its coming and its change."""
    rig = Rig(holds_commits=True)
    rig.receiver.take(onprem_body(statuses=[status("gBGG1", "sent")]), lambda _: None)
    rig.store.commit()
    rig.clock.advance_ns(2 * 3_600 * 10**9)
    rig.receiver.take(onprem_body(statuses=[status("gBGG2", "sent")]), lambda _: None)
    rig.receipts.forget(rig.clock.wall_ms())
    checkpoint = rig.receipts.checkpoint()
    assert checkpoint is not None
    rig.store.put(checkpoint)
    rig.store.commit()
    assert rig.receipts.look("gBGG2", rig.clock.wall_ms()) is not None
    assert checkpoint.ledger_pages, "which have it"
    assert rig.store.disk.ledger_items == b""


@pytest.mark.parametrize("events", [1, 2])
async def test_what_is_remembered_goes_to_the_disk_also_when_a_part_fails(
    events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its repetition would be answered 200, and nothing would have it."""
    rig = Rig()
    body = onprem_body(statuses=[status(of, "read") for of in IDS[:events]])
    with monkeypatch.context() as broken:
        broken.setattr(rig, "told", None)
        with pytest.raises(AttributeError):
            await rig.receive(body)
    assert await rig.receive(body) == 200
    assert +rig.store.disk.books == {(Kind.READ, None): events}
    assert rig.events.waiting()[Kind.READ] == events
    assert rig.receiver.pending == 0


async def test_a_batch_has_waited_since_its_last_webhook_came() -> None:
    """The least wait: what came with the first one is no standing queue."""
    rig = Rig(holds_commits=True)
    for number in range(3):
        rig.receiver.take(onprem_body([message(f"gBGG{number}")]), lambda _: None)
        rig.clock.advance_ns(2_000_000)
    rig.store.commit()
    assert rig.receiver.waits.take(lambda: -1.0) == 2.0


def test_a_batch_that_nobody_filled_raises() -> None:
    """The collector may leave one like that."""
    with pytest.raises((AttributeError, TypeError)):
        Batch().failed(StoreError("gone"))
    with pytest.raises((AttributeError, TypeError)):
        Batch().stored()


async def test_a_receipt_is_logged_as_it_can_be_read_back_whatever_the_clock_says() -> None:
    rig = Rig(wall_ms=0)
    assert await rig.receive(onprem_body(statuses=[status("gBGG1", "sent")])) == 200
    assert ReceiptLedger(10).apply_log(rig.store.disk.ledger_items) == 1


async def test_each_of_a_batch_is_remembered() -> None:
    rig = Rig(holds_commits=True)
    got: list[int] = []
    for _ in range(2):
        for number in range(3):
            rig.receiver.take(
                onprem_body([message(f"gBGG{number}")]), lambda reception: got.append(reception.status)
            )
    assert got == [], "the first copies are not on disk"
    rig.store.commit()
    assert (got, len(rig.store.disk.inbound), len(rig.charged)) == ([200] * 6, 3, 3)
    assert rig.receiver.duplicates[Kind.MESSAGE] == 3


async def test_a_usual_receipt_is_refused_where_the_disk_has_little_left() -> None:
    rig = Rig()
    rig.receiver.free_bytes = lambda: LOW_BYTES - 1
    assert await rig.receive(onprem_body(statuses=[status("gBGG1", "read")])) == 503
    assert rig.receiver.refused == {"store_nearly_full": 1}
    assert await rig.receive(onprem_body([message("gBGG1")])) == 200


async def test_an_unusual_webhook_tells_its_wait_too() -> None:
    rig = Rig(holds_commits=True)
    rig.receiver.take(onprem_body([message("gBGG1"), message("gBGG2")]), lambda _: None)
    rig.clock.advance_ns(3_000_000)
    rig.store.commit()
    assert rig.receiver.waits.take(lambda: -1.0) == 3.0


async def test_what_is_stored_is_started_at_once() -> None:
    """By the queue's courier, in the turn in which the node is answered; nobody else is woken for it."""
    rig = Rig()
    posted: list[bytes] = []

    class Noted(AskedBackend):
        async def post(self, body: bytes, _headers: Mapping[str, str]) -> BackendAnswer:
            posted.append(body)
            return BackendAnswer(200)

    gate = Gate(Breaker(500, 5_000, random.Random(1)), ConcurrencyLimit(4), rig.clock)
    picks = Singles(rig.messages, gate, LeastWait(), rig.clock)
    forwarder = Forwarder(
        "message",
        Noted(),
        rig.messages,
        gate,
        picks,
        500,
        5_000,
        rig.store,
        rig.books,
        rig.clock,
        random.Random(1),
    )
    rig.messages.starter = forwarder._courier
    bodies = [onprem_body([message(f"gBGG{number}")]) for number in range(3)]
    answers: list[Reception] = []
    for body in bodies:
        rig.receiver.take(body, answers.append)
    rig.store.commit()
    assert (len(answers), len(forwarder._courier.under_way)) == (3, 3)
    while rig.messages.total():
        await asyncio.sleep(0)
    assert posted == bodies
    rig.assert_books_balance()

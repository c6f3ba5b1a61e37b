"""Receipts that come before the answer to their send: held until it has a name, if that makes a difference."""

import pytest
from builders import MemoryStore, inbound, inbound_backlog, onprem_body, send, status

from gateway.clock import FakeClock
from gateway.dialects.webhook import decode
from gateway.events import InboundClass, InboundRecord, Kind, ReceiptMask, SendRecord
from gateway.inbound.compose import Sorted
from gateway.inbound.early import HELD_MAX, EarlyReceipts
from gateway.outbound.unnamed import NAMES_MAX, Unnamed


class Rig:
    """What holds receipts, and the sends that are without a name; sequence numbers are those of one store."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.store = MemoryStore(clock)
        self.backlog = inbound_backlog(self.store, clock, slots=4 * HELD_MAX, aside_max=4 * HELD_MAX)
        self.early = EarlyReceipts(self.backlog, clock)
        self.unnamed = Unnamed(self.store.next_seq, bytes(16))
        self.early.nameless = self.unnamed
        self.unnamed.on_answer = self.early.release

    def begin(self, mask: ReceiptMask = ReceiptMask.READ) -> SendRecord:
        """A send goes to the node."""
        record = send(self.store.next_seq())
        record.mask = mask
        self.unnamed.began(record)
        return record

    def arrive(self, message_id: str = "gBGG1", cls: InboundClass = InboundClass.RECEIPT) -> InboundRecord:
        """A receipt is stored and queued."""
        body = onprem_body(statuses=[status(message_id)])
        record = inbound(self.store.next_seq(), cls, [Kind.DELIVERED], body)
        self.backlog.push(record)
        return record

    def is_held(self, record: InboundRecord) -> bool:
        """Take the next record, which is this one, and ask."""
        assert self.backlog.take() is record
        events = decode(record.body).events
        return self.early.try_hold(Sorted(record, len(events), events, [], [], is_batched=False))


@pytest.mark.parametrize("mask", list(ReceiptMask))
def test_it_is_held_only_while_a_send_with_unwanted_receipts_is_under_way(mask: ReceiptMask) -> None:
    rig = Rig()
    rig.begin(mask)
    assert rig.is_held(rig.arrive()) is (mask is not ReceiptMask.ALL)


def test_nothing_is_held_while_nothing_is_under_way() -> None:
    rig = Rig()
    assert not rig.is_held(rig.arrive())
    rig.unnamed.ended(rig.begin(), "gBGG0")
    assert not rig.is_held(rig.arrive())


def test_what_came_before_the_send_began_can_not_be_of_it() -> None:
    rig = Rig()
    record = rig.arrive()
    rig.begin()
    assert not rig.is_held(record)


def test_a_receipt_of_a_message_that_was_named_goes_on() -> None:
    rig = Rig()
    rig.unnamed.ended(rig.begin(ReceiptMask.ALL), "gBGG1")
    rig.begin()
    assert not rig.is_held(rig.arrive("gBGG1"))
    assert rig.is_held(rig.arrive("gBGG2"))


def test_failures_are_held_too_for_one_mask_wants_none() -> None:
    rig = Rig()
    sent = rig.begin(ReceiptMask.NONE)
    record = rig.arrive(cls=InboundClass.FAILURE)
    assert rig.is_held(record)
    rig.unnamed.ended(sent, "gBGG1")
    assert rig.backlog.take() is record


def test_what_is_of_no_message_goes_on() -> None:
    """An error of the node itself is of no send."""
    rig = Rig()
    rig.begin(ReceiptMask.NONE)
    assert not rig.is_held(rig.arrive("", InboundClass.FAILURE))


def test_messages_go_on() -> None:
    rig = Rig()
    rig.begin()
    assert not rig.is_held(rig.arrive(cls=InboundClass.MESSAGE))


@pytest.mark.parametrize("node_id", ["gBGG1", ""])
def test_it_goes_on_once_the_send_has_an_answer_or_the_request_has_failed(node_id: str) -> None:
    rig = Rig()
    sent = rig.begin()
    record = rig.arrive()
    assert rig.is_held(record)
    assert rig.backlog.take() is None
    rig.unnamed.ended(sent, node_id)
    assert rig.backlog.take() is record
    assert len(rig.early) == 0


def test_it_waits_for_all_sends_that_began_before_it_and_for_no_later_one() -> None:
    rig = Rig()
    first, second = rig.begin(), rig.begin()
    record = rig.arrive()
    rig.begin()
    assert rig.is_held(record)
    rig.unnamed.ended(first, "gBGG7")
    assert rig.backlog.take() is None
    rig.unnamed.ended(second, "gBGG8")
    assert rig.backlog.take() is record
    assert not rig.early.try_hold(Sorted(record, 1, decode(record.body).events, [], [], is_batched=False))


def test_held_records_go_on_in_order() -> None:
    rig = Rig()
    sent = rig.begin()
    records = [rig.arrive(f"gBGG{n}") for n in range(20)]
    assert all(rig.is_held(record) for record in records)
    rig.unnamed.ended(sent, "gBGG3")
    assert [rig.backlog.take() for _ in records] == records


def test_no_more_than_a_bound_are_held_and_the_others_are_counted() -> None:
    rig = Rig()
    rig.begin()
    assert all(rig.is_held(rig.arrive(f"gBGG{n}")) for n in range(HELD_MAX))
    assert not rig.is_held(rig.arrive("gBGG-one-more"))
    assert (len(rig.early), rig.early.passed) == (HELD_MAX, 1)


def test_a_name_that_was_forgotten_makes_its_receipts_wait_and_loses_none() -> None:
    rig = Rig()
    for number in range(NAMES_MAX + 1):
        rig.unnamed.ended(send(number), f"gBGG{number}")
    rig.begin()
    assert rig.is_held(rig.arrive("gBGG0"))
    assert not rig.is_held(rig.arrive("gBGG1"))

"""What the sieve lets through is what would have gone as it is; and the usual receipt at rest is let through."""

import asyncio

import pytest
from builders import (
    CONTACT,
    GROUP,
    WALL_MS,
    MemoryStore,
    inbound,
    inbound_backlog,
    message,
    onprem_body,
    status,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.ledger import ReceiptLedger
from gateway._fast.sieve import ReceiptSieve
from gateway.clock import FakeClock
from gateway.config import ReceiptPolicy
from gateway.dialects.webhook import decode
from gateway.events import InboundClass, InboundRecord, ReceiptMask, pack_counts
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.compose import Composer
from gateway.inbound.early import EarlyReceipts
from gateway.inbound.receipt_book import ReceiptBook
from gateway.overload.ladder import THRESHOLDS, Ladder, Policies, Rung

SECRET = bytes(range(16))
IDS = ["gBGG1", "gBGG2", "gBGG3"]
NAMES = ["sent", "delivered", "read", "played", "failed", "deleted"]


class Out:
    """Sends whose answers are out: none, or one that began before a sequence number."""

    def __init__(self, began: int | None) -> None:
        self._began = began

    def is_possible(self, seq: int, message_id: str) -> bool:
        return self.is_possible_at(seq) and message_id != IDS[0]

    def is_possible_at(self, seq: int) -> bool:
        return self._began is not None and self._began < seq


class Rig:
    """All that has to do with a receipt whose turn has come."""

    def __init__(
        self, policies: Policies, rung: Rung, age_max_ms: int, began: int | None, *, is_off: bool
    ) -> None:
        clock = FakeClock(wall_ms=WALL_MS)
        self.receipts = ReceiptBook(ReceiptLedger(100), SECRET, 3_600_000)
        ladder = Ladder(policies, clock.now_ns())
        ladder.update(THRESHOLDS[rung], clock.now_ns())
        gatekeeper = Gatekeeper(ladder, self.receipts.mask_of, lambda _: True, is_off=is_off)
        self.composer = Composer(gatekeeper, self.receipts.tally, age_max_ms)
        self.early = EarlyReceipts(inbound_backlog(MemoryStore(clock), clock), clock)
        self.early.nameless = Out(began)
        self.sieve = ReceiptSieve(
            self.receipts.ledger, SECRET, age_max_ms, gatekeeper.forwards_each, self.early.may_be_nameless
        )

    def goes_as_it_is(self, record: InboundRecord) -> bool:
        """By those who decide about all others."""
        found = self.composer.sort(record, WALL_MS)
        if self.early.try_hold(found) or found.is_batched:
            return False
        [parcel] = self.composer.compose([found])
        return parcel.body is record.body and not parcel.drops and not parcel.old


def record_of(body: bytes, seq: int = 5, age_ms: int = 0) -> InboundRecord:
    events = decode(body).events
    cls = min(event.cls for event in events)
    return inbound(seq, cls, [event.kind for event in events], body, events[0].lane, WALL_MS - age_ms)


statuses = st.builds(status, st.sampled_from(IDS), st.sampled_from(NAMES), st.sampled_from([CONTACT, GROUP]))
statuses |= statuses.map(
    lambda one: {**one, "recipient_participant_id": "15550100333", "recipient_type": "group"}
)
bodies = st.one_of(
    *[statuses.map(lambda one: onprem_body(statuses=[one]))] * 3,
    st.lists(statuses, min_size=1, max_size=3).map(lambda some: onprem_body(statuses=some)),
    statuses.map(lambda one: onprem_body([message()], [one])),
)
policies: st.SearchStrategy[ReceiptPolicy] = st.sampled_from(
    ["forward", "forward", "forward", "batch", "fold", "drop"]
)


@given(
    body=bodies,
    each=st.tuples(policies, policies, policies, policies),
    rung=st.sampled_from([Rung.FORWARD, Rung.FORWARD, Rung.BATCH, Rung.SHED_READ]),
    age=st.tuples(st.sampled_from([0, 1000]), st.sampled_from([0, 1000, 1001])),
    began=st.sampled_from([None, None, 4, 5]),
    masks=st.dictionaries(st.sampled_from(IDS), st.sampled_from(ReceiptMask)),
    is_off=st.sampled_from([False, False, True]),
)
@settings(max_examples=400)
def test_what_is_let_through_goes_as_it_is(
    body: bytes,
    each: tuple[ReceiptPolicy, ReceiptPolicy, ReceiptPolicy, ReceiptPolicy],
    rung: Rung,
    age: tuple[int, int],
    began: int | None,
    masks: dict[str, ReceiptMask],
    is_off: bool,
) -> None:
    sent, delivered, read, group = each
    policy = Policies(sent=sent, delivered=delivered, read=read, group=group)

    async def look() -> None:
        rig = Rig(policy, rung, age[0], began, is_off=is_off)
        for message_id, mask in masks.items():
            rig.receipts.want(message_id, mask)
        record = record_of(body, age_ms=age[1])
        if rig.sieve.lets_through(record, WALL_MS):
            assert rig.goes_as_it_is(record)

    asyncio.run(look())


@pytest.mark.parametrize("name", NAMES[:5])
async def test_the_usual_receipt_at_rest_is_let_through(name: str) -> None:
    rig = Rig(Policies(), Rung.FORWARD, 0, None, is_off=False)
    assert rig.sieve.lets_through(record_of(onprem_body(statuses=[status("gBGG1", name)])), WALL_MS)


@pytest.mark.parametrize(
    "why", ["pressure", "policy", "off", "mask", "age", "nameless", "two", "message", "body"]
)
async def test_what_someone_must_look_at_is_not(why: str) -> None:
    rig = Rig(
        Policies(read="fold" if why == "policy" else "forward"),
        Rung.BATCH if why == "pressure" else Rung.FORWARD,
        1000 if why == "age" else 0,
        4 if why == "nameless" else None,
        is_off=why == "off",
    )
    one = status("gBGG1", "delivered")
    body = onprem_body([message()] if why == "message" else [], [one, one] if why == "two" else [one])
    if why == "message":
        body = onprem_body([message()])
    if why == "mask":
        rig.receipts.want("gBGG1", ReceiptMask.READ)
    record = record_of(body, age_ms=1001)
    if why == "body":
        record = InboundRecord(5, InboundClass.RECEIPT, "", b"[]", pack_counts([]), WALL_MS)
    assert not rig.sieve.lets_through(record, WALL_MS)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_secret_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="secret is"):
        ReceiptSieve(ReceiptLedger(1), bytes(size), 0, lambda: True, lambda _: False)

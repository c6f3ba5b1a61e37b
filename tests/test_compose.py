"""Which receipts come in, and what those taken together become: nothing lost, nothing twice, the highest status last."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.receipts import Tally
from gateway.dialects.webhook import Event, decode
from gateway.events import InboundClass, InboundRecord, Kind, Outcome, ReceiptMask, pack_counts
from gateway.inbound.admit import Drop, Gatekeeper, Reason, receipt_class
from gateway.inbound.compose import Composer, Parcel
from gateway.overload.ladder import THRESHOLDS, Ladder, Policies, ReceiptClass, Rung

GROUP: Final = "15550100999-1690000000"
STATUSES: Final = ("sent", "delivered", "read")
NOW_MS: Final = 1_700_000_000_000


def status(message: str, who: str, word: str, *, is_group: bool = False) -> dict[str, str]:
    made = {"id": message, "recipient_id": who, "status": word, "timestamp": "1700000000"}
    return {**made, "group_id": GROUP} if is_group else made


def record(seq: int, *statuses: dict[str, str], age_ms: int = 0) -> InboundRecord:
    body = orjson.dumps({"statuses": statuses})
    events = decode(body).events
    return InboundRecord(
        seq,
        min(event.cls for event in events),
        events[0].lane,
        body,
        pack_counts([event.kind for event in events]),
        NOW_MS - age_ms,
    )


class Bench:
    """A composer on a rung, and what has come before."""

    def __init__(
        self,
        rung: Rung = Rung.FORWARD,
        policies: Policies | None = None,
        *,
        dry_run: frozenset[str] = frozenset(),
        is_off: bool = False,
        age_max_ms: int = 0,
        masks: dict[str, ReceiptMask] | None = None,
        tally_of: Callable[[str], Tally | None] = lambda _id: Tally(None, 7, 3, 1, 2),
    ) -> None:
        self.known: set[str] = set()
        ladder = Ladder(policies or Policies(), 0, dry_run)
        ladder.update(THRESHOLDS[rung], 0)
        self.gatekeeper = Gatekeeper(
            ladder,
            lambda message_id: (masks or {}).get(message_id, ReceiptMask.ALL),
            self.known.__contains__,
            is_off=is_off,
        )
        self.composer = Composer(self.gatekeeper, tally_of, age_max_ms)

    def come(self, records: list[InboundRecord]) -> None:
        self.known |= {event.key for record in records for event in decode(record.body).events}

    def compose(self, *records: InboundRecord) -> list[Parcel]:
        self.come(list(records))
        return self.composer.compose([self.composer.sort(record, NOW_MS) for record in records])


def told(parcels: list[Parcel]) -> list[tuple[str, Kind]]:
    """(participant, kind) of what reaches the backend one for one."""
    bodies = [
        parcel.body for parcel in parcels if parcel.body is not None and b'"gateway"' not in parcel.body
    ]
    return [(event.participant, event.kind) for body in bodies for event in decode(body).events]


statuses = st.builds(
    status,
    st.sampled_from(["m1", "m2", "m3"]),
    st.sampled_from(["491", "492", "493", "494"]),
    st.sampled_from(STATUSES),
    is_group=st.booleans(),
)
streams = st.lists(st.lists(statuses, min_size=1, max_size=4), min_size=1, max_size=30).map(
    lambda bodies: [record(seq, *body) for seq, body in enumerate(bodies, start=1)]
)
policies = st.builds(
    Policies,
    **dict.fromkeys(
        ("sent", "delivered", "read", "group"),
        st.sampled_from(["forward", "batch", "fold", "digest", "drop"]),
    ),
)


@given(records=streams, rung=st.sampled_from(Rung), asked=policies)
def test_every_record_is_in_one_parcel_and_all_counts_add_up(
    records: list[InboundRecord], rung: Rung, asked: Policies
) -> None:
    parcels = Bench(rung, asked).compose(*records)
    assert sorted(record.seq for parcel in parcels for record in parcel.records) == [r.seq for r in records]
    accepted: Counter[Kind] = Counter()
    for made in records:
        accepted.update(dict(made.kind_counts()))
    ended: Counter[Kind] = Counter()
    for parcel in parcels:
        forwarded = Counter({e.kind: e.count for e in parcel.books() if e.outcome is Outcome.DELIVERED})
        is_digest = parcel.body is not None and b'"gateway"' in parcel.body
        if parcel.body is None or is_digest:
            assert not forwarded
        else:
            assert forwarded == Counter(event.kind for event in decode(parcel.body).events)
        for entry in parcel.books():
            assert entry.count > 0
            ended[entry.kind] += entry.count
    assert ended == accepted


@given(records=streams, rung=st.sampled_from(Rung))
def test_what_is_dropped_is_of_a_class_that_gives_way(records: list[InboundRecord], rung: Rung) -> None:
    bench = Bench(rung)
    for drop in itertools.chain.from_iterable(parcel.drops for parcel in bench.compose(*records)):
        cls = receipt_class(drop.event)
        assert cls is not None
        if drop.reason is Reason.OVERLOAD:
            assert rung >= Rung.SHED_GROUP_READ + cls
        elif drop.reason is Reason.FOLDED:
            assert rung >= Rung.FOLD
        else:
            assert drop.reason is Reason.DIGESTED
            assert cls.is_group
            assert rung >= Rung.DIGEST


@given(words=st.permutations(STATUSES), cuts=st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_folding_ends_at_the_highest_status_whatever_the_order(words: list[str], cuts: list[int]) -> None:
    bench = Bench(Rung.FOLD)
    forwarded: list[Kind] = []
    seq = 0
    while words:
        taken, words = words[: cuts[0]], words[cuts[0] :]
        cuts = cuts[1:] or [3]
        seq += 1
        parcels = bench.compose(record(seq, *(status("m1", "491", word) for word in taken)))
        forwarded += [kind for _, kind in told(parcels)]
    assert forwarded[-1] is Kind.READ
    assert forwarded == sorted(forwarded), "a status went backwards"


def test_a_body_with_one_destination_and_nothing_left_out_keeps_its_bytes() -> None:
    made = record(1, status("m1", "491", "read"))
    for rung in (Rung.FORWARD, Rung.BATCH, Rung.DIGEST):
        assert [parcel.body for parcel in Bench(rung).compose(made)] == [made.body]


def test_receipts_of_many_bodies_become_one_request() -> None:
    records = [record(seq, status("m1", str(seq), "read")) for seq in range(1, 101)]
    (parcel,) = Bench(Rung.BATCH).compose(*records)
    assert told([parcel]) == [(str(seq), Kind.READ) for seq in range(1, 101)]


def test_a_groups_receipts_become_counts() -> None:
    records = [record(seq, status("m1", str(seq), "read", is_group=True)) for seq in range(1, 101)]
    (parcel,) = Bench(Rung.DIGEST).compose(*records)
    assert parcel.body is not None
    assert orjson.loads(parcel.body)["gateway"]["receipts"] == [
        {"id": "m1", "group_id": GROUP, "delivered": 7, "read": 3, "first": "1", "last": "2"}
    ]
    assert Counter(drop.reason for drop in parcel.drops) == {Reason.DIGESTED: 100}


def test_what_the_backend_refused_in_a_batch_goes_alone() -> None:
    first, second = (record(seq, status("m1", str(seq), "read")) for seq in (1, 2))
    first.goes_alone = True
    parcels = Bench(Rung.BATCH).compose(first, second)
    assert [parcel.body for parcel in parcels] == [first.body, second.body]


def test_what_the_backend_refused_as_a_digest_goes_as_it_came() -> None:
    made = record(1, status("m1", "491", "read", is_group=True))
    made.goes_alone = True
    (parcel,) = Bench(Rung.DIGEST).compose(made)
    assert (parcel.body, parcel.drops) == (made.body, [])


def test_what_the_ledger_has_forgotten_is_not_told_as_a_count() -> None:
    """It would be a count of nothing, and the backend's own count would go back."""
    bench = Bench(Rung.DIGEST, tally_of={"m1": Tally(None, 7, 3, 1, 2)}.get)
    known, forgotten = (record(seq, status(f"m{seq}", "491", "read", is_group=True)) for seq in (1, 2))
    bodies = [parcel.body for parcel in bench.compose(known, forgotten)]
    assert forgotten.body in bodies
    (digest,) = (body for body in bodies if body is not None and body != forgotten.body)
    assert [receipt["id"] for receipt in orjson.loads(digest)["gateway"]["receipts"]] == ["m1"]


def test_a_digest_of_a_single_chat_names_no_group() -> None:
    (parcel,) = Bench(policies=Policies(read="digest")).compose(record(1, status("m1", "491", "read")))
    assert parcel.body is not None
    assert orjson.loads(parcel.body)["gateway"]["receipts"][0]["group_id"] is None


@pytest.mark.parametrize(
    "bench",
    [
        Bench(policies=Policies(delivered="fold", read="drop")),
        Bench(Rung.FOLD, masks={"m1": ReceiptMask.DELIVERED}),
    ],
    ids=["policy", "mask"],
)
def test_nothing_is_folded_into_a_receipt_that_does_not_go_on(bench: Bench) -> None:
    """The backend would hear of neither."""
    delivered, read = (
        record(seq, status("m1", "491", word)) for seq, word in ((1, "delivered"), (2, "read"))
    )
    assert told(bench.compose(delivered, read)) == [("491", Kind.DELIVERED)]


def test_nothing_is_folded_into_a_receipt_that_was_too_old() -> None:
    bench = Bench(Rung.FOLD, age_max_ms=1_000)
    delivered, read = (
        record(seq, status("m1", "491", word)) for seq, word in ((1, "delivered"), (2, "read"))
    )
    read.received_ms = NOW_MS - 1_001
    delivered.received_ms = NOW_MS
    assert told(bench.compose(read, delivered)) == [("491", Kind.DELIVERED)]


def test_a_groups_delivered_receipts_are_counted_while_its_read_ones_are_shed() -> None:
    bench = Bench(Rung.SHED_GROUP_READ)
    made = [
        record(seq, status("m1", "491", word, is_group=True)) for seq, word in ((1, "delivered"), (2, "read"))
    ]
    reasons = {drop.event.kind: drop.reason for parcel in bench.compose(*made) for drop in parcel.drops}
    assert reasons == {Kind.DELIVERED: Reason.DIGESTED, Kind.READ: Reason.OVERLOAD}


def failed(seq: int) -> InboundRecord:
    return record(seq, {**status("m1", "491", "failed")}, status("m1", "492", "read"))


@pytest.mark.parametrize("rung", Rung)
def test_failures_and_unknown_statuses_are_never_touched(rung: Rung) -> None:
    bench = Bench(rung, Policies(sent="drop", delivered="drop", read="drop", group="drop"))
    unknown = record(2, status("m1", "491", "warning"))
    assert unknown.cls is InboundClass.FAILURE
    records = [failed(1), unknown]
    parcels = bench.compose(*records)
    assert [parcel.body for parcel in parcels] == [made.body for made in records]
    assert not any(parcel.drops for parcel in parcels)


def test_with_the_event_webhook_off_nothing_is_sent_and_all_is_counted() -> None:
    (parcel,) = Bench(is_off=True).compose(failed(1), record(2, status("m1", "491", "sent")))
    assert parcel.body is None
    assert {drop.reason for drop in parcel.drops} == {Reason.OFF}
    assert {entry.outcome for entry in parcel.books()} == {Outcome.SHED}


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (ReceiptMask.ALL, ["sent", "delivered", "read", "failed"]),
        (ReceiptMask.READ, ["delivered", "read", "failed"]),
        (ReceiptMask.DELIVERED, ["delivered", "failed"]),
        (ReceiptMask.FAILED, ["failed"]),
        (ReceiptMask.NONE, []),
    ],
)
def test_a_mask_passes_what_the_sender_asked_for(mask: ReceiptMask, words: list[str]) -> None:
    gatekeeper = Bench(masks={"m1": mask}).gatekeeper
    events = [
        event
        for word in ("sent", "delivered", "read", "failed")
        for event in decode(record(1, status("m1", "491", word)).body).events
    ]
    assert [e.kind.label for e in events if gatekeeper.reason_to_drop(e) is None] == words
    assert {gatekeeper.reason_to_drop(e) for e in events if e.kind.label not in words} <= {Reason.MASK}


def test_receipts_beyond_their_age_expire() -> None:
    young = record(1, status("m1", "491", "read"), age_ms=1000)
    old = record(2, status("m1", "492", "read"), age_ms=1001)
    parcels = Bench(age_max_ms=1000).compose(young, old)
    by_body = {parcel.body: parcel for parcel in parcels}
    assert set(by_body) == {young.body, None}
    assert [(drop.reason, drop.event.participant) for drop in by_body[None].drops] == [(Reason.AGE, "492")]
    assert [entry.outcome for entry in by_body[None].books()] == [Outcome.EXPIRED]


def test_messages_pass_whatever_presses() -> None:
    event = Event(Kind.MESSAGE, InboundClass.MESSAGE, "k", "491", (0, 0, "messages", 0), message_id="m1")
    bench = Bench(Rung.REFUSE, is_off=True, masks={"m1": ReceiptMask.NONE})
    assert bench.gatekeeper.reason_to_drop(event) is None
    assert receipt_class(event) is None


def test_a_dry_run_counts_once_what_it_would_have_done() -> None:
    bench = Bench(Rung.SHED_READ, dry_run=frozenset({"batch", "fold", "digest", "shed"}))
    bench.come([record(1, status("m1", "491", "read"))])
    (event,) = decode(record(2, status("m1", "491", "delivered")).body).events
    assert bench.gatekeeper.reason_to_drop(event) is None
    assert bench.gatekeeper.reason_to_drop(event, counts_dry=False) is None
    assert bench.gatekeeper.would_have == {
        "batch": 1, "fold": 1, "digest": 0, "shed": 1, "refuse": 0, "age": 0,
    }  # fmt: skip
    (event,) = decode(record(3, status("m1", "491", "read", is_group=True)).body).events
    assert bench.gatekeeper.reason_to_drop(event) is None
    assert bench.gatekeeper.would_have["digest"] == 1


def test_drops_are_counted_by_class_and_reason() -> None:
    gatekeeper = Bench().gatekeeper
    (event,) = decode(record(1, status("m1", "491", "read", is_group=True)).body).events
    for drop in (Drop(event, Reason.OVERLOAD), Drop(event, Reason.OVERLOAD)):
        gatekeeper.count(drop.event, drop.reason)
    assert gatekeeper.dropped == {(ReceiptClass.GROUP_READ, Reason.OVERLOAD): 2}

"""Receipts that are taken together, as the requests they become.

Every record goes into exactly one parcel and is settled with it, so an attempt that fails repeats that parcel and
nothing else. What a parcel leaves out (folded, digested, shed, too old) ends with it too.
"""

from collections.abc import Callable, Iterable

import msgspec

from gateway.dialects.receipts import Batch, Tally, digest_body
from gateway.dialects.webhook import Event, Place, decode, split
from gateway.events import InboundClass, InboundRecord, Kind, Outcome, pack_counts
from gateway.inbound.admit import Drop, Gatekeeper, Reason, receipt_class
from gateway.overload.ladder import Treatment
from gateway.store.books import outcome_entries
from gateway.store.protocol import BookEntry


class Parcel(msgspec.Struct):
    """One request to the backend and the records that end with it; body None: they end without one."""

    records: list[InboundRecord]
    body: bytes | None
    drops: list[Drop] = []
    old: int = 0
    """Receipts in it that are beyond their age, and go all the same because that limit runs dry."""

    @property
    def is_digest(self) -> bool:
        """Whether the body is one of ours, which tells of receipts by their number."""
        return self.body is not None and any(drop.reason is Reason.DIGESTED for drop in self.drops)

    def books(self, outcome: Outcome = Outcome.DELIVERED) -> list[BookEntry]:
        """What the books say once it has ended, with `outcome` for what it carried."""
        if len(self.records) == 1 and not self.drops:
            return outcome_entries(self.records[0].kind_counts(), outcome)
        left: dict[Kind, int] = {}
        for record in self.records:
            for kind, count in record.kind_counts():
                left[kind] = left.get(kind, 0) + count
        ended: dict[tuple[Kind, Outcome], int] = {}
        for drop in self.drops:
            place = drop.event.kind, Outcome.EXPIRED if drop.reason is Reason.AGE else Outcome.SHED
            ended[place] = ended.get(place, 0) + 1
            left[drop.event.kind] -= 1
        entries = outcome_entries(((kind, count) for kind, count in left.items() if count), outcome)
        for (kind, how), count in ended.items():
            entries += outcome_entries([(kind, count)], how)
        return entries


class Sorted(msgspec.Struct):
    """A record, and what becomes of its events."""

    record: InboundRecord
    total: int
    kept: list[Event]
    digested: list[Event]
    drops: list[Drop]
    is_batched: bool
    """It may go together with others, or need not go at all."""
    old: int = 0
    """Events that a dry run of the age limit lets pass."""


class Composer:
    """Makes parcels of records."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        tally_of: Callable[[str], Tally | None],
        age_max_ms: int = 0,
        *,
        drops_old: bool = True,
    ) -> None:
        """`tally_of` a WhatsApp message id has the counts of all its receipts so far; None: they are not known any more.

        Receipts that came more than `age_max_ms` ago are not forwarded any more (0: whatever their age), or with
        `drops_old` false only counted.
        """
        self._gatekeeper = gatekeeper
        self._tally_of = tally_of
        self._age_max_ms = age_max_ms
        self._drops_old = drops_old

    def sort(self, record: InboundRecord, now_ms: int) -> Sorted:
        """Look at a record, and decide what becomes of each of its events now."""
        events = decode(record.body).events
        found = Sorted(record, len(events), [], [], [], is_batched=False)
        if pack_counts([event.kind for event in events]) != record.counts:
            found.kept = events  # JSON that reads differently the second time: it goes as it is
            return found
        is_old = 0 < self._age_max_ms < now_ms - record.received_ms
        for event in events:
            self._place(event, found, is_old)
        if found.kept and (found.digested or record.cls is not InboundClass.RECEIPT):
            # It goes anyway: then with all that may go, and a failure as it came.
            found.kept += found.digested
            found.digested = []
        if record.cls is not InboundClass.RECEIPT and found.kept:
            found.kept, found.drops = events, []
        found.is_batched = not record.goes_alone and all(
            self._treatment(event) >= Treatment.BATCH for event in found.kept
        )
        return found

    def _place(self, event: Event, found: Sorted, is_old: bool) -> None:
        cls = receipt_class(event)
        if is_old and cls is not None:
            if self._drops_old:
                # What came with a failure goes with it.
                if found.record.cls is InboundClass.RECEIPT:
                    self._gatekeeper.note_lost(event)
                found.drops.append(Drop(event, Reason.AGE))
                return
            found.old += 1
        reason = self._gatekeeper.reason_to_drop(event, counts_dry=False)
        if reason is not None:
            found.drops.append(Drop(event, reason))
        elif self._treatment(event) is Treatment.DIGEST and self._may_digest(event, found.record):
            found.digested.append(event)
        else:
            found.kept.append(event)

    def _may_digest(self, event: Event, record: InboundRecord) -> bool:
        """Not what the backend refused as a digest, nor what the ledger has forgotten: its counts would go back."""
        return (
            not record.goes_alone and bool(event.message_id) and self._tally_of(event.message_id) is not None
        )

    def _treatment(self, event: Event) -> Treatment:
        """What is done to an event; failures and what is not known are forwarded each for itself."""
        cls = receipt_class(event)
        return Treatment.FORWARD if cls is None else self._gatekeeper.ladder.treatment(cls)

    def compose(self, batch: Iterable[Sorted]) -> list[Parcel]:
        """The parcels of records that were taken together; last the one that needs no request."""
        silent, digest, joint = Parcel([], None), Parcel([], None), Parcel([], None)
        body = Batch()
        tallies: dict[str, Tally] = {}
        parcels: list[Parcel] = []
        last: Sorted | None = None
        for found in batch:
            if not found.kept and not found.digested:
                _put(silent, found)
            elif not found.kept:
                _put(digest, found)
                self._tally(found, tallies)
            elif found.is_batched and body.add(found.record.body, _wanted(found)):
                _put(joint, found)
                last = found
            else:
                parcels.append(alone(found))
        if digest.records:
            digest.body = digest_body(tallies)
            parcels.append(digest)
        if last is not None:
            joint.body = body.body()
            parcels.append(alone(last) if len(joint.records) == 1 else joint)
        if silent.records:
            parcels.append(silent)
        return parcels

    def _tally(self, found: Sorted, tallies: dict[str, Tally]) -> None:
        for event in found.digested:
            if event.message_id not in tallies:
                tally = self._tally_of(event.message_id)
                assert tally is not None, "it was there when the record was sorted, without a wait between"
                tally.group = event.lane if event.is_group else None
                tallies[event.message_id] = tally


def alone(found: Sorted) -> Parcel:
    """A record as a request of its own; byte for byte where nothing is left out."""
    record = found.record
    if _wanted(found) is None:
        return Parcel([record], record.body, old=found.old)
    part = split(record.body, found.kept, found.total)[0]
    return Parcel([record], part.body, found.drops, found.old)


def _put(parcel: Parcel, found: Sorted) -> None:
    parcel.records.append(found.record)
    parcel.old += found.old
    parcel.drops += found.drops
    parcel.drops += [Drop(event, Reason.DIGESTED) for event in found.digested]


def _wanted(found: Sorted) -> set[Place] | None:
    """The places of the events that go; None: all of them."""
    return None if len(found.kept) == found.total else {event.place for event in found.kept}

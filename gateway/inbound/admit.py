"""Which receipts come in at all, before anything of them is stored. Messages always do.

A receipt that is not admitted ends at once, with outcome `shed` and a reason; what it said is in the ledger.
Reasons, in the order they are asked: the event webhook is off; whoever pushed the message wants no such receipt; the
operator's policy drops its class; pressure sheds its class; a receipt that says more has come already and goes on (folded).
"""

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from gateway._fast.seen import SeenSet, fingerprint
from gateway.dialects.webhook import Event, overtaking_keys
from gateway.events import InboundClass, Kind, ReceiptMask
from gateway.overload.ladder import LIMITERS, Ladder, ReceiptClass, Treatment


class Reason(enum.Enum):
    """Why a receipt was not forwarded for itself."""

    OFF = "off"
    MASK = "mask"
    POLICY = "policy"
    OVERLOAD = "overload"
    FOLDED = "folded"
    DIGESTED = "digested"
    """Its message's counts were forwarded instead."""
    AGE = "age"
    """It was older than GATEWAY_RECEIPTS_AGE_MAX; its outcome is `expired`."""


_LOST: Final = (Reason.OVERLOAD, Reason.AGE)
"""For these a receipt does not go on though others of its class do, before and after: nothing is to be folded into it."""

LOST_MAX: Final = 32_768
"""Receipts remembered that were shed or too old, in 1 MB: of 500 a second those of the last minute. A `delivered` that
comes after its `read` comes soon after."""

_MASKS_PASS: Final = {
    ReceiptMask.NONE: frozenset[Kind](),
    ReceiptMask.FAILED: frozenset({Kind.FAILED}),
    ReceiptMask.DELIVERED: frozenset({Kind.FAILED, Kind.DELIVERED}),
    ReceiptMask.READ: frozenset({Kind.FAILED, Kind.DELIVERED, Kind.READ}),
}


def receipt_class(event: Event) -> ReceiptClass | None:
    """The class of a receipt on the ladder; None for what has no place there."""
    return _class_of(event.kind, is_group=event.is_group) if event.cls is InboundClass.RECEIPT else None


def _bits(kind: Kind) -> int:
    """Of `Gatekeeper.plain_kinds`: in groups and in single chats."""
    return 0b11 << 2 * kind


def _class_of(kind: Kind, *, is_group: bool) -> ReceiptClass:
    if kind is Kind.SENT:
        return ReceiptClass.SENT
    if kind is Kind.READ:
        return ReceiptClass.GROUP_READ if is_group else ReceiptClass.READ
    return ReceiptClass.GROUP_DELIVERED if is_group else ReceiptClass.DELIVERED


class Drop(msgspec.Struct, frozen=True):
    """A receipt that is not forwarded for itself, and why."""

    event: Event
    reason: Reason


class Gatekeeper:
    """Asked about every event that is new; also about those that wait, when their turn comes."""

    def __init__(
        self,
        ladder: Ladder,
        mask_of: Callable[[str], int],
        is_known: Callable[[str], bool],
        *,
        is_off: bool = False,
        mark_of: Callable[[str], int] = lambda key: fingerprint(key.encode(), bytes(16)),
    ) -> None:
        """`mask_of` a WhatsApp message id is its `ReceiptMask`; `is_known` tells whether an event with a key has come.

        `mark_of` a key is its fingerprint.
        """
        self.ladder = ladder
        self._mask_of = mask_of
        self._is_known = is_known
        self._is_off = is_off
        self._mark_of = mark_of
        self._lost = SeenSet(LOST_MAX)
        self._plain_for: frozenset[ReceiptClass] | None = None
        self._plain = 0
        self.dropped: dict[tuple[ReceiptClass | None, Reason], int] = {}
        """Events not forwarded for themselves; class None: a failure or an unknown status."""
        self.would_have: dict[str, int] = dict.fromkeys(
            ("batch", "fold", "digest", "shed", "refuse", "age"), 0
        )
        """What limiters in a dry run would have done, in receipts."""

    def plain_kinds(self) -> int:
        """Of which events nothing has to be asked but the mask of their message: bit 2 x kind, and the next one for groups."""
        admitted = self.ladder.admitted
        if admitted is not self._plain_for:
            self._plain_for, self._plain = admitted, self._find_plain(admitted)
        return self._plain

    def forwards_each(self) -> bool:
        """Whether every receipt goes as it is, but for what the mask of its message says."""
        return len(self.ladder.forwarded) == len(ReceiptClass) and not self._is_off

    def _find_plain(self, admitted: frozenset[ReceiptClass]) -> int:
        plain = _bits(Kind.MESSAGE)
        if self._is_off:
            return plain
        plain |= _bits(Kind.FAILED)
        for kind in (Kind.SENT, Kind.DELIVERED, Kind.READ):
            for is_group in (False, True):
                if _class_of(kind, is_group=is_group) in admitted:
                    plain |= 1 << 2 * kind + is_group
        return plain

    def reason_to_drop(self, event: Event, *, counts_dry: bool = True) -> Reason | None:
        """Why an event does not go on, None when it does. `counts_dry`: count what a dry run would have done to it."""
        if event.cls is InboundClass.MESSAGE:
            return None
        if self._is_off:
            return Reason.OFF
        if self._is_masked(event, event.kind):
            return Reason.MASK
        cls = receipt_class(event)
        if cls is None:
            return None
        ladder = self.ladder
        treatment = ladder.treatment(cls)
        if treatment is Treatment.DROP:
            return Reason.POLICY if ladder.is_dropped_by_policy(cls) else Reason.OVERLOAD
        would = ladder.would(cls)
        is_overtaken = would >= Treatment.FOLD and self._is_overtaken(event)
        if counts_dry and would > treatment:
            self._count_dry(cls, treatment, would, is_overtaken=is_overtaken)
        return Reason.FOLDED if is_overtaken and treatment >= Treatment.FOLD else None

    def _is_overtaken(self, event: Event) -> bool:
        """Whether a receipt that says more has come and goes on: folded into one that doesn't, both would be lost."""
        return any(
            self._is_known(key)
            and not (self._lost and self._mark_of(key) in self._lost)
            and self.ladder.treatment(_class_of(kind, is_group=event.is_group)) is not Treatment.DROP
            and not self._is_masked(event, kind)
            for kind, key in overtaking_keys(event)
        )

    def _is_masked(self, event: Event, kind: Kind) -> bool:
        """Whether the sender of the message that `event` is about wants no receipts of a kind."""
        if not event.message_id or kind is Kind.OTHER:
            return False
        passes = _MASKS_PASS.get(ReceiptMask(self._mask_of(event.message_id)))
        return passes is not None and kind not in passes

    def _count_dry(
        self, cls: ReceiptClass, treatment: Treatment, would: Treatment, *, is_overtaken: bool
    ) -> None:
        for step in self.ladder.steps(cls):
            if treatment < step <= would and (step is not Treatment.FOLD or is_overtaken):
                self.would_have[LIMITERS[step]] += 1

    def note_lost(self, event: Event) -> None:
        """A receipt does not go on, and it is certain that it never will."""
        if event.key and event.kind is not Kind.SENT:  # what is sent overtakes nothing
            self._lost.add(self._mark_of(event.key))

    def count(self, event: Event, reason: Reason) -> None:
        """An event has ended for a reason."""
        if reason in _LOST:
            self.note_lost(event)
        place = receipt_class(event), reason
        self.dropped[place] = self.dropped.get(place, 0) + 1

"""The ladder: how receipts give way under pressure, one step after the other, and come back when it falls.

Steps, each at a pressure of its own: forward each · batch them · fold those of one recipient · digest a group's into
counts · shed them, class by class · refuse them, so that the node keeps them. Messages, failures and what we don't
know have no place on it: they always pass.

Thresholds. What loses nothing comes early. The classes that are shed stand on a cubic curve, the least dear first and
early, the dearest late and close together: most of the range passes before the first `read` of a single chat is lost.
Hysteresis. A step is taken at once, and left one at a time, when the pressure has stayed below 0.7 of what took it for
a second: a ladder that goes up and down in one breath would shed as much and tell the operator nothing.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.clock import NS_PER_S
from gateway.config import ReceiptPolicy


class ReceiptClass(enum.IntEnum):
    """Receipts in the order in which they give way; the lowest first."""

    GROUP_READ = 0
    GROUP_DELIVERED = 1
    SENT = 2
    DELIVERED = 3
    READ = 4

    @property
    def label(self) -> str:
        return self.name.lower()

    @property
    def is_group(self) -> bool:
        return self in (ReceiptClass.GROUP_READ, ReceiptClass.GROUP_DELIVERED)


class Treatment(enum.IntEnum):
    """What is done to a receipt; each step includes those before it."""

    FORWARD = 0
    BATCH = 1
    FOLD = 2
    DIGEST = 3
    DROP = 4


LIMITERS: Final = {
    Treatment.BATCH: "batch",
    Treatment.FOLD: "fold",
    Treatment.DIGEST: "digest",
    Treatment.DROP: "shed",
}
"""Names in GATEWAY_DRY_RUN; forwarding is no limiter."""


class Rung(enum.IntEnum):
    """Steps of the ladder, and of each how many classes are shed."""

    FORWARD = 0
    BATCH = 1
    FOLD = 2
    DIGEST = 3
    SHED_GROUP_READ = 4
    SHED_GROUP_DELIVERED = 5
    SHED_SENT = 6
    SHED_DELIVERED = 7
    SHED_READ = 8
    REFUSE = 9

    @property
    def label(self) -> str:
        return self.name.lower()


_SHED_FROM: Final = 0.5
_SHED_TO: Final = 0.95


def _shed_threshold(cls: ReceiptClass) -> float:
    share_left = 1 - cls / len(ReceiptClass)
    return _SHED_TO - (_SHED_TO - _SHED_FROM) * share_left**3


THRESHOLDS: Final[Mapping[Rung, float]] = {
    Rung.FORWARD: 0.0,
    Rung.BATCH: 0.05,
    Rung.FOLD: 0.15,
    Rung.DIGEST: 0.3,
    **{Rung(Rung.SHED_GROUP_READ + cls): _shed_threshold(cls) for cls in ReceiptClass},
    Rung.REFUSE: 0.97,
}
"""The pressure that takes each step: 0.5, 0.72, 0.85, 0.92, 0.95 for the five classes."""

LEAVE_SHARE: Final = 0.7
HOLD_NS: Final = NS_PER_S


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants done to each kind of receipt at least."""

    sent: ReceiptPolicy = "forward"
    delivered: ReceiptPolicy = "forward"
    read: ReceiptPolicy = "forward"
    group: ReceiptPolicy = "forward"
    """Delivered and read receipts of a group's members."""
    digests: bool = True
    """Whether pressure may turn a group's receipts into counts."""

    def least(self, cls: ReceiptClass) -> Treatment:
        """The treatment that the policy of a class asks for. A digest has no count of `sent`: it is folded."""
        policy = self.group if cls.is_group else getattr(self, cls.label)
        treatment = Treatment[policy.upper()]
        is_countless = cls is ReceiptClass.SENT and treatment is Treatment.DIGEST
        return Treatment.FOLD if is_countless else treatment

    def steps(self, cls: ReceiptClass) -> tuple[Treatment, ...]:
        """What pressure may do to a class, the least first: only receipts of groups become counts."""
        return tuple(
            step for step in Treatment if step is not Treatment.DIGEST or (cls.is_group and self.digests)
        )

    @property
    def batches(self) -> bool:
        """Whether some receipts are put together whatever the pressure."""
        return any(Treatment.BATCH <= self.least(cls) < Treatment.DROP for cls in ReceiptClass)


class Ladder:
    """Where the gateway stands on the ladder."""

    def __init__(self, policies: Policies, now_ns: int, dry_run: frozenset[str] = frozenset()) -> None:
        """What `dry_run` names (`batch`, `fold`, `digest`, `shed`, `refuse`) is not done for pressure, only asked about."""
        self.rung = Rung.FORWARD
        self.climbs = 0
        """Steps taken upwards since the start."""
        self.batches_at_rest = policies.batches
        self._policies = policies
        self._dry_run = dry_run
        self._high_ns = now_ns
        """When the pressure was last too high to leave the rung, or the rung was entered."""
        self._treatments: tuple[Treatment, ...] = ()
        self._would: tuple[Treatment, ...] = ()
        self.forwarded: frozenset[ReceiptClass] = frozenset()
        """Classes to which nothing is done, and would not be if nothing ran dry."""
        self.admitted: frozenset[ReceiptClass] = frozenset()
        """Classes that are at most put together, and would not be if nothing ran dry. A new set when it may have changed."""
        self._enter(Rung.FORWARD)

    def update(self, pressure: float, now_ns: int) -> bool:
        """Climb as far as `pressure` asks for, or go down one step; whether the rung changed."""
        target = max(rung for rung, threshold in THRESHOLDS.items() if pressure >= threshold)
        if target > self.rung:
            self.climbs += target - self.rung
            self._high_ns = now_ns
            self._enter(target)
            return True
        if self.rung is Rung.FORWARD or pressure >= THRESHOLDS[self.rung] * LEAVE_SHARE:
            self._high_ns = now_ns
            return False
        if now_ns - self._high_ns < HOLD_NS:
            return False
        self._high_ns = now_ns
        self._enter(Rung(self.rung - 1))
        return True

    def treatment(self, cls: ReceiptClass) -> Treatment:
        """What is done to receipts of a class now."""
        return self._treatments[cls]

    def would(self, cls: ReceiptClass) -> Treatment:
        """What would be done to them if nothing ran dry."""
        return self._would[cls]

    def steps(self, cls: ReceiptClass) -> tuple[Treatment, ...]:
        """What pressure may do to receipts of a class, the least first."""
        return self._policies.steps(cls)

    def is_dropped_by_policy(self, cls: ReceiptClass) -> bool:
        """Whether the operator wants none of a class, whatever the pressure."""
        return self._policies.least(cls) is Treatment.DROP

    @property
    def would_refuse(self) -> bool:
        """Whether the pressure is such that receipts are better left with the node."""
        return self.rung is Rung.REFUSE

    @property
    def refuses(self) -> bool:
        """Whether receipts are left with the node."""
        return self.would_refuse and "refuse" not in self._dry_run

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing gives way."""
        return self.rung is Rung.FORWARD

    def _enter(self, rung: Rung) -> None:
        # Asked for each receipt, and changed a few times a minute.
        self.rung = rung
        self._treatments = tuple(
            max(self._policies.least(cls), self._done(cls, self._pressed(cls))) for cls in ReceiptClass
        )
        self._would = tuple(max(self._policies.least(cls), self._pressed(cls)) for cls in ReceiptClass)
        alike = [cls for cls in ReceiptClass if self._treatments[cls] is self._would[cls]]
        self.forwarded = frozenset(cls for cls in alike if self._would[cls] is Treatment.FORWARD)
        self.admitted = frozenset(cls for cls in alike if self._would[cls] <= Treatment.BATCH)

    def _pressed(self, cls: ReceiptClass) -> Treatment:
        """What pressure alone does to a class."""
        if self.rung >= Rung.SHED_GROUP_READ + cls:
            return Treatment.DROP
        *_, highest = (step for step in self.steps(cls) if step < Treatment.DROP)
        return Treatment(min(self.rung, highest))

    def _done(self, cls: ReceiptClass, pressed: Treatment) -> Treatment:
        """The highest treatment up to `pressed` that does not run dry."""
        return max(
            step for step in self.steps(cls) if step <= pressed and LIMITERS.get(step) not in self._dry_run
        )

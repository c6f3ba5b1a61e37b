"""The words every part shares: kinds, classes, outcomes, and the records that are queued and stored.

An *event* is one message, status or error inside a webhook body. A *record* is what is stored, queued
and forwarded as one piece: a whole body, or the part of it that goes to one destination, with the
counts of the events in it.

The order of a record's fields is that of its form on disk (`store/change_codec.py`): new ones come last, with a default.
"""

import enum
import functools
import struct
from typing import Final

import msgspec


class Kind(enum.IntEnum):
    """What is counted in the books; the first seven arrive by webhook, the last one by the push API."""

    __hash__ = int.__hash__
    """An enumeration's own is Python code, and tables by kind are looked at ten times an event; so in those below."""

    MESSAGE = 0
    SENT = 1
    DELIVERED = 2
    READ = 3
    FAILED = 4
    ERROR = 5
    OTHER = 6
    """JSON we do not recognise, statuses and `changes` fields we have no name for: kept and forwarded."""
    SEND = 7

    @property
    def label(self) -> str:
        return self.name.lower()


INBOUND_KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.SEND)


class InboundClass(enum.IntEnum):
    """Priority of what goes to the backend; a lower number goes first."""

    __hash__ = int.__hash__

    MESSAGE = 0
    FAILURE = 1
    RECEIPT = 2

    @property
    def label(self) -> str:
        return self.name.lower()


class SendClass(enum.IntEnum):
    """Priority of what goes to the node; a lower number goes first."""

    __hash__ = int.__hash__

    REPLY = 0
    HIGH = 1
    NORMAL = 2
    BULK = 3

    @property
    def label(self) -> str:
        return self.name.lower()


class Side(enum.IntEnum):
    """Which way a record goes: to the backend, or to the node."""

    INBOUND = 0
    OUTBOUND = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Outcome(enum.IntEnum):
    """How an accepted item ended. Each ends in exactly one; what has none yet is waiting."""

    __hash__ = int.__hash__

    DELIVERED = 0
    """The backend answered 2xx, or the node took the send and named its id."""
    FAILED = 1
    EXPIRED = 2
    CANCELLED = 3
    SHED = 4

    @property
    def label(self) -> str:
        return self.name.lower()


class ReceiptMask(enum.IntEnum):
    """Which receipts of a message its sender wants; each includes those before it, but for ALL."""

    ALL = 0
    NONE = 1
    FAILED = 2
    DELIVERED = 3
    READ = 4
    """Of the phones: delivered and read, not that WhatsApp has it (`sent`)."""


class OnUncertain(enum.IntEnum):
    """What becomes of a send when nobody knows whether the node took it."""

    RESEND = 0
    """It is sent again: at least once."""
    PARK = 1
    """It has failed, and whoever pushed it is told so: at most once."""


class TpsKind(enum.IntEnum):
    """What a number's TPS budget counts."""

    __hash__ = int.__hash__

    RECEIVE = 0
    SEND = 1
    DELIVERED = 2
    READ = 3

    @property
    def label(self) -> str:
        return self.name.lower()


TPS_KIND: Final = {
    Kind.MESSAGE: TpsKind.RECEIVE,
    Kind.DELIVERED: TpsKind.DELIVERED,
    Kind.READ: TpsKind.READ,
}
"""Which arriving events are charged to the budget; `sent`, failures and errors cost nothing."""


class InboundRecord(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A piece of a webhook on its way to the backend."""

    seq: int
    """Order of acceptance, unique for the life of the store."""
    cls: InboundClass
    lane: str
    """The contact (or group) it belongs to; empty where the body names none."""
    body: bytes
    counts: bytes
    """Events by `Kind`, as `pack_counts` packs them."""
    received_ms: int
    """Wall clock, UTC milliseconds."""
    attempts: int = 0
    goes_alone: bool = False
    """The backend refused a batch that it was in, or failed on it twice: it is not put into another."""

    def kind_counts(self) -> tuple[tuple[Kind, int], ...]:
        """The kinds in this record and how many events of each."""
        return unpack_counts(self.counts)


class SendRecord(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A message on its way to the node."""

    seq: int
    id: str
    """Our queue id, given to whoever pushed it."""
    cls: SendClass
    to: str
    is_group: bool
    body: bytes
    accepted_ms: int
    """Wall clock, UTC milliseconds."""
    mask: int = 0
    """Which of its receipts are wanted, a `ReceiptMask`."""
    batch: str = ""
    """The id of the batch that it was pushed in; empty for one pushed alone."""
    not_before_ms: int = 0
    """Wall clock, UTC milliseconds: it waits until then; 0: it does not."""
    expires_ms: int = 0
    """The same: it is not sent any more from then on; 0: it never expires."""
    on_uncertain: int = 0
    """What becomes of it when nobody knows whether the node took it, an `OnUncertain`."""
    attempts: int = 0
    is_uncertain: bool = False
    """An attempt ended without an answer: the node may have taken it."""
    is_scheduled: bool = False
    """Its `not_before_ms` has not come: it is on disk only, and in no line yet."""

    def kind_counts(self) -> tuple[tuple[Kind, int], ...]:
        """One send."""
        return _ONE_SEND


_ONE_SEND: Final = ((Kind.SEND, 1),)


_COUNTS: Final = struct.Struct(f"<{len(INBOUND_KINDS)}I")


_ONE_OF: Final = tuple(
    _COUNTS.pack(*(int(kind is other) for other in INBOUND_KINDS)) for kind in INBOUND_KINDS
)


def pack_counts(kinds: list[Kind]) -> bytes:
    """Count `kinds` into one little-endian u32 per inbound kind, the form a record carries."""
    if len(kinds) == 1:
        return _ONE_OF[kinds[0]]
    counts = [0] * len(INBOUND_KINDS)
    for kind in kinds:
        counts[kind] += 1
    return _COUNTS.pack(*counts)


@functools.lru_cache(maxsize=1024)
def unpack_counts(counts: bytes) -> tuple[tuple[Kind, int], ...]:
    """The kinds in packed `counts` that are present, and how many events of each.

    Nearly all records have the counts of one before them: remembered it costs a tenth, and each event pays it four times.
    """
    return tuple((Kind(kind), n) for kind, n in enumerate(_COUNTS.unpack(counts)) if n)

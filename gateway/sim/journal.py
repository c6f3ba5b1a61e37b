"""What the node saw, for the checker: every send it took, every callback it made, in its own clock."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.events import Kind


@dataclass(slots=True)
class SendEntry:
    """A send the node took (it answered 201, or meant to)."""

    at_ns: int
    id: str
    to: str
    text: str
    """The text body: traffic writes its own mark there, so sends can be told apart from end to end."""
    members: int
    is_answered: bool = True
    """False: taken, but a fault kept the answer back, so a resend is right and makes a duplicate."""


@dataclass(slots=True)
class Callback:
    """One event on its way to the webhook: one item of `messages`, `statuses` or `errors`."""

    kind: Kind
    id: str
    participant: str
    """The customer, or the group member, or the group itself for its `sent`."""
    item: dict[str, Any]
    contact: dict[str, Any] | None = None
    made_ns: int = 0
    """When it was made at WhatsApp."""
    served_ns: int = 0
    """When WhatsApp gave it to the node, a slot of the number's TPS each."""
    first_attempt_ns: int = -1
    acked_ns: int = -1
    """The first 200; -1: none yet."""
    ack_latency_ns: int = -1
    """Of the attempt that got the 200."""
    attempts: int = 0

    @property
    def array(self) -> str:
        """The array of the body it belongs to; also what tells callback types apart."""
        if self.kind is Kind.MESSAGE:
            return "messages"
        return "errors" if self.kind is Kind.ERROR else "statuses"


@dataclass(frozen=True, slots=True)
class BadAttempt:
    """A callback attempt that was answered anything but 200, or not at all."""

    begin_ns: int
    end_ns: int
    reason: str
    """`timeout`, `connection`, or the HTTP status."""


@dataclass(slots=True)
class Journal:
    """Grows with the run, for the checker needs all of it: about 0.6 kB an event."""

    sends: list[SendEntry] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    bad_attempts: list[BadAttempt] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    """Sends not taken, by `HTTP status/code`."""
    reads_marked: list[str] = field(default_factory=list)
    lost_callbacks: int = 0
    """Events that found the callback queue full."""
    callback_queue_max: int = 0
    in_flight_max: int = 0
    duplicates_made: int = 0

"""What the backend saw, for the checker: every event it received, every reply and push it gave."""

from dataclasses import dataclass, field

from gateway.events import Kind


@dataclass(frozen=True, slots=True)
class Received:
    """One event in a body that the backend answered 200."""

    at_ns: int
    kind: Kind
    id: str
    participant: str
    webhook: str
    """`messages` or `events`: which of the two URLs it came to."""


@dataclass(slots=True)
class Pushed:
    """One push to the gateway and what became of the call."""

    at_ns: int
    text: str
    """The mark in the text body, by which it is found again at the node."""
    status: int = 0
    """HTTP; 0: no answer."""
    id: str = ""
    """The queue id of a 2xx."""

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Ledger:
    """Grows with the run. An answer counts as given when it left the handler."""

    received: list[Received] = field(default_factory=list)
    pushes: list[Pushed] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    """Texts of instant replies, in the order given."""
    refused: int = 0
    """Requests answered with an error on purpose."""

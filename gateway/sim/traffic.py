"""Traffic as data: what a scenario does and when. `timeline.py` draws it into single steps."""

from dataclasses import dataclass

from gateway.sim.backend import Outage
from gateway.sim.receipts import ReceiptModel


@dataclass(frozen=True, slots=True)
class Inbound:
    """Customers write at `per_s` (Poisson), each time one of `contacts`."""

    begin_s: float
    end_s: float
    per_s: float
    contacts: int = 50


@dataclass(frozen=True, slots=True)
class Pushes:
    """The backend pushes at `per_s` (Poisson) in a class, each time to one of `contacts`."""

    begin_s: float
    end_s: float
    per_s: float
    priority: str = "normal"
    contacts: int = 200


@dataclass(frozen=True, slots=True)
class Burst:
    """The backend pushes `count` messages at once, each to another contact."""

    at_s: float
    count: int
    priority: str = "bulk"


@dataclass(frozen=True, slots=True)
class GroupStorm:
    """The backend pushes one message to each of `groups` of `members` at once."""

    at_s: float
    groups: int
    members: int
    priority: str = "normal"


@dataclass(frozen=True, slots=True)
class BackendOutage:
    """The backend refuses with 503, or closes its socket."""

    begin_s: float
    end_s: float
    how: Outage = "close"


@dataclass(frozen=True, slots=True)
class BackendTrouble:
    """The backend is slow, or answers a share of its requests 500, for a while."""

    begin_s: float
    end_s: float
    latency_s: float = 0.0
    error_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeFault:
    """One switch of `Faults` is set for a while, then set back to its default."""

    begin_s: float
    end_s: float
    switch: str
    value: float


@dataclass(frozen=True, slots=True)
class TokenExpiry:
    """The node's tokens end at once, long before their seven days."""

    at_s: float


Action = Inbound | Pushes | Burst | GroupStorm | BackendOutage | BackendTrouble | NodeFault | TokenExpiry


@dataclass(frozen=True, slots=True)
class Phase:
    """A named part of a scenario; `storm` is the one whose message latency is a promise."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Played for the length of its phases, then until nothing waits, `settle_s` at most."""

    name: str
    summary: str
    phases: tuple[Phase, ...]
    actions: tuple[Action, ...]
    settle_s: float
    receipts: ReceiptModel

    @property
    def length_s(self) -> float:
        return self.phases[-1].end_s

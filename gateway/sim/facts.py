"""What a run left behind, and the few sums over it that checker and report share. Pure.

All times are one clock: node and backend live in one process, so a passage can be measured end to end.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.clock import NS_PER_S
from gateway.events import Kind
from gateway.sim.exposition import Exposition
from gateway.sim.journal import Journal
from gateway.sim.ledger import Ledger

GRACE_NS: Final = 8 * NS_PER_S
"""After the backend or the gateway is back: what waited must drain, and the breaker's probe comes first."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin_ns` to `end_ns`."""

    begin_ns: int
    end_ns: int

    def overlaps(self, begin_ns: int, end_ns: int) -> bool:
        return begin_ns <= self.end_ns and end_ns >= self.begin_ns


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway's metrics at one moment."""

    at_ns: int
    metrics: Exposition


@dataclass(frozen=True, slots=True)
class Passage:
    """A message on its way to the backend."""

    made_ns: int
    served_ns: int
    received_ns: int

    @property
    def gateway_ns(self) -> int:
        """Through the gateway: from its slot at the number to the backend, callback queue included."""
        return self.received_ns - self.served_ns

    @property
    def whole_ns(self) -> int:
        """Since the customer wrote."""
        return self.received_ns - self.made_ns


@dataclass(slots=True)
class Facts:
    """Handed to the checker and the report when a run is over."""

    tps: int
    journal: Journal = field(default_factory=Journal)
    ledger: Ledger = field(default_factory=Ledger)
    samples: list[Sample] = field(default_factory=list)
    push_states: dict[str, str] = field(default_factory=dict)
    """Queue id to `state`, for accepted pushes the node never saw; "" where the gateway knows nothing."""
    phases: dict[str, Span] = field(default_factory=dict)
    outages: list[Span] = field(default_factory=list)
    """Of the backend."""
    restarts: list[Span] = field(default_factory=list)
    """From the kill until ready again."""
    exit_codes: list[int] = field(default_factory=list)
    """Of gateways that were told to stop; a killed one is a restart."""
    lost_messages: int = 0
    """Lost for ever at WhatsApp's end, its backlog full."""
    wall_s: float = 0.0
    stall_ns: int = 0
    """The longest time for which this process, the node among it, stood still: what came meanwhile counts as one moment."""

    @property
    def last(self) -> Exposition:
        """The last scrape; an empty one where there is none."""
        return self.samples[-1].metrics if self.samples else Exposition("")

    def waiting(self, kind: Kind) -> int:
        """Events of the kind that waited at the end."""
        return round(self.last.total("gateway_waiting", {"kind": kind.label}))

    def outcome(self, kind: Kind, outcome: str) -> int:
        """Events of the kind that ended so in this run; the counters live as long as the store."""
        where = {"kind": kind.label, "outcome": outcome}
        before = self.samples[0].metrics.total("gateway_outcome_total", where) if self.samples else 0.0
        return round(self.last.total("gateway_outcome_total", where) - before)

    def is_disturbed(self, begin_ns: int, end_ns: int) -> bool:
        """Whether that time met an outage of the backend or a restart, or their aftermath."""
        return any(
            Span(span.begin_ns, span.end_ns + GRACE_NS).overlaps(begin_ns, end_ns)
            for span in (*self.outages, *self.restarts)
        )

    def passages(self, span: Span | None = None) -> list[Passage]:
        """First arrivals of messages served in `span` (None: ever), those of a disturbed time left out.

        A message that was late before the disturbance began stays in: it had a second of calm to pass.
        """
        arrived: dict[str, int] = {}
        for event in self.ledger.received:
            if event.kind is Kind.MESSAGE:
                arrived.setdefault(event.id, event.at_ns)
        return [
            Passage(callback.made_ns, callback.served_ns, arrived[callback.id])
            for callback in self.journal.callbacks
            if callback.kind is Kind.MESSAGE
            and callback.id in arrived
            and (span is None or span.begin_ns <= callback.served_ns < span.end_ns)
            and not self.is_disturbed(
                callback.served_ns, min(arrived[callback.id], callback.served_ns + NS_PER_S)
            )
        ]


def percentile(values: Iterable[int], share: float) -> int:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0

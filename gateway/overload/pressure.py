"""One figure for how hard the gateway is pressed, in [0, 1], and what presses it.

Each cause is a figure of its own; the highest is the pressure. Times become figures by a cube root: a cause is felt
after a thousandth of its limit (0.1), and each further step takes ever longer, so what costs nobody anything (a batch)
comes at once and what loses something comes late. Fills become figures in a straight line between two shares.

Waiting is the *least* wait in an interval, not the mean (CoDel, RFC 8289, 3.1): a burst that is worked off makes some
wait long, a standing queue makes all of them. Where nothing came through at all, it is the age of what waits.
"""

import enum
import math
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.clock import NS_PER_MS

INTERVAL_NS: Final = 100 * NS_PER_MS
"""Between two looks; CoDel's interval, a few round trips to a backend."""


class Cause(enum.Enum):
    """What may press the gateway."""

    RECEIPT_WAIT = "receipt_wait"
    """Receipts wait for the backend; measured against GATEWAY_RECEIPTS_WAIT_MAX."""
    MESSAGE_WAIT = "message_wait"
    """Messages wait for the backend, which receipts keep busy too."""
    STORE_LAG = "store_lag"
    """A webhook waits for the disk, and the node for us."""
    LOOP_LAG = "loop_lag"
    """The process has more to do than its core can."""
    QUEUE = "queue"
    """Places in memory are full of receipts; the rest waits on disk."""
    DISK = "disk"
    """GATEWAY_STORE_MAX_BYTES is being used up."""
    MEMORY = "memory"
    """The limit of the control group is near."""


GIVES_UP_DETAIL: Final = 0.45
"""What may press receipts together, but is no reason to lose one: shedding begins above it."""

LAG_LIMIT_MS: Final = 10_000
"""Of disk and loop: what waits so long for us gives up (the time-out of the node is not documented, see there)."""
LAG_FREE_MS: Final = 100
"""A disk or a core that is busy now and then is no overload."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one interval. Times in ms, fills as shares of what there is."""

    receipt_wait_ms: float = 0.0
    """The least wait of a receipt that left the queue; where none left it, the age of the oldest."""
    message_wait_ms: float = 0.0
    store_lag_ms: float = 0.0
    """The least time a webhook waited for its commit."""
    loop_lag_ms: float = 0.0
    """How late the look itself was, and the one before it: the less of both."""
    queue_fill: float = 0.0
    disk_fill: float = 0.0
    memory_fill: float = 0.0


class Pressure:
    """The figure, from one sample after the other."""

    def __init__(self, receipts_wait_max_ms: int) -> None:
        """A receipt that waits `receipts_wait_max_ms` (1 or more) is worth nothing to anybody any more."""
        assert receipts_wait_max_ms >= 1, receipts_wait_max_ms
        self._receipts_wait_max_ms = receipts_wait_max_ms
        self.causes: dict[Cause, float] = dict.fromkeys(Cause, 0.0)

    @property
    def figure(self) -> float:
        """The pressure, in [0, 1]."""
        return max(self.causes.values())

    @property
    def main_cause(self) -> Cause | None:
        """What presses most; None while nothing does."""
        cause = max(self.causes, key=self.causes.__getitem__)
        return cause if self.causes[cause] > 0 else None

    def feed(self, sample: Sample) -> float:
        """Take note of an interval, and return the pressure now."""
        self.causes = dict(causes_of(sample, self._receipts_wait_max_ms))
        return self.figure


def causes_of(sample: Sample, receipts_wait_max_ms: int) -> Mapping[Cause, float]:
    """The figure of each cause, in [0, 1]."""
    return {
        Cause.RECEIPT_WAIT: of_time(sample.receipt_wait_ms, receipts_wait_max_ms),
        Cause.MESSAGE_WAIT: min(GIVES_UP_DETAIL, of_time(sample.message_wait_ms, receipts_wait_max_ms)),
        Cause.STORE_LAG: of_time(sample.store_lag_ms - LAG_FREE_MS, LAG_LIMIT_MS),
        Cause.LOOP_LAG: of_time(sample.loop_lag_ms - LAG_FREE_MS, LAG_LIMIT_MS),
        Cause.QUEUE: of_fill(sample.queue_fill, 0.25, 1.0) * GIVES_UP_DETAIL / 2,
        Cause.DISK: of_fill(sample.disk_fill, 0.5, 0.95),
        Cause.MEMORY: of_fill(sample.memory_fill, 0.6, 0.95),
    }


def of_time(time_ms: float, limit_ms: float) -> float:
    """The cube root of a time's share of its limit, in [0, 1]."""
    return math.cbrt(min(1.0, max(0.0, time_ms) / limit_ms))


def of_fill(share: float, free: float, full: float) -> float:
    """0 up to the share `free`, 1 from the share `full` on, and straight between them."""
    return min(1.0, max(0.0, (share - free) / (full - free)))

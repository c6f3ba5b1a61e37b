"""How customers react to a message: who gets it, who reads it, and how long that takes.

Delays are lognormal, given by their median and sigma: most come soon, a few very late. The defaults are
the ones the design was studied with.
"""

import math
import random
from dataclasses import dataclass

from gateway.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class ReceiptModel:
    """Ratios in [0, 1] per recipient (per member in a group) and delays in seconds.

    Whoever reads has received, so `read_ratio` is at most `delivered_ratio`, and a read is never
    before its delivered. `time_scale` multiplies every delay: 0.001 turns seconds into milliseconds.
    """

    delivered_ratio: float = 0.95
    delivered_median_s: float = 2.0
    delivered_sigma: float = 0.8
    read_ratio: float = 0.70
    read_median_s: float = 60.0
    read_sigma: float = 1.2
    failed_ratio: float = 0.0
    """Sends that end in a `failed` status and cause no receipts."""
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        assert 0.0 <= self.read_ratio <= self.delivered_ratio <= 1.0, (self.read_ratio, self.delivered_ratio)
        assert 0.0 <= self.failed_ratio <= 1.0, self.failed_ratio
        assert self.delivered_median_s > 0.0, self.delivered_median_s
        assert self.read_median_s > 0.0, self.read_median_s
        assert self.time_scale >= 0.0, self.time_scale

    def events_per_send(self, members: int = 1) -> float:
        """What one send costs in the end, itself included: 2.65 by default, 423.4 for 256 members."""
        return 1.0 + members * (self.delivered_ratio + self.read_ratio)

    def draw_is_failed(self, rng: random.Random) -> bool:
        """Whether one send fails at WhatsApp's end."""
        return self.failed_ratio > 0.0 and rng.random() < self.failed_ratio

    def draw_delays_ns(self, rng: random.Random) -> tuple[int, int]:
        """Delays of one recipient's delivered and read after the send was served; -1 for "never".

        One uniform draw decides both, so that a reader has always received. About 1.5 µs.
        """
        fate = rng.random()
        if fate >= self.delivered_ratio:
            return -1, -1
        scale = self.time_scale * NS_PER_S
        delivered_ns = int(
            rng.lognormvariate(math.log(self.delivered_median_s), self.delivered_sigma) * scale
        )
        if fate >= self.read_ratio:
            return delivered_ns, -1
        read_ns = int(rng.lognormvariate(math.log(self.read_median_s), self.read_sigma) * scale)
        return delivered_ns, max(read_ns, delivered_ns)

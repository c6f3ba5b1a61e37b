"""The first growth of a limit: as fast as answers come, until they take longer (RFC 9406, HyStart++).

One more for each success doubles the limit in a round trip. A destination of 2 s would need minutes to get forty requests at
once if it got one more a round trip. What it must not do is run far past what the destination works on: so of each
*round*, which ends with the answer to a request that went after it had begun, the first few answers are compared with
those of the quickest one before, by the means of their logarithms as in `congestion.py`. Once it is over it does not begin
again: after trouble, growth is careful.
"""

import enum
import math
from typing import Final

SAMPLES: Final = 8
"""The first answers of a round, that are looked at: of fewer the mean says little. A round has so many at least."""

GROWN: Final = math.log(1.5)
"""A round whose answers take so much longer ends it. Chance may do so too; then what follows is slower, not wrong."""


class Pace(enum.Enum):
    """What the limit should do after a success."""

    GROW = "grow"
    HALVE = "halve"
    """The last doubling was one too many, and this is over."""


class SlowStart:
    """The rounds of one destination. Pure."""

    def __init__(self) -> None:
        self.is_over = False
        self.quickest: float | None = None
        """Mean logarithm of the time an answer takes in the quickest round; None before the first has ended."""
        self._ends_after = 0
        """Number of the last request that had gone when the round began."""
        self._sum = 0.0
        self._count = 0

    def end(self) -> None:
        """The limit changes for another reason."""
        self.is_over = True

    def add(self, number: int, latency_ns: int, entered: int) -> Pace:
        """A success of request `number`; so far `entered` have gone."""
        if number > self._ends_after and self._count >= SAMPLES:
            self._ends_after = entered
            self._sum, self._count = 0.0, 0
        self._sum += math.log(max(1, latency_ns))
        self._count += 1
        if self._count != SAMPLES:
            return Pace.GROW
        mean = self._sum / self._count
        if self.quickest is None or mean < self.quickest:
            self.quickest = mean
        elif mean > self.quickest + GROWN:
            self.is_over = True
            return Pace.HALVE
        return Pace.GROW

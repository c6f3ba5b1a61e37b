"""The histogram as a sorted list of values beside the list of bounds."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

BOUNDS_NS: Final = [1000 * us for us in range(1, 17)] + [
    1000 * (16 + k) * 2**power for power in range(28) for k in range(1, 17)
]
"""Upper bounds of the buckets, inclusive; what is longer than the last one is in the last bucket."""


class HistogramModel:
    def __init__(self) -> None:
        self.values: list[int] = []

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def sum_ns(self) -> int:
        return sum(self.values)

    @property
    def max_ns(self) -> int:
        return max(self.values, default=0)

    def record_ns(self, ns: int) -> None:
        self.values.append(max(ns, 0))

    def record_many_ns(self, ns: int, n: int) -> None:
        self.values += [max(ns, 0)] * n

    def _upper_ns(self, ns: int) -> int:
        """The bound of the bucket that holds `ns`; none is above the maximum, the last one is the maximum."""
        bucket = bisect_left(BOUNDS_NS, ns)
        return self.max_ns if bucket >= len(BOUNDS_NS) - 1 else min(BOUNDS_NS[bucket], self.max_ns)

    def quantile_ns(self, q: float) -> int:
        if not self.values:
            return 0
        rank = max(math.ceil(q * len(self.values)), 1)
        return self._upper_ns(sorted(self.values)[rank - 1])

    def cumulative(self, bounds_ns: Iterable[int]) -> list[int]:
        uppers_ns = [self._upper_ns(ns) for ns in self.values]
        return [sum(upper_ns <= bound_ns for upper_ns in uppers_ns) for bound_ns in bounds_ns]

    def merge(self, other: "HistogramModel") -> None:
        self.values += other.values

    def clear(self) -> None:
        self.values.clear()

"""Latency histogram with 6.25 % error."""

from collections.abc import Iterable
from typing import final

@final
class LatencyHistogram:
    """Counts spans of time in 464 log-linear buckets, 3.7 kB.

    A bucket is at most 1 µs or 6.25 % of its lower bound wide, whichever is more, up to 2**32 µs (71 minutes).
    Longer spans share the last bucket. A negative span, as from a wall clock that stepped back, counts as 0.
    """

    def __init__(self) -> None:
        """Make an empty one."""

    @property
    def count(self) -> int:
        """Spans recorded, exact."""

    @property
    def sum_ns(self) -> int:
        """Their sum, exact, however large."""

    @property
    def max_ns(self) -> int:
        """The longest, exact; 0 when empty."""

    def record_ns(self, ns: int) -> None:
        """Count one span. O(1)."""

    def record_many_ns(self, ns: int, n: int) -> None:
        """Count `n` spans of `ns` each; a negative `n`, or a count above 2**62, raises ValueError. O(1)."""

    def quantile_ns(self, q: float) -> int:
        """A span that at least `q` (0..1, else ValueError) of all are not above; 0 when empty.

        It is the upper bound of the bucket that holds the quantile, or the maximum if that is lower:
        never below the true quantile, and above it by less than the bucket's width. O(buckets).
        """

    def cumulative(self, bounds_ns: Iterable[int]) -> list[int]:
        """For each bound, how many spans are at or below it; bounds ascend from 0, else ValueError.

        Exact at or above the maximum and at bounds of `(16 + k) * 2**j` µs with `k` in 0..16 (and whole µs up to 16).
        A bucket that a bound cuts counts as above it. O(buckets + bounds).
        """

    def merge(self, other: LatencyHistogram) -> None:
        """Add all that `other` has counted; a count above 2**62 raises OverflowError. O(buckets)."""

    def clear(self) -> None:
        """Forget everything."""

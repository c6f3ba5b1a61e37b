"""Exact sliding count of what happened in the last `window_ns`."""

from typing import Final, Self, final

NEVER_NS: Final[int]
"""2**63 - 1: the time that never comes."""

@final
class SlidingWindow:
    """Counts costs recorded in the half-open span `(now - window_ns, now]`.

    A cost is out exactly `window_ns` after it was recorded, and still in one nanosecond before.
    Time never runs back: a `now_ns` before the newest one seen by any method is taken as the newest.
    `now_ns` above 4e18 raises ValueError in every method.
    """

    def __new__(cls, window_ns: int, capacity: int) -> Self:
        """Make an empty window with room for `capacity` entries of 16 bytes, allocated now.

        `window_ns` is 1..1e18, `capacity` 1..2**20; anything else raises ValueError.
        Costs recorded at one `now_ns` share an entry.
        """

    @property
    def window_ns(self) -> int:
        """Length of the window."""

    @property
    def capacity(self) -> int:
        """The most entries it holds; size it at the events you expect in one window."""

    @property
    def absorbed(self) -> int:
        """How often a cost joined the newest entry because all were taken; above 0, `capacity` is too low."""

    def record(self, now_ns: int, cost: int) -> None:
        """Count `cost` (0..2**31-1, else ValueError) from now until `now_ns + window_ns`. Amortised O(1).

        When all entries are taken, the newest one takes the cost and moves to `now_ns`.
        The count is then too high for a while, never too low.
        Costs that sum to more than 2**62 without one empty window raise OverflowError.
        """

    def used(self, now_ns: int) -> int:
        """Sum of the costs in the window. Amortised O(1)."""

    def free_at_ns(self, now_ns: int, cost: int, limit: int) -> int:
        """Earliest time, `now_ns` or later, at which `cost` more fits with `used() <= limit`.

        `now_ns` itself means it fits now; `NEVER_NS` that `cost` alone is above `limit`.
        Nothing is recorded. `cost` is 0..2**31-1, else ValueError. O(1) with room, O(log entries) without.
        """

    def __len__(self) -> int:
        """Entries held when a method was last called with a time."""

"""What a number did in the last hour: events of each kind, second by second. Pure.

A ring of 3600 whole seconds a kind, and one more for the second that is running: 4 x 3601 x 4 bytes, 62 kB as Python keeps them.
Seconds are counted from the start, so a span of the last 60 s is exactly the 60 that have ended. An entry is one
array access; after a pause the ring is cleared once, at most 3601 slots. Nothing happens while nothing happens:
a question about a time beyond the newest second knows that nothing came.
"""

from array import array
from typing import Final

from gateway.clock import NS_PER_S
from gateway.events import TpsKind

HOUR_S: Final = 3600
SPANS_S: Final = (60, 300, HOUR_S)
"""What reports show beside the second of now."""

_SLOTS: Final = HOUR_S + 1
_COUNT_MAX: Final = 2**32 - 1
"""Of one kind in one second; beyond it the count stays there."""


class SecondsHistory:
    """Counts per second and kind of the last hour, in bounded memory. A `kind` is a `TpsKind`, or below `rows`."""

    def __init__(self, now_ns: int, rows: int = len(TpsKind)) -> None:
        self._start_ns = now_ns
        self._newest_s = 0
        self._counts = [array("I", bytes(4 * _SLOTS)) for _ in range(rows)]

    def record(self, kind: int, count: int, now_ns: int) -> None:
        """Enter `count` events that happened at `now_ns`; one of an earlier second of the last hour counts there."""
        assert count >= 0, count
        second = (now_ns - self._start_ns) // NS_PER_S
        if second > self._newest_s:
            self._advance(second)
        elif second < max(0, self._newest_s - HOUR_S):
            return  # older than anything a span can ask for
        counts = self._counts[kind]
        slot = second % _SLOTS
        counts[slot] = min(counts[slot] + count, _COUNT_MAX)

    def count(self, kind: int, seconds: int, now_ns: int) -> int:
        """Events in the last `seconds` (1 to 3600) whole seconds before the one that is running."""
        assert 1 <= seconds <= HOUR_S, seconds
        end = self._second(now_ns)
        first, last = max(0, end - seconds), min(end, self._newest_s + 1)
        # What lies more than an hour before the newest entry has been overwritten.
        first = max(first, self._newest_s - HOUR_S)
        if first >= last:
            return 0
        counts, begin, stop = self._counts[kind], first % _SLOTS, (last - 1) % _SLOTS + 1
        if begin < stop:
            return sum(counts[begin:stop])
        return sum(counts[begin:]) + sum(counts[:stop])

    def observed_s(self, seconds: int, now_ns: int) -> int:
        """How many of the last `seconds` whole seconds lie after the start."""
        return min(seconds, self._second(now_ns))

    def rate_per_s(self, kind: int, seconds: int, now_ns: int) -> float:
        """Events a second over the last `seconds` whole seconds, or over those since the start if it is nearer."""
        observed_s = self.observed_s(seconds, now_ns)
        return self.count(kind, seconds, now_ns) / observed_s if observed_s else 0.0

    def _second(self, now_ns: int) -> int:
        """The second that is running."""
        return max(0, (now_ns - self._start_ns) // NS_PER_S)

    def _advance(self, second: int) -> None:
        """Make `second` the newest, with nothing in it and in those that were skipped."""
        skipped = min(second - self._newest_s, _SLOTS)
        for passed in range(second - skipped + 1, second + 1):
            for counts in self._counts:
                counts[passed % _SLOTS] = 0
        self._newest_s = second

"""The token bucket as a level in exact fractions of a token."""

import math
from fractions import Fraction

NEVER_NS = 2**63 - 1


class BucketModel:
    """`level` is in tokens, negative in debt, and true at `newest_ns`."""

    def __init__(self, interval_ns: int, burst_ns: int, debt_max_ns: int, start_ns: int) -> None:
        self.interval_ns = interval_ns
        self.burst_ns = burst_ns
        self.debt_max_ns = debt_max_ns
        self.newest_ns = start_ns
        self.level = Fraction(0)

    @property
    def level_max(self) -> Fraction:
        return 1 + Fraction(self.burst_ns, self.interval_ns)

    @property
    def level_min(self) -> Fraction:
        return -Fraction(self.debt_max_ns, self.interval_ns)

    def _level_at(self, now_ns: int) -> Fraction:
        grown = Fraction(max(now_ns - self.newest_ns, 0), self.interval_ns)
        return min(self.level + grown, self.level_max)

    def _advance(self, now_ns: int) -> None:
        self.level = self._level_at(now_ns)
        self.newest_ns = max(self.newest_ns, now_ns)

    def debit(self, now_ns: int, cost: int) -> None:
        self._advance(now_ns)
        self.level = max(self.level - cost, self.level_min)

    def ready_at_ns(self, now_ns: int, cost: int) -> int:
        if cost > self.level_max:
            return NEVER_NS
        missing = cost - self._level_at(now_ns)
        if missing <= 0:
            return now_ns
        return max(now_ns, self.newest_ns) + math.ceil(missing * self.interval_ns)

    def try_take(self, now_ns: int, cost: int) -> int:
        ready_ns = self.ready_at_ns(now_ns, cost)
        if ready_ns == now_ns:
            self.debit(now_ns, cost)
        return ready_ns

    def debt_ns(self, now_ns: int) -> int:
        return max(math.ceil(-self._level_at(now_ns) * self.interval_ns), 0)

    def set_interval_ns(self, now_ns: int, interval_ns: int) -> None:
        """Keep the level, rounded down to what grows in a whole nanosecond."""
        self._advance(now_ns)
        self.interval_ns = interval_ns
        level = Fraction(math.floor(self.level * interval_ns), interval_ns)
        self.level = max(min(level, self.level_max), self.level_min)

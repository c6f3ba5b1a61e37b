"""The TPS budget as a list of everything that happened, and a bucket whose level is an exact fraction."""

import math
from fractions import Fraction

from gateway.budget.tps import BURST_MIN_NS, DEBT_MAX_NS, WINDOW_NS
from gateway.clock import NS_PER_S
from gateway.events import TpsKind

NEVER_NS = 2**63 - 1


class TpsModel:
    """Each question adds up all that ever happened."""

    def __init__(self, tps: int, costs: dict[TpsKind, int], headroom_percent: int, start_ns: int) -> None:
        self.tps = tps
        self.costs = costs
        self.interval_ns = math.floor(Fraction(NS_PER_S * 100, tps * (100 - headroom_percent))) + 1
        saved_ns = max(BURST_MIN_NS, self.interval_ns * max(1, costs[TpsKind.SEND]))
        self.most = 1 + Fraction(saved_ns, self.interval_ns)
        """Tokens that idle time saves up: one, and one send more or a few milliseconds' worth."""
        self.opens_at_ns = start_ns + WINDOW_NS
        self.events: list[tuple[int, TpsKind, int]] = []
        self._newest_ns = start_ns
        """The latest time a question was asked; the window knows no earlier one any more."""
        self._kinds: dict[TpsKind, list[tuple[int, int]]] = {kind: [] for kind in TpsKind}
        self._kind_newest_ns = dict.fromkeys(TpsKind, start_ns)
        self._level = Fraction(0)
        self._level_at_ns = start_ns

    def charge(self, kind: TpsKind, count: int, now_ns: int) -> None:
        cost = count * self.costs[kind]
        if cost:
            self._newest_ns = max(self._newest_ns, now_ns)
            lowest = -Fraction(DEBT_MAX_NS, self.interval_ns)
            self._level = max(self._level_on(now_ns) - cost, lowest)
            self._level_at_ns = max(self._level_at_ns, now_ns)
        self.events.append((self._newest_ns, kind, count))
        newest_ns = self._kind_newest_ns[kind] = max(self._kind_newest_ns[kind], now_ns)
        self._kinds[kind].append((newest_ns, count))

    def _level_on(self, now_ns: int) -> Fraction:
        grown = Fraction(max(0, now_ns - self._level_at_ns), self.interval_ns)
        return min(self._level + grown, self.most)

    def in_window(self, now_ns: int) -> int:
        """Costs in the window that ends now."""
        return sum(
            count * self.costs[kind]
            for at_ns, kind, count in self.events
            if now_ns - WINDOW_NS < at_ns <= now_ns
        )

    def used(self, kind: TpsKind, now_ns: int) -> int:
        """Events of a kind in the last second."""
        newest_ns = self._kind_newest_ns[kind] = max(self._kind_newest_ns[kind], now_ns)
        return sum(count for at_ns, count in self._kinds[kind] if newest_ns - NS_PER_S < at_ns)

    def _has_room(self, now_ns: int) -> bool:
        return self.in_window(now_ns) + self.costs[TpsKind.SEND] <= self.tps

    def free_at_ns(self, now_ns: int) -> int:
        """When a send fits into both, if nothing else happens; `now_ns` itself when it does now."""
        self._newest_ns = max(self._newest_ns, now_ns)
        newest_ns = self._newest_ns
        missing = self.costs[TpsKind.SEND] - self._level_on(now_ns)
        bucket_ns = now_ns
        if missing > 0:
            bucket_ns = max(now_ns, self._level_at_ns) + math.ceil(missing * self.interval_ns)
        window_ns = now_ns
        if not self._has_room(newest_ns):
            leaving = sorted(
                at_ns + WINDOW_NS for at_ns, _, _ in self.events if at_ns + WINDOW_NS > newest_ns
            )
            window_ns = next(at_ns for at_ns in leaving if self._has_room(at_ns))
        return max(now_ns, self.opens_at_ns, bucket_ns, window_ns)

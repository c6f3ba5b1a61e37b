"""The sliding window as a list that is summed."""

NEVER_NS = 2**63 - 1


class WindowModel:
    """Entries are `(at_ns, cost)`; those a whole window old are forgotten."""

    def __init__(self, window_ns: int, capacity: int) -> None:
        self.window_ns = window_ns
        self.capacity = capacity
        self.newest_ns = 0
        self.entries: list[tuple[int, int]] = []

    def _advance(self, now_ns: int) -> None:
        self.newest_ns = max(self.newest_ns, now_ns)
        self.entries = [entry for entry in self.entries if self.newest_ns - self.window_ns < entry[0]]

    def record(self, now_ns: int, cost: int) -> None:
        self._advance(now_ns)
        if cost == 0:
            return
        is_same_time = bool(self.entries) and self.entries[-1][0] == self.newest_ns
        is_full = len(self.entries) == self.capacity
        if is_same_time or is_full:
            _, cost_before = self.entries.pop()
            cost += cost_before
        self.entries.append((self.newest_ns, cost))

    def used(self, now_ns: int) -> int:
        self._advance(now_ns)
        return sum(cost for _, cost in self.entries)

    def free_at_ns(self, now_ns: int, cost: int, limit: int) -> int:
        """Try every time at which something leaves."""
        self._advance(now_ns)
        if cost > limit:
            return NEVER_NS
        if self.used(now_ns) + cost <= limit:
            return now_ns
        for leaves_ns in (at_ns + self.window_ns for at_ns, _ in self.entries):
            still_in = sum(c for at_ns, c in self.entries if at_ns > leaves_ns - self.window_ns)
            if still_in + cost <= limit:
                return leaves_ns
        raise AssertionError((now_ns, cost, limit))

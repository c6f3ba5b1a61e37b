"""The budget of one number: an exact one-second window, and a bucket that smooths what goes out.

Everything that happens is counted, sends are granted only into free room:
- the *window* is the hard limit: with the send, at most `tps` events in the second that ends now;
- the *bucket* runs at `tps` less a headroom and is debited by everything too, so that receipts which sends
  have caused slow the next ones down. Receipts come at random, and a queue run at 100 % never drains.

Nothing is known about the second before a start, so the first second grants nothing.
"""

from typing import Final

from gateway._fast.bucket import TokenBucket
from gateway._fast.window import SlidingWindow
from gateway.clock import NS_PER_S
from gateway.events import TpsKind

WINDOW_NS: Final = NS_PER_S + 5_000_000
"""The second of the limit, and 5 ms for the way between our clock's reading and the node's.

It costs 0.5 % of the rate where there is no headroom, and nothing where there is."""

DEBT_MAX_NS: Final = 5 * NS_PER_S
"""Most time the bucket may be in debt: after a flood of arrivals sends wait this long at most,
beyond what the window itself demands."""


class TpsBudget:
    """What the number has used, and when it may send. Pure: time comes in as `now_ns`."""

    def __init__(self, tps: int, costs: dict[TpsKind, int], headroom_percent: int, now_ns: int) -> None:
        """`tps` events a second, each kind weighing `costs` of them."""
        self.tps = tps
        self._costs = costs
        rate_per_s = tps * (100 - headroom_percent) / 100
        # Rounded up: the error of one part in a million is on the safe side.
        interval_ns = int(NS_PER_S / rate_per_s) + 1
        # Twice a second's worth of events before arrivals share an entry (which counts them longer, not shorter).
        capacity = max(1024, 2 * tps)
        self._window = SlidingWindow(WINDOW_NS, capacity)
        # Nothing is saved up beyond one send: a burst of sends is a burst of receipts.
        burst_ns = max(0, costs[TpsKind.SEND] - 1) * interval_ns
        self._bucket = TokenBucket(interval_ns, burst_ns, DEBT_MAX_NS, now_ns)
        self._kinds = {kind: SlidingWindow(NS_PER_S, capacity) for kind in TpsKind}
        self._opens_at_ns = now_ns + WINDOW_NS
        self.totals = dict.fromkeys(TpsKind, 0)
        self.window_max = 0
        """Most counted in one window at a moment when a send was granted, that send included."""

    def charge(self, kind: TpsKind, count: int, now_ns: int) -> None:
        """Count `count` events that have happened; never refused."""
        self.totals[kind] += count
        self._kinds[kind].record(now_ns, count)
        cost = count * self._costs[kind]
        if cost:
            self._window.record(now_ns, cost)
            self._bucket.debit(now_ns, cost)

    def try_send(self, now_ns: int) -> int:
        """Grant and count one send, and return `now_ns`; or refuse, and return when to ask again.

        The answer is exact for what has happened so far; arrivals until then may move it on.
        """
        cost = self._costs[TpsKind.SEND]
        free_at_ns = max(
            self._opens_at_ns,
            self._window.free_at_ns(now_ns, cost, self.tps),
            self._bucket.ready_at_ns(now_ns, cost),
        )
        if free_at_ns > now_ns:
            return free_at_ns
        self.charge(TpsKind.SEND, 1, now_ns)
        self.window_max = max(self.window_max, self._window.used(now_ns))
        return now_ns

    def used(self, kind: TpsKind, now_ns: int) -> int:
        """Events of a kind in the last second."""
        return self._kinds[kind].used(now_ns)

    def in_window(self, now_ns: int) -> int:
        """What counts against the limit now."""
        return self._window.used(now_ns)

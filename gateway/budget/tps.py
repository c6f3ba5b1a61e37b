"""The budget of one number: an exact one-second window, and a bucket that smooths what goes out.

Everything that happens is counted, sends are granted only into free room:
- the *window* is the hard limit: with the send, at most `tps` events in the second that ends now;
- the *bucket* runs at `tps` less a headroom and is debited by everything too, so that receipts which sends
  have caused slow the next ones down. Receipts come at random, and a queue run at 100 % never drains;
- the *floor*, if one is set, is a least rate of sends when arrivals alone fill the window;
- the *ceiling* lowers the bucket's rate while the node asks us to slow down.

Nothing is known about the second before a start, so the first second grants nothing.
"""

from typing import Final

from gateway._fast.bucket import TokenBucket
from gateway._fast.budget import EventBudget
from gateway._fast.window import SlidingWindow
from gateway.budget.ceiling import Ceiling
from gateway.clock import NS_PER_S
from gateway.events import TpsKind

WINDOW_NS: Final = NS_PER_S + 5_000_000
"""The second of the limit, and 5 ms for the way between our clock's reading and the node's.

It costs 0.5 % of the rate where there is no headroom, and nothing where there is."""

DEBT_MAX_NS: Final = 5 * NS_PER_S
"""Most time the bucket may be in debt: after a flood of arrivals sends wait this long at most,
beyond what the window itself demands."""

BURST_MIN_NS: Final = 10_000_000
"""What a late wake-up may catch up, at least: a loop busy for some milliseconds must not cost rate. One extra send
is always saved, which at low rates is more. The window bounds it all."""

CAPACITY_MIN: Final = 4096
"""Window entries, at least; beyond the capacity arrivals share an entry and count longer, never shorter."""


class TpsBudget:
    """What the number has used, and when it may send. Pure: time comes in as `now_ns`."""

    def __init__(
        self,
        tps: int,
        costs: dict[TpsKind, int],
        headroom_percent: int,
        now_ns: int,
        *,
        send_floor_percent: int = 0,
        ceiling: Ceiling | None = None,
    ) -> None:
        """`tps` events a second, each kind weighing `costs` of them; the floor is a share of `tps`.

        `ceiling` may be lowered already; without one it starts whole.
        """
        self.tps = tps
        self.headroom_percent = headroom_percent
        self.ceiling = ceiling or Ceiling()
        self._send_cost = costs[TpsKind.SEND]
        self._floor_percent = send_floor_percent if self._send_cost else 0
        self._bucket, floor = self._buckets(now_ns)
        self.core = core = EventBudget(
            tps,
            SlidingWindow(WINDOW_NS, max(CAPACITY_MIN, 2 * tps)),
            self._bucket,
            (costs[TpsKind.RECEIVE], self._send_cost, costs[TpsKind.DELIVERED], costs[TpsKind.READ]),
            now_ns + WINDOW_NS,
            floor,
        )
        # The two calls made per event go straight to the native core.
        self.charge = core.charge
        """Count events that have happened: `charge(kind, count, now_ns)`; never refused."""
        self.try_send = core.try_send
        """Grant and count one send (the answer is `now_ns`), or say when to ask again: `try_send(now_ns)`."""

    def _buckets(self, now_ns: int) -> tuple[TokenBucket, TokenBucket | None]:
        """Empty ones for the plan of now: what smooths, and the floor where one is set."""
        share = self.ceiling.share
        bucket = TokenBucket(self._interval_ns(share), self._burst_ns(share), DEBT_MAX_NS, now_ns)
        if not self._floor_percent:
            return bucket, None
        # What was sent in the last second is the floor's share as well: it gives no more until that has passed.
        return bucket, TokenBucket(
            self._floor_interval_ns(share), self._floor_burst_ns(share), WINDOW_NS, now_ns
        )

    def _burst_ns(self, share: float) -> int:
        """What is saved beyond one event: one extra send, or what a late wake-up may catch up."""
        return max(BURST_MIN_NS, self._interval_ns(share) * max(1, self._send_cost))

    def _floor_burst_ns(self, share: float) -> int:
        """One send is saved beyond the next, so that a late question costs no rate."""
        return self._floor_interval_ns(share) * self._send_cost

    def _floor_interval_ns(self, share: float) -> int:
        """Time per event of the floor at a share of it; 1 s where there is none."""
        rate_per_s = self.tps * self._floor_percent / 100 * share
        return int(NS_PER_S / rate_per_s) + 1 if rate_per_s else NS_PER_S

    def _interval_ns(self, share: float) -> int:
        """Time per event at a share of the rate aimed at, rounded up: the error is on the safe side."""
        return int(NS_PER_S / (self.aim_per_s() * share)) + 1

    def aim_per_s(self) -> float:
        """Events a second we aim at: the plan less the headroom."""
        return self.tps * (100 - self.headroom_percent) / 100

    def ceiling_per_s(self) -> float:
        """Events a second the node has shown to stand, at most `aim_per_s`."""
        return self.aim_per_s() * self.ceiling.share

    def slow_down(self, now_ns: int) -> None:
        """The node asked us to slow down."""
        if self.ceiling.lower(now_ns):
            self._set_rate(now_ns)

    def succeeded(self, now_ns: int) -> None:
        """The node took a send."""
        if self.ceiling.raise_(now_ns):
            self._set_rate(now_ns)

    def _set_rate(self, now_ns: int) -> None:
        share = self.ceiling.share
        self.core.set_rate(self._interval_ns(share), self._burst_ns(share), now_ns)
        self.core.set_floor_rate(self._floor_interval_ns(share), self._floor_burst_ns(share), now_ns)

    def set_tps(self, tps: int, now_ns: int) -> None:
        """Change the plan while running (1 to 5000): the next grant already keeps the new one."""
        assert tps >= self._send_cost, "a plan in which not one send fits"
        owed = -(-self._bucket.debt_ns(now_ns) // self._bucket.interval_ns)
        self.tps = tps
        self._bucket, floor = self._buckets(now_ns)
        self._bucket.debit(now_ns, owed)
        if floor is not None:
            floor.debit(now_ns, self.used(TpsKind.SEND, now_ns) * self._send_cost)
        self.core.set_plan(tps, self._bucket, floor)

    def used(self, kind: TpsKind, now_ns: int) -> int:
        """Events of a kind in the last second."""
        return self.core.used(kind, now_ns)

    def in_window(self, now_ns: int) -> int:
        """What counts against the limit now."""
        return self.core.in_window(now_ns)

    @property
    def totals(self) -> dict[TpsKind, int]:
        """Events of each kind since the start."""
        return {kind: self.core.total(kind) for kind in TpsKind}

    @property
    def window_max(self) -> int:
        """Most counted in one window at a moment when a send was granted into room, that send included."""
        return self.core.window_max

    @property
    def floor_grants(self) -> int:
        """Sends granted by the floor."""
        return self.core.floor_grants

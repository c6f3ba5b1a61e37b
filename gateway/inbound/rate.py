"""How many requests a second the backend gets, over all its destinations (GATEWAY_BACKEND_TPS)."""

from typing import Final

from gateway._fast.bucket import TokenBucket
from gateway.clock import NS_PER_MS, NS_PER_S

WINDOW_NS: Final = NS_PER_S + 5 * NS_PER_MS
"""In which no more than the rate go: a second, and what the way to the backend may take longer for one than for another,
so that the backend's own limiter sees no second with more."""
SAVED_NS: Final = 5 * NS_PER_MS
"""Time whose tokens a late wake-up finds again: loop timers tick at a millisecond, and a turn of the loop takes some."""


class BackendRate:
    """At most `tps` requests in every `WINDOW_NS`, wherever it begins. Pure.

    The saved time is paid for in advance: a token takes (window + saved) / tps to grow, 1 010 ms / tps. The most that
    can go in [t, t + window) is one token, those of the saved time and those of the window, less than the next whole
    one: `tps`. With work waiting 99 % of the rate is used.
    """

    def __init__(self, tps: int, now_ns: int, *, is_dry_run: bool = False) -> None:
        """In a dry run everything passes, and `would_have` counts what would have waited."""
        assert tps >= 1, tps
        self._bucket = TokenBucket(-(-(WINDOW_NS + SAVED_NS) // tps), SAVED_NS, 0, now_ns)
        self.is_dry_run = is_dry_run
        self.would_have = 0

    def opens_at_ns(self, now_ns: int, *, yields: bool = False) -> int:
        """When a request may go; `yields`: the next token is someone else's."""
        if self.is_dry_run:
            return now_ns
        ready_ns = self._bucket.ready_at_ns(now_ns, 1)
        return ready_ns + self._bucket.interval_ns if yields else ready_ns

    def enter(self, now_ns: int) -> None:
        """A request goes."""
        if self._bucket.try_take(now_ns, 1) == now_ns:
            return
        assert self.is_dry_run, "a request without a token"
        self.would_have += 1

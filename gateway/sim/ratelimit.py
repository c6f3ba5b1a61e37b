"""The WebApp's request rate limit.

A token bucket: 50 requests/s with bursts to 150 on `messages` since client 2.25.3, 20/s with bursts to 60 on
every other endpoint, as published.
"""

from gateway.clock import NS_PER_S


class RateLimit:
    """A bucket of `burst` tokens filled at `per_s`; full at the start."""

    def __init__(self, per_s: int, burst: int) -> None:
        assert per_s >= 1, per_s
        assert burst >= 1, burst
        self._token_ns = NS_PER_S // per_s
        self._depth_ns = burst * self._token_ns
        self._empty_at_ns = -self._depth_ns
        """The virtual time at which the bucket would have been empty: full is `depth` in the past."""

    def try_take(self, now_ns: int) -> bool:
        """Take a token, or False: the request answers 429 and costs nothing."""
        empty_ns = max(self._empty_at_ns, now_ns - self._depth_ns)
        if empty_ns + self._token_ns > now_ns:
            return False
        self._empty_at_ns = empty_ns + self._token_ns
        return True

"""Whether a destination may be called: closed (yes), open (not yet), half open (one probe is under way).

Some failures in a row open it; after a wait that doubles, with jitter, one request goes as a probe. Its
success closes the breaker, its failure opens it again for longer. Pure: time and randomness come in.
"""

import random
from typing import Final

from gateway.clock import NS_PER_MS

FAILURES_TO_OPEN: Final = 3
"""In a row. One or two may be a message the backend can't digest; three are the backend."""

PROBE_MAX_MS: Final = 5_000
"""Longest wait between two probes of a destination: so late at most is a message once the backend is back,
and one request in five seconds hurts nobody."""


class Breaker:
    """One destination's health, from the answers it gives."""

    def __init__(self, wait_min_ms: int, wait_max_ms: int, rng: random.Random) -> None:
        self._wait_min_ms = wait_min_ms
        self._wait_max_ms = wait_max_ms
        self._rng = rng
        self._failures = 0
        self._open_until_ns: int | None = None
        self._is_probing = False
        self.opened = 0

    @property
    def state(self) -> str:
        if self._is_probing:
            return "half_open"
        return "closed" if self._open_until_ns is None else "open"

    @property
    def is_closed(self) -> bool:
        """Whether the destination is well, as far as is known; a probe that is under way knows nothing yet."""
        return self._open_until_ns is None and not self._is_probing

    def may_pass(self, now_ns: int) -> bool:
        """Whether a request may go now."""
        if self._is_probing:
            return False
        return self._open_until_ns is None or now_ns >= self._open_until_ns

    def passes_at_ns(self) -> int | None:
        """When a probe may go; None while closed, or while a probe is under way."""
        return None if self._is_probing else self._open_until_ns

    def enter(self, now_ns: int) -> bool:
        """A request goes; whether it is the probe, which it is while open."""
        assert self.may_pass(now_ns)
        self._is_probing = self._open_until_ns is not None
        return self._is_probing

    def succeed(self) -> None:
        """The destination answered as it should: close."""
        self._failures = 0
        self._open_until_ns = None
        self._is_probing = False

    def fail(self, now_ns: int, retry_after_ms: int = 0, *, is_probe: bool = False) -> None:
        """The destination did not answer, or with trouble of its own: open when it keeps doing so.

        While open, requests from before say nothing new unless they name a time: if each of them doubled the
        wait, one cut of sixteen connections would close the destination for as long as a dead one.
        """
        if self._open_until_ns is not None and not is_probe:
            self._open_until_ns = max(self._open_until_ns, now_ns + retry_after_ms * NS_PER_MS)
            return
        self._failures += 1
        self._is_probing = False
        if self._failures < FAILURES_TO_OPEN and not retry_after_ms:
            return
        doublings = min(max(0, self._failures - FAILURES_TO_OPEN), 30)
        ceiling_ms = min(self._wait_min_ms << doublings, self._wait_max_ms)
        wait_ms = max(self._rng.randint(ceiling_ms // 2, ceiling_ms), retry_after_ms)
        if self._open_until_ns is None:
            self.opened += 1
        self._open_until_ns = now_ns + wait_ms * NS_PER_MS

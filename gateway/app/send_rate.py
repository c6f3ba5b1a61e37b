"""The rate of sends that can be kept up, for estimates: looked up once a second at most."""

import math
from collections.abc import Callable
from typing import Final

from gateway.budget.sustain import sustainable_sends_per_s
from gateway.budget.usage import Usage, measured_traffic
from gateway.clock import NS_PER_S, Clock

AGE_MAX_NS: Final = NS_PER_S
"""A look reads an hour of seconds (0.2 ms), a push must not."""


class SendRate:
    """Sends a second that can go on for ever, by what the number uses now; infinite when a send costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.usage: Callable[[], Usage] | None = None
        """What the number uses now; until it is set the rate is taken for infinite."""
        self._looked_ns = clock.now_ns() - AGE_MAX_NS
        self._sends_per_s = 0.0

    def __call__(self) -> float:
        if self.usage is None:
            return math.inf
        now_ns = self._clock.now_ns()
        if now_ns - self._looked_ns >= AGE_MAX_NS:
            usage = self.usage()
            self._looked_ns = now_ns
            self._sends_per_s = sustainable_sends_per_s(usage.terms, measured_traffic(usage)[0])
        return self._sends_per_s

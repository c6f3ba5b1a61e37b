"""How long a send will wait: where it stands in line, and when it will go by the rate that can be kept up. O(1)."""

import math
from collections.abc import Callable

from gateway.events import SendClass
from gateway.outbound.queue import SendQueue


class Waits:
    """Estimates by what waits now. What comes in a higher class meanwhile goes first, so a send may wait longer."""

    def __init__(
        self,
        queue: SendQueue,
        sends_per_s: Callable[[], float] = lambda: math.inf,
        paused_ms: Callable[[SendClass], int] = lambda _cls: 0,
    ) -> None:
        """`sends_per_s` can be kept up (infinite: a send costs nothing); `paused_ms` is how long a class stands still."""
        self._queue = queue
        self.sends_per_s = sends_per_s
        self.paused_ms = paused_ms

    def position(self, cls: SendClass) -> int:
        """Sends before one that joins a class now: those of its class and above."""
        return sum(self._queue.unsettled(above) for above in SendClass if above <= cls)

    def eta_s(self, position: int, cls: SendClass) -> float:
        """Seconds until a send in that place goes; infinite: never, as things are."""
        if not position:
            return self.paused_ms(cls) / 1000
        rate = self.sends_per_s()
        return self.paused_ms(cls) / 1000 + (position / rate if rate > 0 else math.inf)

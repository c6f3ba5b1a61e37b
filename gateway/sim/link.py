"""The way between the number and the gateway, in virtual time."""

import random
from typing import Final

from gateway.budget.tps import WINDOW_NS
from gateway.clock import NS_PER_MS, NS_PER_S

DELAY_MAX_NS: Final = 20 * NS_PER_MS
JITTER_MAX_NS: Final = WINDOW_NS - NS_PER_S
"""How much one send's way may differ from another's: what the budget's window has in hand for it."""


class Link:
    """Delays in nanoseconds, drawn: webhooks overtake each other within `DELAY_MAX_NS`, sends keep their order.

    A send's way has a length of its own for the whole run, 0 to 15 ms, and varies by up to `JITTER_MAX_NS`.
    Without a generator nothing takes any time.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng
        self._base_ns = rng.randint(0, DELAY_MAX_NS - JITTER_MAX_NS) if rng else 0
        self._arrived_ns = -1

    def known_ns(self, served_ns: int) -> int:
        """When the gateway knows of what the number served at `served_ns`."""
        return served_ns + (self._rng.randint(0, DELAY_MAX_NS) if self._rng else 0)

    def offered_ns(self, left_ns: int) -> int:
        """When a send that left the gateway at `left_ns` is at the number; never before one that left earlier."""
        jitter_ns = self._rng.randint(0, JITTER_MAX_NS) if self._rng else 0
        self._arrived_ns = max(self._arrived_ns, left_ns + self._base_ns + jitter_ns)
        return self._arrived_ns

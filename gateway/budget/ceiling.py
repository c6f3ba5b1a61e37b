"""The adaptive ceiling: the rate that the node has shown to stand, never above the plan.

Additive increase, multiplicative decrease, as for congestion in a network: each episode of "slow down" (429, 503,
1015, 1016, 130429) takes 30 % off, each second with success gives back 1 % of the plan. Pure.
"""

from collections.abc import Callable
from typing import Final

from gateway.clock import NS_PER_S

DECREASE: Final = 0.7
EPISODE_NS: Final = 2 * NS_PER_S
"""Refusals closer together than this are one episode: sends under way at once are refused together."""
INCREASE_SHARE: Final = 0.01
INCREASE_EVERY_NS: Final = NS_PER_S
LOWEST_SHARE: Final = 0.05
"""Of the plan: below it the ceiling would be a stop, and stopping is what a pause does."""


class Ceiling:
    """A share of the plan in [LOWEST_SHARE, 1]."""

    def __init__(self, share: float = 1.0) -> None:
        """Start at `share`, as far as it is one."""
        self.share = min(1.0, max(LOWEST_SHARE, share))
        self.lowered = 0
        self.on_kept: Callable[[float], None] = lambda _share: None
        """Called with the share when it was lowered and when it is whole again: it is worth keeping over a restart.

        Not for each step up: after a restart they are made again."""
        self._lowered_at_ns: int | None = None
        self._raised_at_ns = 0

    def lower(self, now_ns: int) -> bool:
        """The node asked us to slow down; whether the ceiling changed."""
        if self._lowered_at_ns is not None and now_ns - self._lowered_at_ns < EPISODE_NS:
            return False
        self._lowered_at_ns = now_ns
        self._raised_at_ns = now_ns
        self.lowered += 1
        before = self.share
        self.share = max(LOWEST_SHARE, self.share * DECREASE)
        self.on_kept(self.share)
        return self.share != before

    def raise_(self, now_ns: int) -> bool:
        """The node took a send; whether the ceiling changed."""
        if self.share >= 1.0 or now_ns - self._raised_at_ns < INCREASE_EVERY_NS:
            return False
        self._raised_at_ns = now_ns
        self.share = min(1.0, self.share + INCREASE_SHARE)
        if self.share >= 1.0:
            self.on_kept(self.share)
        return True

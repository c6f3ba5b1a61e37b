"""The one call that an arrival is charged by."""

from typing import Self, final

from gateway._fast.budget import EventBudget
from gateway._fast.history import SecondsHistory
from gateway._fast.window import SlidingWindow

@final
class ArrivalMeter:
    """What counts arrivals: the budget, its history, and what measures how quiet it is."""

    def __new__(
        cls,
        budget: EventBudget,
        history: SecondsHistory,
        costs: tuple[int, int, int, int],
        arrivals: SlidingWindow | None,
    ) -> Self:
        """`costs` of the four kinds are what `arrivals` gets of one; None: nobody measures."""

    def charge(self, kind: int, count: int, now_ns: int) -> None:
        """Count `count` events (up to a million) of a kind that have come; never refused. Else ValueError."""

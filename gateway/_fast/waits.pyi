"""The least wait in an interval, which tells a standing queue from a burst."""

from collections.abc import Callable
from typing import final

@final
class LeastWait:
    """How long the quickest of a kind waited since the last look."""

    def note(self, wait_ms: float) -> None:
        """One got through, and waited so long."""

    def take(self, age_ms: Callable[[], float]) -> float:
        """The least wait noted, and begin anew; where none got through, `age_ms()`: the age of what waits, 0 for nothing."""

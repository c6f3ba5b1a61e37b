"""The least wait in an interval, which tells a standing queue from a burst."""

from collections.abc import Callable


class LeastWait:
    """How long the quickest of a kind waited since the last look."""

    def __init__(self) -> None:
        self._least_ms: float | None = None

    def note(self, wait_ms: float) -> None:
        """One got through, and waited so long."""
        if self._least_ms is None or wait_ms < self._least_ms:
            self._least_ms = wait_ms

    def take(self, age_ms: Callable[[], float]) -> float:
        """The least wait noted, and begin anew; where none got through, `age_ms()`: the age of what waits, 0 for nothing."""
        least_ms = self._least_ms
        self._least_ms = None
        return max(0.0, age_ms() if least_ms is None else least_ms)

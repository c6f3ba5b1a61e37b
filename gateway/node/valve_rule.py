"""When the receipt valve closes and opens: the pressure of now, with hysteresis. Pure.

It closes when pressure has stayed at or above `CLOSE_AT` for 5 s, and opens when it has stayed below `OPEN_BELOW` for
60 s. Between two changes are 5 min at least, the first after a start excepted: each is a setting of somebody's node.
Pressure is told while there is load, every 100 ms or so. When it is no longer told there is no load: a run of high
pressure ends, and a closed valve opens by the clock, so it can't stay closed because nothing happens any more.
"""

from typing import Final

from gateway.clock import NS_PER_S

CLOSE_AT: Final = 0.95
CLOSE_AFTER_NS: Final = 5 * NS_PER_S
OPEN_BELOW: Final = 0.3
OPEN_AFTER_NS: Final = 60 * NS_PER_S
REST_NS: Final = 300 * NS_PER_S
"""Between two changes, at least."""
SILENCE_NS: Final = 2 * NS_PER_S
"""Longer than this without a word is no load. Far above the 100 ms between two words, for a loop that lags."""


class ValveRule:
    """Time comes in as `now_ns`, which never runs back."""

    def __init__(self, now_ns: int, *, closed_for_ns: int | None = None) -> None:
        """Open, or closed for `closed_for_ns` already (by the wall clock, so any number is taken for what it can be)."""
        self.is_closed = closed_for_ns is not None
        self._changed_ns: int | None = None
        if closed_for_ns is not None:
            self._changed_ns = now_ns - min(max(closed_for_ns, 0), REST_NS)
        self._told_ns = now_ns
        self._high_ns: int | None = None
        """Since when pressure has been high enough to close; None: it is not."""
        self._low_ns: int | None = now_ns
        """Since when it has been low enough to open; None: it is not."""

    def tell(self, pressure: float, now_ns: int) -> None:
        """`pressure` in [0, 1] as of now."""
        assert 0.0 <= pressure <= 1.0, pressure
        if now_ns - self._told_ns > SILENCE_NS:
            self._high_ns = None
            self._low_ns = self._quiet_since_ns()
        self._told_ns = now_ns
        self._high_ns = _since_ns(self._high_ns, now_ns, is_so=pressure >= CLOSE_AT)
        self._low_ns = _since_ns(self._low_ns, now_ns, is_so=pressure < OPEN_BELOW)

    def opens_ns(self) -> int | None:
        """When it opens if nothing more is told, never earlier than said before; None while it is open."""
        if not self.is_closed:
            return None
        return self._rested_ns(self._quiet_since_ns() + OPEN_AFTER_NS)

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time to change."""
        opens_ns = self.opens_ns()
        if opens_ns is not None:
            return now_ns >= opens_ns
        if self._high_ns is None or now_ns - self._told_ns > SILENCE_NS:
            return False
        return now_ns >= self._rested_ns(self._high_ns + CLOSE_AFTER_NS)

    def try_change(self, now_ns: int) -> bool:
        """Change if it is time to; whether it was."""
        if not self.is_due(now_ns):
            return False
        self.is_closed = not self.is_closed
        self._changed_ns = now_ns
        return True

    def took_effect(self, now_ns: int) -> None:
        """The last change has come about only now: the rest before the next counts from here."""
        self._changed_ns = now_ns

    def _quiet_since_ns(self) -> int:
        """Since when it is low, should nothing more be told: the load ended with the last word."""
        return self._told_ns if self._low_ns is None else self._low_ns

    def _rested_ns(self, due_ns: int) -> int:
        return due_ns if self._changed_ns is None else max(due_ns, self._changed_ns + REST_NS)


def _since_ns(begun_ns: int | None, now_ns: int, *, is_so: bool) -> int | None:
    """When a run began that goes on or begins now; None when there is none."""
    if not is_so:
        return None
    return now_ns if begun_ns is None else begun_ns

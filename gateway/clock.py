"""The one place that reads time.

`now_ns` is monotonic and orders events within this process; `wall_ms` is UTC and survives a restart.
The two never mix: a duration comes from `now_ns`, an age that crosses a restart from `wall_ms`.
"""

from typing import Final, Protocol

from gateway._fast import clock

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """Time as it is handed to every part, so that tests and the simulator own it."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since an arbitrary start."""

    def wall_ms(self) -> int:
        """UTC milliseconds since 1970."""


class SystemClock:
    """The machine's clocks."""

    now_ns = staticmethod(clock.now_ns)
    wall_ms = staticmethod(clock.wall_ms)


class FakeClock:
    """A clock that moves only when told to; both faces move together."""

    def __init__(self, now_ns: int = NS_PER_S, wall_ms: int = 1_700_000_000_000) -> None:
        self._now_ns = now_ns
        self._wall_ns = wall_ms * NS_PER_MS

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ms(self) -> int:
        return self._wall_ns // NS_PER_MS

    def advance_ns(self, delta_ns: int) -> None:
        """Move both clocks forward by `delta_ns` (not negative)."""
        assert delta_ns >= 0, delta_ns
        self._now_ns += delta_ns
        self._wall_ns += delta_ns

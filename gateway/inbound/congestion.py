"""Whether a destination queues what we send it, told from how long its answers take.

A server that works on K requests at once takes L / K times as long when it has L > K: no more gets done, and all wait.
Time-outs tell of it late. So while the limit is in full use we *watch* windows of 64 successes for one that takes twice
as long as usual. A second one must *confirm* it, or chance would lower the limit. But a server can be slow for
reasons of its own, and then fewer requests at once would only be fewer. So then we *search*: lower the limit as
long as lowering shortens the answers, and take back the step that does not. What answers take there is the new usual.

Windows are compared by their mean logarithm (geometric mean): a queue multiplies every time, so it moves it by the
same amount whatever the times are, while a few answers of ten seconds, or a cache that makes some of them a
hundred times faster, hardly do. The least time of a window, which some limiters use, is not up to that: the least of
many windows is always far below the least of one. tests/test_limit.py has the simulation.
"""

import enum
import math
from typing import Final

SAMPLES: Final = 64
"""A window. Where times vary as much as lognormal with sigma 1 (95 % within a factor 50), means of windows still
differ by an eighth only (one standard deviation): twice is more than five of them away."""
GROWN: Final = math.log(2)
GROWN_DEVIATIONS: Final = 4
"""Standard deviations of a window's mean, if that is more: half of the answers from a cache are so wild."""
LEARN_SHARE: Final = 0.25
"""Of the way to a shorter usual time that one window goes."""


class Advice(enum.Enum):
    """What the limit should do."""

    KEEP = "keep"
    LOWER = "lower"
    UNDO = "undo"
    """The last lowering shortened nothing."""


class _Phase(enum.Enum):
    WATCH = "watch"
    CONFIRM = "confirm"
    SEARCH = "search"


class Congestion:
    """The times of one destination's answers. Pure."""

    def __init__(self) -> None:
        self._phase = _Phase.WATCH
        self._usual: float | None = None
        """Logarithm of the time an answer takes without a queue; None before the first window."""
        self._before = 0.0
        """While searching: the window before the limit was lowered, and that limit."""
        self._before_limit = 1
        self._sum = 0.0
        self._squares = 0.0
        self._count = 0
        self._is_full = True

    @property
    def is_examining(self) -> bool:
        """Whether the limit must stay as it is, because two windows are to be compared."""
        return self._phase is not _Phase.WATCH

    def reset(self) -> None:
        """The limit changes for another reason: begin a new window, and keep what is usual."""
        self._phase = _Phase.WATCH
        self._begin_window()

    def begin(self, usual: float | None) -> None:
        """Begin with what a time without a queue is known to be, as a logarithm, if it is."""
        self._usual = usual

    def add(self, latency_ns: int, limit: int, *, is_full: bool) -> Advice:
        """Take in an answer to a request that went under `limit`, `is_full`: all of it in use."""
        time = math.log(max(1, latency_ns))
        self._sum += time
        self._squares += time * time
        self._count += 1
        self._is_full = self._is_full and is_full
        if self._count < max(SAMPLES, limit):
            return Advice.KEEP
        mean = self._sum / self._count
        deviation = math.sqrt(max(0.0, self._squares / self._count - mean * mean) / self._count)
        was_full = self._is_full
        self._begin_window()
        self._learn(mean)
        if not was_full:
            self._phase = _Phase.WATCH
            return Advice.KEEP
        return self._judge(mean, max(GROWN, GROWN_DEVIATIONS * deviation), limit)

    def _begin_window(self) -> None:
        self._sum = 0.0
        self._squares = 0.0
        self._count = 0
        self._is_full = True

    def _learn(self, mean: float) -> None:
        """Shorter is learned at once and from any window; longer only where a search ends."""
        if self._usual is None:
            self._usual = mean
        elif mean < self._usual:
            self._usual += (mean - self._usual) * LEARN_SHARE

    def _judge(self, mean: float, grown: float, limit: int) -> Advice:
        assert self._usual is not None
        if self._phase is _Phase.SEARCH:
            # Half of what it would be were all of the time spent in a queue of ours.
            has_helped = self._before - mean > math.log(self._before_limit / limit) / 2
            if has_helped and limit > 1:
                return self._step(mean, limit)
            self._phase = _Phase.WATCH
            self._usual = mean
            return Advice.KEEP if has_helped else Advice.UNDO
        if limit == 1 or mean < self._usual + grown:
            self._phase = _Phase.WATCH
            return Advice.KEEP
        if self._phase is _Phase.WATCH:
            self._phase = _Phase.CONFIRM
            return Advice.KEEP
        return self._step(mean, limit)

    def _step(self, mean: float, limit: int) -> Advice:
        self._phase = _Phase.SEARCH
        self._before, self._before_limit = mean, limit
        return Advice.LOWER

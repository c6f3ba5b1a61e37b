"""The limit of requests under way in plain Python: what the native one does, step for step and float for float."""

import math
from typing import Final, NamedTuple

START: Final = 4
DECREASE: Final = 0.7

ROUND_SAMPLES: Final = 8
ROUND_GROWN: Final = math.log(1.5)

WINDOW_SAMPLES: Final = 64
WINDOW_GROWN: Final = math.log(2)
GROWN_DEVIATIONS: Final = 4
LEARN_SHARE: Final = 0.25

WELL, OVERLOADED, NEITHER = range(3)
KEEP, LOWER, UNDO = "keep", "lower", "undo"
WATCH, CONFIRM, SEARCH = "watch", "confirm", "search"


class SlowStartModel:
    """Rounds of answers, of which the first few are compared with those of the quickest round."""

    def __init__(self) -> None:
        self.is_over = False
        self.quickest: float | None = None
        self._ends_after = 0
        self._sum = 0.0
        self._count = 0

    def must_halve(self, number: int, latency_ns: int, entered: int) -> bool:
        if number > self._ends_after and self._count >= ROUND_SAMPLES:
            self._ends_after = entered
            self._sum, self._count = 0.0, 0
        self._sum += math.log(max(1, latency_ns))
        self._count += 1
        if self._count != ROUND_SAMPLES:
            return False
        mean = self._sum / self._count
        if self.quickest is None or mean < self.quickest:
            self.quickest = mean
        elif mean > self.quickest + ROUND_GROWN:
            self.is_over = True
            return True
        return False


class CongestionModel:
    """Windows of answers, compared with what is usual."""

    def __init__(self) -> None:
        self.phase = WATCH
        self.usual: float | None = None
        self._before = 0.0
        self._before_limit = 1
        self._sum = 0.0
        self._squares = 0.0
        self._count = 0
        self._is_full = True

    def reset(self) -> None:
        self.phase = WATCH
        self._begin_window()

    def add(self, latency_ns: int, limit: int, *, is_full: bool) -> str:
        time = math.log(max(1, latency_ns))
        self._sum += time
        self._squares += time * time
        self._count += 1
        self._is_full = self._is_full and is_full
        if self._count < max(WINDOW_SAMPLES, limit):
            return KEEP
        mean = self._sum / self._count
        deviation = math.sqrt(max(0.0, self._squares / self._count - mean * mean) / self._count)
        was_full = self._is_full
        self._begin_window()
        if self.usual is None:
            self.usual = mean
        elif mean < self.usual:
            self.usual += (mean - self.usual) * LEARN_SHARE
        if not was_full:
            self.phase = WATCH
            return KEEP
        return self._judge(mean, self.usual + max(WINDOW_GROWN, GROWN_DEVIATIONS * deviation), limit)

    def _begin_window(self) -> None:
        self._sum = 0.0
        self._squares = 0.0
        self._count = 0
        self._is_full = True

    def _judge(self, mean: float, grown: float, limit: int) -> str:
        if self.phase == SEARCH:
            has_helped = self._before - mean > math.log(self._before_limit / limit) / 2
            if has_helped and limit > 1:
                return self._step(mean, limit)
            self.phase = WATCH
            self.usual = mean
            return KEEP if has_helped else UNDO
        if limit == 1 or mean < grown:
            self.phase = WATCH
            return KEEP
        if self.phase == WATCH:
            self.phase = CONFIRM
            return KEEP
        return self._step(mean, limit)

    def _step(self, mean: float, limit: int) -> str:
        self.phase = SEARCH
        self._before, self._before_limit = mean, limit
        return LOWER


class TicketModel(NamedTuple):
    """One request under way."""

    era: int
    number: int
    entered_ns: int


class LimitModel:
    """The limit of one destination, from 1 to `highest`."""

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.limit = min(START, highest)
        self.in_flight = 0
        self.lowered = 0
        self.slow_start = SlowStartModel()
        self.congestion = CongestionModel()
        self._era = 0
        self._entered = 0
        self._full_entry = 0
        self._successes = 0
        self._limit_before = self.limit

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.limit

    def enter(self, now_ns: int) -> TicketModel:
        self.in_flight += 1
        self._entered += 1
        if self.in_flight >= self.limit:
            self._full_entry = self._entered
        return TicketModel(self._era, self._entered, now_ns)

    def leave(self, ticket: TicketModel, now_ns: int, sign: int) -> None:
        is_full = self._full_entry >= ticket.number
        self.in_flight -= 1
        if ticket.era != self._era:
            return
        if sign == OVERLOADED:
            self.slow_start.is_over = True
            self.congestion.reset()
            self._lower()
        elif sign == WELL and not self.slow_start.is_over:
            if is_full:
                self._start(ticket.number, now_ns - ticket.entered_ns)
        elif sign == WELL:
            self._follow(self.congestion.add(now_ns - ticket.entered_ns, self.limit, is_full=is_full))
            if is_full and self.congestion.phase == WATCH:
                self._grow()

    def _start(self, number: int, latency_ns: int) -> None:
        if self.slow_start.must_halve(number, latency_ns, self._entered):
            self._change(max(1, self.limit // 2))
        else:
            self.limit = min(self.limit + 1, self.highest)
        if self.limit == self.highest:
            self.slow_start.is_over = True
        if self.slow_start.is_over:
            self.congestion.usual = self.slow_start.quickest

    def _follow(self, advice: str) -> None:
        if advice == LOWER:
            self._lower()
        elif advice == UNDO:
            self._change(self._limit_before)

    def _grow(self) -> None:
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.limit + 1, self.highest)

    def _lower(self) -> None:
        self._limit_before = self.limit
        lower = max(1, int(self.limit * DECREASE))
        self.lowered += lower < self.limit
        self._change(lower)

    def _change(self, limit: int) -> None:
        self.limit = limit
        self._era += 1
        self._successes = 0

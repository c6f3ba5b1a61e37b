"""What an exact sliding second costs, at 1,000 events a second, beside a deque of times and the moving window of limits.

An event is counted, and the count of the last second asked for, which is what a decision needs. The libraries read the
clock, so that they get more than a thousand in a second: they refuse what is beyond, as they would at work.
"""

import time
from collections import deque
from typing import Final

import compare
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, Limiter, Rate

from gateway._fast.window import SlidingWindow

SECOND_NS: Final = 10**9
STEP_NS: Final = 1_000_000
BEGIN_NS: Final = 10**12


def _times(count: int) -> range:
    return range(BEGIN_NS, BEGIN_NS + count * STEP_NS, STEP_NS)


def ours(count: int) -> int:
    window = SlidingWindow(SECOND_NS, 2048)

    def step(now_ns: int) -> None:
        window.record(now_ns, 1)
        window.used(now_ns)

    return compare.timed(step, _times(count))


def a_deque(count: int) -> int:
    window: deque[int] = deque()

    def step(now_ns: int) -> None:
        window.append(now_ns)
        while window[0] <= now_ns - SECOND_NS:
            window.popleft()
        len(window)

    return compare.timed(step, _times(count))


def limits_hit(count: int) -> int:
    """Which reads the clock, so that its window holds at most a thousand, as ours does."""
    item, limiter = RateLimitItemPerSecond(1000), MovingWindowRateLimiter(MemoryStorage())
    return compare.timed(lambda _now: limiter.hit(item, "number"), range(count))


def pyrate_acquire(count: int) -> int:
    with Limiter(Rate(1000, Duration.SECOND)) as limiter:
        return compare.timed(lambda _now: limiter.try_acquire("number", blocking=False), range(count))


def ours_asked_when(count: int) -> int:
    """It is full: at what time is there room again."""
    window = SlidingWindow(SECOND_NS, 2048)
    for now_ns in _times(1000):
        window.record(now_ns, 1)
    now_ns = BEGIN_NS + 1000 * STEP_NS
    return compare.timed(lambda cost: window.free_at_ns(now_ns, cost, 1000), [1] * count)


def limits_asked_when(count: int) -> int:
    item, limiter = RateLimitItemPerSecond(1000), MovingWindowRateLimiter(MemoryStorage())
    for _ in range(1000):
        limiter.hit(item, "number")
    begin_ns = time.perf_counter_ns()
    for _ in range(count):
        limiter.get_window_stats(item, "number")
    return time.perf_counter_ns() - begin_ns


GROUPS: Final = {
    "an event counted, and how many there were": {
        "SlidingWindow.record, .used": ours,
        "a deque of times": a_deque,
        "limits MovingWindow hit": limits_hit,
        "pyrate-limiter try_acquire": pyrate_acquire,
    },
    "when is there room": {
        "SlidingWindow.free_at_ns": ours_asked_when,
        "limits get_window_stats": limits_asked_when,
    },
}

if __name__ == "__main__":
    compare.main(__doc__, GROUPS, ["limits", "pyrate-limiter"], 5_000)

"""What a token of the bucket costs beside aiolimiter's leaky bucket and one written in plain Python.

Ours takes the time as an argument, as the budget has it already; the others read a clock themselves.
"""

import asyncio
import time
from typing import Final

import compare
from aiolimiter import AsyncLimiter

from gateway._fast.bucket import TokenBucket

INTERVAL_NS: Final = 1_000_000
BEGIN_NS: Final = 10**12


class PlainBucket:
    """Tokens as a float, topped up when asked."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s = per_s
        self.burst = burst
        self.tokens = 0.0
        self.at_s = time.monotonic()

    def try_take(self, cost: float) -> bool:
        now_s = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


def ours_granted(count: int) -> int:
    bucket = TokenBucket(INTERVAL_NS, 0, 10**9, BEGIN_NS)
    times = range(BEGIN_NS + INTERVAL_NS, BEGIN_NS + (count + 1) * INTERVAL_NS, INTERVAL_NS)
    return compare.timed(lambda now_ns: bucket.try_take(now_ns, 1), times)


def ours_refused(count: int) -> int:
    bucket = TokenBucket(INTERVAL_NS, 0, 10**9, BEGIN_NS)
    return compare.timed(lambda now_ns: bucket.try_take(now_ns, 1), [BEGIN_NS] * count)


def ours_debit(count: int) -> int:
    bucket = TokenBucket(INTERVAL_NS, 0, 10**9, BEGIN_NS)
    return compare.timed(lambda now_ns: bucket.debit(now_ns, 1), range(BEGIN_NS, BEGIN_NS + count))


def plain_granted(count: int) -> int:
    bucket = PlainBucket(1e12, 1e12)
    return compare.timed(bucket.try_take, [1.0] * count)


def plain_refused(count: int) -> int:
    bucket = PlainBucket(1e-9, 1.0)
    return compare.timed(bucket.try_take, [1.0] * count)


def aiolimiter_granted(count: int) -> int:
    async def run() -> int:
        limiter = AsyncLimiter(1e12, 1)
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            await limiter.acquire()
        return time.perf_counter_ns() - start_ns

    return asyncio.run(run())


def aiolimiter_refused(count: int) -> int:
    async def run() -> int:
        limiter = AsyncLimiter(1, 1e9)
        await limiter.acquire()
        return compare.timed(limiter.has_capacity, [1.0] * count)

    return asyncio.run(run())


GROUPS: Final = {
    "granted": {
        "TokenBucket.try_take": ours_granted,
        "a bucket in plain Python": plain_granted,
        "aiolimiter acquire": aiolimiter_granted,
    },
    "refused": {
        "TokenBucket.try_take": ours_refused,
        "a bucket in plain Python": plain_refused,
        "aiolimiter has_capacity": aiolimiter_refused,
    },
    "debited whatever it holds": {"TokenBucket.debit": ours_debit},
}

if __name__ == "__main__":
    compare.main(__doc__, GROUPS, ["aiolimiter"], 20_000)

"""The pacers that `pacing.py` compares: each waits for the next grant, as its authors mean it to be used.

The peers come in their usual form and, where there is one, in the form that smooths.
"""

import asyncio
import time
from contextlib import ExitStack
from typing import Final, Protocol

from aiolimiter import AsyncLimiter
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pyrate_limiter import GCRA, Duration, Limiter, Rate, StateBucket

from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_S
from gateway.events import TpsKind
from gateway.outbound.alarm import KernelAlarm


class Pacer(Protocol):
    """One sender's clock; made on the loop, `close`d at the end."""

    def __init__(self, tps: int) -> None: ...

    async def next(self) -> int:
        """Wait for a grant; the time it was last promised for (monotonic ns), 0 when it came at once or unsaid."""

    def close(self) -> None: ...


class Ours:
    """`TpsBudget` and `KernelAlarm` in the loop of `gateway.outbound.pace`, without headroom and arrivals."""

    def __init__(self, tps: int) -> None:
        self._budget = TpsBudget(tps, dict.fromkeys(TpsKind, 1), 0, time.monotonic_ns())
        self._alarm = KernelAlarm()

    async def next(self) -> int:
        named_ns = 0
        while True:
            now_ns = time.monotonic_ns()
            free_at_ns = self._budget.try_send(now_ns)
            if free_at_ns <= now_ns:
                return named_ns
            named_ns = free_at_ns
            await self._alarm.wait_until(free_at_ns)

    def close(self) -> None:
        self._alarm.close()


class Sleep:
    """`asyncio.sleep(1/N)` after each send: what one writes first."""

    def __init__(self, tps: int) -> None:
        self._interval_ns = NS_PER_S // tps

    async def next(self) -> int:
        named_ns = time.monotonic_ns() + self._interval_ns
        await asyncio.sleep(self._interval_ns / NS_PER_S)
        return named_ns

    def close(self) -> None:
        pass


class BareSleep(Sleep):
    """`time.sleep(1/N)`, which blocks the loop: no pacer, but what the kernel's wake-ups are good for here."""

    async def next(self) -> int:
        named_ns = time.monotonic_ns() + self._interval_ns
        time.sleep(self._interval_ns / NS_PER_S)  # noqa: ASYNC251 (nothing else is on this loop)
        return named_ns


class AioLimiter:
    """aiolimiter as its README has it: N a second, which lets N go at once and N more in that second."""

    def __init__(self, tps: int) -> None:
        self._limiter = AsyncLimiter(tps, 1)

    async def next(self) -> int:
        await self._limiter.acquire()
        return 0

    def close(self) -> None:
        pass


class AioLimiterSmooth(AioLimiter):
    """aiolimiter with room for one, leaking in 1/N s."""

    def __init__(self, tps: int) -> None:
        super().__init__(tps)
        self._limiter = AsyncLimiter(1, 1 / tps)


class Pyrate:
    """pyrate-limiter as its README has it: a window of N in a second, 50 ms added to each wait."""

    def __init__(self, tps: int) -> None:
        self._limiter = Limiter(Rate(tps, Duration.SECOND))
        self._stack = ExitStack()
        self._stack.enter_context(self._limiter)

    async def next(self) -> int:
        assert await self._limiter.try_acquire_async("number"), "a blocking acquire was refused"
        return 0

    def close(self) -> None:
        self._stack.close()


class PyrateSmooth(Pyrate):
    """pyrate-limiter with its smoothest algorithm: GCRA without a burst, and nothing added to a wait."""

    def __init__(self, tps: int) -> None:
        bucket = StateBucket([Rate(tps, Duration.SECOND, burst=1)], algorithm=GCRA())
        self._limiter = Limiter(bucket, buffer_ms=0)
        self._stack = ExitStack()
        self._stack.enter_context(self._limiter)


class Limits:
    """limits has no waiting: ask its moving window, and sleep until it says that it is reset."""

    def __init__(self, tps: int) -> None:
        self._item = RateLimitItemPerSecond(tps)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    async def next(self) -> int:
        while not await self._window.hit(self._item, "number"):
            stats = await self._window.get_window_stats(self._item, "number")
            await asyncio.sleep(max(0.0, stats.reset_time - time.time()))
        return 0

    def close(self) -> None:
        pass


PACERS: Final[dict[str, type[Pacer]]] = {
    "ours": Ours,
    "aiolimiter": AioLimiter,
    "aiolimiter, smooth": AioLimiterSmooth,
    "pyrate-limiter": Pyrate,
    "pyrate-limiter, smooth": PyrateSmooth,
    "limits": Limits,
    "asyncio.sleep": Sleep,
    "time.sleep, blocking": BareSleep,
}

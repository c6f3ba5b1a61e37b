"""Workers that wait until they may go: one at a time is let through, and one loop timer serves all."""

import asyncio
from collections import deque
from collections.abc import Callable

from gateway._fast.bucket import NEVER_NS
from gateway.clock import NS_PER_MS, Clock


class Turnstile:
    """Waiters in order. While none waits there is no timer, and nothing wakes up."""

    def __init__(self, opens_at_ns: Callable[[int], int], clock: Clock) -> None:
        """`opens_at_ns(now_ns)` is when one may go: now or before, later, or NEVER_NS until something changes."""
        self._opens_at_ns = opens_at_ns
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def is_idle(self) -> bool:
        """Whether `look` has nothing to do: nobody waits, and none has just been let through."""
        return self._timer is None and not self._waiters

    async def wait(self) -> None:
        """Wait until it is worth to look again: whoever comes back must ask whether the way is still free."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._timer is None:
            self.look()
        await waiter

    def look(self) -> None:
        """Let the first go if the way is free, and look again after him; else when it will be. Call after each change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters and self._waiters[0].done():
            self._waiters.popleft()  # cancelled
        if not self._waiters:
            return
        now_ns = self._clock.now_ns()
        opens_at_ns = self._opens_at_ns(now_ns)
        loop = asyncio.get_running_loop()
        if opens_at_ns <= now_ns:
            self._waiters.popleft().set_result(None)
            # He was scheduled first, so by then he has gone, and the way may be closed behind him. If he was cancelled
            # it is not, and his turn is the next one's.
            self._timer = loop.call_soon(self.look)
        elif opens_at_ns < NEVER_NS:
            # Whole milliseconds, rounded up: the loop has no finer timers, and one that is early would spin.
            delay_ms = -(-(opens_at_ns - now_ns) // NS_PER_MS)
            self._timer = loop.call_later(delay_ms / 1000, self.look)

    def let_all(self) -> None:
        """Let everyone look again."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

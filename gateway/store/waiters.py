"""Who waits for a queue to change: each change wakes one, in order, and one loop timer wakes all when time makes one."""

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.clock import NS_PER_S, Clock


class Waiters:
    """Futures in order. While nobody waits there is no timer, and nothing wakes up."""

    def __init__(self, next_due_ns: Callable[[int], int | None], clock: Clock) -> None:
        """`next_due_ns(t)`: when something is due next that was not due at `t`; None: nothing will be."""
        self._next_due_ns = next_due_ns
        self._clock = clock
        self.waiting: deque[asyncio.Future[None]] = deque()
        """In order; empty while nobody waits, and always the same."""
        self._timer: asyncio.TimerHandle | None = None
        self.looked_ns = 0
        """What became due until then was found by whoever looked, and is not for those who wait now."""

    async def wait(self) -> None:
        """Wait for a change. Cancelling loses none."""
        waiter = self.enter()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake_one()  # the wake-up was meant for whoever waits next
            raise

    def enter(self) -> asyncio.Future[None]:
        """A future that is done at the next change. Whoever stops waiting for it must `leave`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        self._set_timer()
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        """Wait no longer with what `enter` gave."""
        if not waiter.done():
            self.waiting.remove(waiter)
            waiter.cancel()

    def __len__(self) -> int:
        """How many wait."""
        return len(self.waiting)

    def expect_at(self, due_ns: int) -> None:
        """Something will be due at `due_ns`; nobody has looked at it, even if that has passed."""
        self.looked_ns = min(self.looked_ns, due_ns - 1)
        self._set_timer()

    def wake_one(self) -> None:
        """There is one thing more."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Something has changed for all."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
        self.waiting.clear()

    def _set_timer(self) -> None:
        """For what is due next. What was due already when someone looked is not for those who wait: no timer helps.

        What has become due since, if only a microsecond ago, still needs one.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.waiting:
            return
        due_ns = self._next_due_ns(self.looked_ns)
        if due_ns is not None:
            delay_s = max(0, due_ns - self._clock.now_ns()) / NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.looked_ns = self._clock.now_ns()
        self.wake_all()

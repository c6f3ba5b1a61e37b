"""Waking at an exact time: a kernel timer on the loop, good to tens of microseconds.

The loop's own timers tick at a millisecond, and a sleep under half of one spins.
"""

import asyncio

from gateway._fast.timer import DeadlineTimer


class KernelAlarm:
    """One alarm, waited for by one task at a time. Make it on the loop."""

    def __init__(self) -> None:
        self._timer = DeadlineTimer()
        self._rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._timer.fileno(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer.acknowledge()
        self._rung.set()

    async def wait_until(self, deadline_ns: int) -> None:
        """Wait until `deadline_ns` (monotonic), or until `ring`."""
        self._rung.clear()
        self._timer.arm_at_ns(deadline_ns)
        try:
            await self._rung.wait()
        finally:
            self._timer.disarm()

    def ring(self) -> None:
        """Wake whoever waits now."""
        self._rung.set()

    def close(self) -> None:
        """Give the timer back to the kernel. Nobody may be waiting."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()

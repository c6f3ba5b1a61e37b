"""The gate of one destination, and those who wait at it. What it lets through, and when, is `_fast/gate.pyx`."""

from collections.abc import Callable

from gateway._fast.breaker import Breaker
from gateway._fast.gate import GateCore
from gateway._fast.limit import ConcurrencyLimit
from gateway.clock import Clock
from gateway.inbound.rate import BackendRate
from gateway.inbound.turnstile import Turnstile


class Gate(GateCore):
    """A gate at which workers wait. All calls on the loop."""

    def __init__(
        self,
        breaker: Breaker,
        limit: ConcurrencyLimit,
        clock: Clock,
        rate: BackendRate | None = None,
        yields_to: Callable[[int], bool] | None = None,
        *,
        is_dry_run: bool = False,
    ) -> None:
        super().__init__(breaker, limit, rate, yields_to, is_dry_run=is_dry_run)
        self._turnstile = Turnstile(self.opens_at_ns, clock)

    def close(self, reason: str) -> None:
        """Let nobody through until `reopen`. Requests under way go on."""
        self.closed_by.add(reason)

    def reopen(self, reason: str) -> None:
        """This reason is gone."""
        self.closed_by.discard(reason)
        self.let_all()

    async def wait(self) -> None:
        """Wait until it may have opened. Those who wait are let through one by one."""
        self.call_when_left(self._look)
        await self._turnstile.wait()

    def _look(self) -> None:
        """A request has ended, and its place is free."""
        self._turnstile.look()
        if self._turnstile.is_idle:
            self.call_when_left(None)

    def let_all(self) -> None:
        """Let everyone who waits look again."""
        self._turnstile.let_all()

    def is_held_by_rate(self, now_ns: int) -> bool:
        """Whether someone waits, and for the rate alone."""
        return len(self._turnstile) > 0 and self.needs_token(now_ns)

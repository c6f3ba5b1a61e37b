"""Whether a request may go to a destination now: an operator, its concurrency limit, its breaker, the backend's rate.

Each destination has a gate of its own; all they share is the rate, and of that events take only what messages leave.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway._fast.bucket import NEVER_NS
from gateway.clock import Clock
from gateway.inbound.breaker import Breaker
from gateway.inbound.limit import ConcurrencyLimit, Sign, Ticket
from gateway.inbound.rate import BackendRate
from gateway.inbound.turnstile import Turnstile

SUSPECTS: Final = 10
"""Failures in a row, of records that have failed before, that are still taken for the records' own. More are the
destination: where all that waits is one contact's, only one record is tried, and must not spend all its attempts on it."""


class Passage(msgspec.Struct, frozen=True, gc=False):
    """One request under way."""

    ticket: Ticket
    is_probe: bool
    is_retry: bool


class Gate:
    """The gate of one destination. All calls on the loop."""

    def __init__(
        self,
        breaker: Breaker,
        limit: ConcurrencyLimit,
        clock: Clock,
        rate: BackendRate | None = None,
        yields_to: Callable[[int], bool] = lambda _: False,
        *,
        is_dry_run: bool = False,
    ) -> None:
        """`yields_to(now_ns)`: whether someone who goes first needs a token of `rate` now.

        `is_dry_run`: the limit is not kept, and `would_have` counts what would have waited for it.
        """
        self.breaker = breaker
        self.limit = limit
        self.would_have = 0
        self.closed_by: set[str] = set()
        """The reasons for which nobody gets through at all; while there is none, it is open as the others say."""
        self._rate = rate
        self._yields_to = yields_to
        self._is_dry_run = is_dry_run
        self._retries = 0
        self._fails_in_a_row = 0
        self._was_retry = False
        self._turnstile = Turnstile(self.opens_at_ns, clock)

    def close(self, reason: str) -> None:
        """Let nobody through until `reopen`. Requests under way go on."""
        self.closed_by.add(reason)

    def reopen(self, reason: str) -> None:
        """This reason is gone."""
        self.closed_by.discard(reason)
        self.let_all()

    # -- before

    def opens_at_ns(self, now_ns: int) -> int:
        """When a request may go: `now_ns` or before for now, NEVER_NS for not until one under way has ended."""
        opens_at_ns = self._opens_without_rate_ns(now_ns)
        if self._rate is None or opens_at_ns > now_ns:
            return opens_at_ns
        return self._rate.opens_at_ns(now_ns, yields=self._yields_to(now_ns))

    def needs_token(self, now_ns: int) -> bool:
        """Whether nothing but the rate holds a request back."""
        return self._rate is not None and self._opens_without_rate_ns(now_ns) <= now_ns

    def _opens_without_rate_ns(self, now_ns: int) -> int:
        limit = self.limit
        if self.closed_by or (limit.highest if self._is_dry_run else limit.limit) <= limit.in_flight:
            return NEVER_NS
        if self.breaker.may_pass(now_ns):
            return now_ns
        passes_at_ns = self.breaker.passes_at_ns()
        return NEVER_NS if passes_at_ns is None else passes_at_ns  # a probe is under way

    def _current_limit(self) -> int:
        return self.limit.highest if self._is_dry_run else self.limit.limit

    async def wait(self) -> None:
        """Wait until it may have opened. Those who wait are let through one by one."""
        await self._turnstile.wait()

    @property
    def prefers_fresh(self) -> bool:
        """Whether the next to go should be one that has never been tried, if there is one; else retries go first.

        A probe with a record that has failed before would show that record's trouble, not the destination's. Where
        there is only one place, both take turns.
        """
        if not self.breaker.is_closed or not self.has_room_for_retry:
            return True
        return self._was_retry and self._current_limit() == 1

    @property
    def has_room_for_retry(self) -> bool:
        """Whether retries hold less than half of the places.

        The other half is kept free although nothing fresh waits: retries may take until the time-out, all of them.
        """
        return not self._retries or self._retries < self._current_limit() // 2

    # -- through

    def enter(self, now_ns: int, *, is_retry: bool) -> Passage:
        """A request goes: `opens_at_ns` has just said that it may."""
        assert self._is_dry_run or self.limit.has_room, "the gate is closed"
        if self._rate is not None:
            self._rate.enter(now_ns)
        self.would_have += not self.limit.has_room
        self._retries += is_retry
        self._was_retry = is_retry
        return Passage(self.limit.enter(now_ns), self.breaker.enter(now_ns), is_retry)

    # -- behind

    def succeed(self, passage: Passage, now_ns: int) -> bool:
        """The destination answered as it should; whether that ends a time of trouble."""
        was_closed = self.breaker.is_closed
        self._fails_in_a_row = 0
        self.breaker.succeed()
        self._leave(passage, now_ns, Sign.WELL)
        return not was_closed

    def fail(
        self,
        passage: Passage,
        now_ns: int,
        sign: Sign,
        retry_after_ms: int,
        *,
        shows_trouble: bool,
    ) -> bool:
        """The destination did not; whether its breaker opens by that.

        `shows_trouble`: the failure is the destination's, and not one of this record, which may be the trouble itself.
        """
        was_open = not self.breaker.is_closed
        self._fails_in_a_row += 1
        # Nobody gets through any more: then it is not a few records.
        shows_trouble = shows_trouble or self._fails_in_a_row > SUSPECTS
        if shows_trouble or passage.is_probe:
            self.breaker.fail(now_ns, retry_after_ms, is_probe=passage.is_probe)
        # A probe alone was not too many at once: when a dead backend is back, it gets as many as before.
        self._leave(passage, now_ns, sign if shows_trouble and not passage.is_probe else Sign.NEITHER)
        return self.breaker.state == "open" and not was_open

    def _leave(self, passage: Passage, now_ns: int, sign: Sign) -> None:
        self.limit.leave(passage.ticket, now_ns, sign)
        self._retries -= passage.is_retry
        self._turnstile.look()

    def let_all(self) -> None:
        """Let everyone who waits look again."""
        self._turnstile.let_all()

    def is_held_by_rate(self, now_ns: int) -> bool:
        """Whether someone waits, and for the rate alone."""
        return len(self._turnstile) > 0 and self.needs_token(now_ns)

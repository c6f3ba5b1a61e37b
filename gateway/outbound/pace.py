"""The pacer: hands out sends one by one, each at the moment the number's budget allows it.

One lock, so sends are granted in order and the budget sees one question at a time. A send is chosen when
its moment has come and not before: what arrives meanwhile in a higher class goes first.
Between moments the pacer sleeps on a timer of the kernel; it never polls, and an idle gateway uses no CPU.
"""

import asyncio
from typing import Final, Protocol

from gateway.clock import NS_PER_MS, Clock
from gateway.events import SendClass, SendRecord
from gateway.store.backlog import ALL_CLASSES, Backlog

PAUSE_MIN_MS: Final = 2_000
"""First pause after the node asked us to slow down; the request limit of the node is per second, and client
projects pause a channel for 2 s."""
PAUSE_MAX_MS: Final = 60_000
PAUSE_ASKED_MIN_MS: Final = 500
"""Least pause when the node names a time: `Retry-After: 0` must not make us knock without end."""
PAUSE_BULK_MS: Final = 24 * 3600 * 1000 + 5 * 60 * 1000
"""A spam restriction is counted over 24 hours; client projects wait 5 minutes more."""


class Grants(Protocol):
    """The budget as the pacer sees it."""

    def try_send(self, now_ns: int) -> int:
        """Grant and count a send (returns `now_ns`), or say when to ask again."""


class Alarm(Protocol):
    """How the pacer sleeps."""

    async def wait_until(self, deadline_ns: int) -> None:
        """Wait until `deadline_ns` (monotonic), or until `ring`."""

    def ring(self) -> None:
        """Wake whoever waits."""


class Pacer:
    """Decides which send goes next, and when."""

    def __init__(self, backlog: Backlog[SendRecord], budget: Grants, alarm: Alarm, clock: Clock) -> None:
        self._backlog = backlog
        self._budget = budget
        self._alarm = alarm
        self._clock = clock
        self._lock = asyncio.Lock()
        self._all_paused_until_ns = 0
        self._bulk_paused_until_ns = 0
        self._pauses_in_a_row = 0
        self._is_draining = False
        self.prefers_fresh = False
        """Whether a send that was never tried goes before those that failed, which may be the trouble themselves."""
        self.pauses = 0

    def drain(self) -> None:
        """Grant nothing more: whoever waits in `next` gets None."""
        self._is_draining = True
        self._alarm.ring()
        self._backlog.wake_all()

    async def next(self) -> SendRecord | None:
        """Wait for the next send to go, granted and counted in the budget. Cancelling loses nothing.

        None: the gateway is draining.
        """
        async with self._lock:
            while not self._is_draining:
                now_ns = self._clock.now_ns()
                if now_ns < self._all_paused_until_ns:
                    await self._alarm.wait_until(self._all_paused_until_ns)
                    continue
                allowed = self._allowed(now_ns)
                if not self._backlog.has_ready(allowed):
                    await self._wait_for_work(now_ns)
                    continue
                free_at_ns = self._budget.try_send(now_ns)
                if free_at_ns > now_ns:
                    await self._alarm.wait_until(free_at_ns)
                    continue
                record = self._backlog.take(allowed, prefers_fresh=self.prefers_fresh)
                assert record is not None, "a ready record has vanished between two lines without an await"
                return record
            return None

    def _allowed(self, now_ns: int) -> int:
        """Bit mask of the classes that may go."""
        if now_ns < self._bulk_paused_until_ns:
            return ALL_CLASSES & ~(1 << SendClass.BULK)
        return ALL_CLASSES

    async def _wait_for_work(self, now_ns: int) -> None:
        """Until something may have become ready: a record, or the end of bulk's pause."""
        if now_ns >= self._bulk_paused_until_ns:
            await self._backlog.wait_changed()
            return
        try:
            async with asyncio.timeout((self._bulk_paused_until_ns - now_ns) / 1e9):
                await self._backlog.wait_changed()
        except TimeoutError:
            return

    def pause_all(self, retry_after_s: float | None) -> int:
        """The node asked us to slow down: nothing goes until the time returned (monotonic ns).

        Without a time given by the node the pause starts at 2 s and doubles with each in a row.
        """
        now_ns = self._clock.now_ns()
        # Paused already: this answers a send that was under way when the pause began. It is the same trouble.
        is_paused = now_ns < self._all_paused_until_ns
        if is_paused and retry_after_s is None:
            return self._all_paused_until_ns
        pause_ms = min(PAUSE_MIN_MS << min(self._pauses_in_a_row, 16), PAUSE_MAX_MS)
        if retry_after_s is not None:
            pause_ms = min(max(int(retry_after_s * 1000), PAUSE_ASKED_MIN_MS), PAUSE_MAX_MS)
        if not is_paused:
            self._pauses_in_a_row += 1
            self.pauses += 1
        self._all_paused_until_ns = max(self._all_paused_until_ns, now_ns + pause_ms * NS_PER_MS)
        return self._all_paused_until_ns

    def pause_bulk(self) -> int:
        """The number is restricted for spam: bulk waits until the time returned (monotonic ns)."""
        self.pauses += 1
        self._bulk_paused_until_ns = self._clock.now_ns() + PAUSE_BULK_MS * NS_PER_MS
        return self._bulk_paused_until_ns

    def bulk_paused_ms(self) -> int:
        """How much longer bulk waits for the end of a restriction; 0 when it may go."""
        return max(0, self._bulk_paused_until_ns - self._clock.now_ns()) // NS_PER_MS

    def succeeded(self) -> None:
        """The node took a send: the next pause starts small again."""
        self._pauses_in_a_row = 0

    def paused_ms(self) -> int:
        """How much longer nothing at all is sent; 0 when sends may go."""
        return max(0, self._all_paused_until_ns - self._clock.now_ns()) // NS_PER_MS

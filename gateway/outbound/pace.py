"""The pacer: hands out sends one by one, each at the moment the number's budget allows it.

One lock, so sends are granted in order and the budget sees one question at a time. A send is chosen when
its moment has come and not before: what arrives meanwhile in a higher class goes first.
What must wait for something of its own (`front.py`: receipts of a group, a slot of its recipient) steps aside meanwhile.
Between moments the pacer sleeps on a timer of the kernel; it never polls, and an idle gateway uses no CPU.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gateway._fast.ring import EVERY_CLASS
from gateway.budget.classes import ClassShares
from gateway.clock import NS_PER_MS, Clock
from gateway.events import SendClass, SendRecord
from gateway.outbound.front import NEVER_NS, Front
from gateway.store.backlog import Backlog

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

    def slow_down(self, now_ns: int) -> None:
        """The node asked us to slow down."""

    def succeeded(self, now_ns: int) -> None:
        """The node took a send."""


class Alarm(Protocol):
    """How the pacer sleeps."""

    async def wait_until(self, deadline_ns: int) -> None:
        """Wait until `deadline_ns` (monotonic), or until `ring`."""

    def ring(self) -> None:
        """Wake whoever waits."""


class Pacer:
    """Decides which send goes next, and when."""

    def __init__(
        self,
        backlog: Backlog[SendRecord],
        budget: Grants,
        alarm: Alarm,
        clock: Clock,
        front: Front | None = None,
        shares: ClassShares | None = None,
        *,
        bulk_paused_until_ns: int = 0,
    ) -> None:
        """`front` is the front of `backlog`; without one nothing but the budget makes a send wait.

        `shares` chooses among the classes that are ready; without one the order is strict.
        `bulk_paused_until_ns` ends a pause of bulk that began before the start.
        """
        self._backlog = backlog
        self.front = front or Front(backlog)
        """Who sends tells it what became of what it was given."""
        self._shares = shares or ClassShares(bulk_floor_percent=0, reply_share_percent=100)
        self._budget = budget
        self._alarm = alarm
        self._clock = clock
        self._lock = asyncio.Lock()
        self._all_paused_until_ns = 0
        self._bulk_paused_until_ns = bulk_paused_until_ns
        self._pauses_in_a_row = 0
        self._is_draining = False
        self._is_suspended = False
        self.is_prepared: Callable[[], bool] = lambda: True
        self.prepare: Callable[[], Awaitable[None]] | None = None
        """Awaited before a grant while it is not prepared (there is no token): what was granted during a login would
        all go at the moment it ends, more than fits into a second."""
        self.on_success: Callable[[], None] = lambda: None
        """Called for each send that the node took."""
        self.on_bulk_paused: Callable[[int], None] = lambda _until_ns: None
        """Called with the end of a pause of bulk, which must outlive this process."""
        self.prefers_fresh = False
        """Whether a send that was never tried goes before those that failed, which may be the trouble themselves."""
        self.pauses = 0
        self.free_at_ns = 0
        """When the budget had room, as it said the last time that it had none."""

    def drain(self) -> None:
        """Grant nothing more: whoever waits in `next` gets None."""
        self._is_draining = True
        self.front.give_back(self._clock.now_ns())
        self._alarm.ring()
        self._backlog.wake_all()

    async def next(self) -> SendRecord | None:
        """Wait for the next send to go, granted and counted in the budget. Cancelling loses nothing.

        None: the gateway is draining.
        """
        async with self._lock:
            while not self._is_draining:
                if self._is_suspended:
                    await self._alarm.wait_until(NEVER_NS)
                    continue
                now_ns = self._clock.now_ns()
                if now_ns < self._all_paused_until_ns:
                    await self._alarm.wait_until(self._all_paused_until_ns)
                    continue
                allowed = self._allowed(now_ns)
                ready, until_ns = self.front.look(allowed, now_ns, prefers_fresh=self.prefers_fresh)
                if not ready:
                    await self._wait_for_work(now_ns, until_ns)
                    continue
                if self.prepare is not None and not self.is_prepared():
                    await self.prepare()
                    continue
                free_at_ns = self._budget.try_send(now_ns)
                if free_at_ns > now_ns:
                    self.free_at_ns = free_at_ns
                    await self._alarm.wait_until(free_at_ns)
                    continue
                cls = self._shares.choose(ready)
                self._shares.sent(cls, ready)
                return self.front.take(cls, now_ns)
            return None

    @property
    def is_suspended(self) -> bool:
        return self._is_suspended

    def suspend(self) -> None:
        """Grant nothing until `resume`. Whoever waits in `next` goes on waiting; sends under way go on."""
        self._is_suspended = True
        self._alarm.ring()

    def resume(self) -> None:
        """Grant again."""
        self._is_suspended = False
        self._alarm.ring()
        self._backlog.wake_all()

    def _allowed(self, now_ns: int) -> int:
        """Bit mask of the classes that may go."""
        if now_ns < self._bulk_paused_until_ns:
            return EVERY_CLASS & ~(1 << SendClass.BULK)
        return EVERY_CLASS

    async def _wait_for_work(self, now_ns: int, until_ns: int) -> None:
        """Until something may go: a record is ready, `until_ns` or the end of bulk's pause has come, or `ring`."""
        if now_ns < self._bulk_paused_until_ns:
            until_ns = min(until_ns, self._bulk_paused_until_ns)
        if until_ns == NEVER_NS:
            await self._backlog.wait_changed()
            return
        assert until_ns > now_ns, "told to wait for a moment that has come"
        changed = self._backlog.expect_change()
        changed.add_done_callback(self._on_change)
        try:
            await self._alarm.wait_until(until_ns)
        finally:
            changed.remove_done_callback(self._on_change)
            self._backlog.leave(changed)

    def _on_change(self, _changed: asyncio.Future[None]) -> None:
        self._alarm.ring()

    def ring(self) -> None:
        """What a send waits for may have come (receipts, the size of a group): look again."""
        self._alarm.ring()

    def slow_down(self, retry_after_s: float | None) -> int:
        """The node said that it is too much: a pause as by `pause_all`, and a lower ceiling after it."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._all_paused_until_ns:
            self._budget.slow_down(now_ns)
        return self.pause_all(retry_after_s)

    def pause_all(self, retry_after_s: float | None) -> int:
        """No send gets through now: nothing goes until the time returned (monotonic ns).

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
        self.on_bulk_paused(self._bulk_paused_until_ns)
        return self._bulk_paused_until_ns

    def bulk_paused_ms(self) -> int:
        """How much longer bulk waits for the end of a restriction; 0 when it may go."""
        return max(0, self._bulk_paused_until_ns - self._clock.now_ns()) // NS_PER_MS

    def succeeded(self) -> None:
        """The node took a send: the next pause starts small again, and the ceiling may rise."""
        self._pauses_in_a_row = 0
        self._budget.succeeded(self._clock.now_ns())
        self.on_success()

    def paused_ms(self) -> int:
        """How much longer nothing at all is sent; 0 when sends may go."""
        return max(0, self._all_paused_until_ns - self._clock.now_ns()) // NS_PER_MS

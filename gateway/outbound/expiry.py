"""Sends whose time to live is over end on time, also where nothing is sent: while all or bulk is paused, or suspended.

What is next in line ends when its turn comes (`front.py`). This is for what has no turn: one timer for the earliest
end, and one look at the disk then, which has them in that order. While nothing expires it sleeps.
"""

import asyncio
import contextlib
from typing import Final

from gateway.clock import Clock
from gateway.outbound.endings import Endings
from gateway.outbound.queue import NEVER_MS, SendQueue
from gateway.outbound.withdrawals import SLICE, Withdrawals
from gateway.store.protocol import Store

LOOK_MAX_S: Final = 60.0
"""Longest sleep while something has a time to live: the wall clock may be set forward meanwhile."""

UNDER_WAY_RETRY_MS: Final = 1_000
"""Until the next look while one that has expired is under way at the node: it goes, or comes back to wait."""


class Expiry:
    """Ends what has expired. `work` is one long-lived task."""

    def __init__(
        self,
        store: Store,
        queue: SendQueue,
        withdrawals: Withdrawals,
        endings: Endings,
        clock: Clock,
        changing: asyncio.Lock,
    ) -> None:
        """`changing` is held while the place of a send is changed, here or by whoever pushed it."""
        self._store = store
        self._queue = queue
        self._withdrawals = withdrawals
        self._endings = endings
        self._clock = clock
        self._changing = changing
        self._wanted = asyncio.Event()
        queue.on_expires_first = self._wanted.set

    async def work(self) -> None:
        """End what expires, for ever. Raises StoreError when the disk fails."""
        while True:
            self._wanted.clear()
            left_ms = self._queue.expires_first_ms - self._clock.wall_ms()
            if left_ms <= 0:
                await self.end_expired()
            elif self._queue.expires_first_ms == NEVER_MS:
                await self._wanted.wait()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_ms / 1000, LOOK_MAX_S)):
                        await self._wanted.wait()

    async def end_expired(self) -> None:
        """End all that has expired, and find out when the next will."""
        next_ms = 0
        while not next_ms:
            async with self._changing:
                self._queue.expires_first_ms = NEVER_MS  # what comes from here on says so
                next_ms = await self._end_some()
                self._queue.expires_first_ms = min(self._queue.expires_first_ms, next_ms)

    async def _end_some(self) -> int:
        """End the first of what has expired; when to look again (wall clock, ms), 0: at once."""
        found = await self._store.read_expiring(SLICE)
        now_ms = self._clock.wall_ms()
        expired = [status for status in found if status.expires_ms <= now_ms]
        ended = self._withdrawals.take_back(expired)
        if ended:
            await self._endings.expire_all(ended)
        if len(ended) == len(expired) < SLICE:
            return found[len(expired)].expires_ms if len(found) > len(expired) else NEVER_MS
        return 0 if ended else now_ms + UNDER_WAY_RETRY_MS

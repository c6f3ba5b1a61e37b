"""Scheduled sends: on disk until they are due, then brought into the line of their class, by one timer for the next.

They come before what is fresh in their class: they were accepted earlier. However many are due at one moment, few of
them are in memory at a time, and only their own class waits for that (`queue.py` has the bound).
"""

import asyncio
import contextlib
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.events import SendClass, SendRecord
from gateway.outbound.queue import SendQueue
from gateway.store.protocol import Store

LOOK_MAX_S: Final = 60.0
"""Longest sleep while something is scheduled: the wall clock may be set forward meanwhile."""

FULL_RETRY_MS: Final = 1_000
"""Between two looks while what stands aside fills the memory: nobody tells when it has room."""


class Schedule:
    """Starts scheduled sends when they are due. `work` is one long-lived task."""

    def __init__(self, store: Store, queue: SendQueue, clock: Clock, changing: asyncio.Lock) -> None:
        """`changing` is held while the place of a send is changed, here or by whoever pushed it."""
        self._store = store
        self._queue = queue
        self._clock = clock
        self._changing = changing
        self._wanted = asyncio.Event()
        queue.on_scheduled = self._wanted.set

    async def work(self) -> None:
        """Start what is due, for ever. Raises StoreError when the disk fails."""
        while True:
            self._wanted.clear()
            next_ms = await self.start_due()
            if next_ms is None:
                await self._wanted.wait()
                continue
            sleep_s = min(max(0, next_ms - self._clock.wall_ms()) / 1000, LOOK_MAX_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sleep_s):
                    await self._wanted.wait()

    async def start_due(self) -> int | None:
        """Start what is due and has room; when the next is due (wall clock, ms), None: there is none that has room."""
        times = [await self._start_class(cls) for cls in SendClass if self._queue.scheduled(cls)]
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    async def _start_class(self, cls: SendClass) -> int | None:
        async with self._changing:
            now_ms = self._clock.wall_ms()
            room = self._queue.room_to_start(cls)
            if room <= 0:
                return None  # those that take it up tell when half of them have gone
            if not self._queue.moves.room(cls):
                return now_ms + FULL_RETRY_MS
            found = await self._store.read_scheduled(cls, room)
            due = [record for record in found if record.not_before_ms <= now_ms]
            if due:
                await self._start(due)
            if len(due) < len(found):
                return found[len(due)].not_before_ms
            return now_ms if due else None

    async def _start(self, due: list[SendRecord]) -> None:
        for record in due:
            self._queue.start(record)
        await self._store.start_sends(due)
        for record in due:
            self._queue.moves.reinstate(msgspec.structs.replace(record, is_scheduled=False))

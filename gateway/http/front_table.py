"""The connections of a listener: how many there may be, and how long each may take or be idle.

One timer looks at all of them every `SWEEP_S`, and only while there are any, so that a request sets none: a limit of
30 s ends a connection after 30 to 45 s. A gateway with idle connections wakes four times a minute for this.
"""

import asyncio
from typing import Final, Protocol

SWEEP_S: Final = 15.0

ROOM_SHARE: Final = 32
"""One in so many is closed when there are too many: finding them costs a look at all, which this shares out."""


class Guest(Protocol):
    """A connection as the table sees it."""

    @property
    def since(self) -> float:
        """When it last began to be idle, or to wait for bytes; the loop's time."""

    @property
    def is_idle(self) -> bool:
        """Whether closing it now cuts nothing off."""

    def expire(self, now: float) -> None:
        """End it if it has taken too long."""

    def close(self) -> None:
        """End it when what it waits for is answered: at once if it waits for nothing."""

    def evict(self) -> None:
        """End it while it is idle, for another."""

    def abort(self) -> None:
        """End it now."""


class Connections:
    """At most `limit` of them."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self._limit = limit
        self._loop = loop
        self._guests: dict[Guest, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self.evicted = 0
        """Idle ones closed to make room."""

    def __len__(self) -> int:
        return len(self._guests)

    def add(self, guest: Guest) -> bool:
        """Take one in; False when there is no room, even after the longest idle ones were closed."""
        if len(self._guests) >= self._limit:
            self._make_room()
            if len(self._guests) >= self._limit:
                return False
        self._guests[guest] = None
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        return True

    def replace(self, old: Guest, new: Guest) -> None:
        """The same connection, in other hands."""
        del self._guests[old]
        self._guests[new] = None

    def remove(self, guest: Guest) -> None:
        """Forget one that is closed; nothing happens if that was done before."""
        self._guests.pop(guest, None)
        if self._emptied is not None and not self._guests and not self._emptied.done():
            self._emptied.set_result(None)

    def close(self) -> None:
        """Close each when what it waits for is answered."""
        for guest in list(self._guests):
            guest.close()

    async def wait_empty(self) -> None:
        """Wait until there are none; for one caller."""
        if self._guests:
            self._emptied = self._loop.create_future()
            await self._emptied

    def abort(self) -> None:
        """End those that are left, and look after none any more."""
        for guest in list(self._guests):
            guest.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        idle = sorted((guest for guest in self._guests if guest.is_idle), key=lambda guest: guest.since)
        for guest in idle[: max(1, self._limit // ROOM_SHARE)]:
            self.evicted += 1
            guest.evict()
            self.remove(guest)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for guest in list(self._guests):
            guest.expire(now)
        if self._guests:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)

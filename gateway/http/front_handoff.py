"""A connection that aiohttp has been given. It stays there until it ends."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.http.front_table import Connections


class HandedOff(asyncio.Protocol):
    """Passes everything on to aiohttp's handler, and tells the table when the connection ends, and whether it is idle.

    Idle connections and slow heads are closed by aiohttp itself (its `keepalive_timeout` counts from the hand-off and
    from each answer), slow bodies by `bodies.py`. A reader that takes nothing of an answer is aborted here.
    """

    __slots__ = ("_connections", "_handler", "_requests", "_transport", "_unsent_bytes", "since")

    def __init__(
        self, handler: RequestHandler, connections: Connections, transport: asyncio.Transport, now: float
    ) -> None:
        self._handler = handler
        self._transport = transport
        self._unsent_bytes = 0
        self._connections = connections
        self._requests = 0
        """Being worked on."""
        self.since = now

    def start(self, data: bytes) -> None:
        """Begin with `data`, which has been read already."""
        self._transport.set_protocol(self)
        self._handler.connection_made(self._transport)
        self._handler.data_received(data)

    @property
    def is_idle(self) -> bool:
        """Also with a head that has not come whole: it is its client's to repeat."""
        return not self._requests and not self._transport.get_write_buffer_size()

    def begins(self) -> None:
        """Aiohttp works on a request."""
        self._requests += 1

    def ends(self) -> None:
        """It has the answer."""
        self._requests -= 1
        self.since = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        self.since = asyncio.get_running_loop().time()
        self._unsent_bytes = 0  # it reads, or it would not ask for more
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._unsent_bytes = 0
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self._handler.connection_lost(exc)

    def expire(self, now: float) -> None:  # noqa: ARG002 -- measured in sweeps
        """Abort it if nothing was taken of what was unsent at the last sweep."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if self._unsent_bytes and unsent_bytes >= self._unsent_bytes:
            self._transport.abort()
        self._unsent_bytes = unsent_bytes

    def close(self) -> None:
        """Nothing: aiohttp's server closes its own, and waits for what they work on."""

    def evict(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


@web.middleware
async def watched(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Let the connection of a request know that it is being worked on."""
    guest = request.transport.get_protocol() if request.transport is not None else None
    if not isinstance(guest, HandedOff):
        return await handler(request)
    guest.begins()
    try:
        return await handler(request)
    finally:
        guest.ends()

"""The hot front of the ingest listener: most requests are ordinary webhooks, and they cost what a C proxy costs.

Each connection begins as a `Connection`, which answers exactly one kind of request: an HTTP/1.1 POST to the webhook's
path with a known length (`_fast/http_head.pyx` says how ordinary it must be). With the first request of another kind
the connection is aiohttp's, on the same transport and with the bytes read, and stays so. So the fast path stays tiny
and strict and the complete server complete; `tests/test_http_front_difference.py` compares the two.
"""

import asyncio
import contextlib
import ssl
from typing import Final, cast

from gateway._fast.front_connection import Connection, Door
from gateway.http.front_table import Connections

BACKLOG: Final = 4096
"""Connections the kernel holds for us: 32 nodes with 24 requests each, five times over."""

HANDSHAKE_TIMEOUT_S: Final = 15.0
"""For TLS. A connection is counted only after it."""


class Front:
    """Listens, and makes a `Connection` of each connection."""

    def __init__(self, door: Door, connections: Connections) -> None:
        """`connections` are those of `door`."""
        self._door = door
        self._connections = connections
        self._server: asyncio.Server | None = None

    def connection(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return cast(asyncio.Protocol, Connection(self._door))  # native: it cannot inherit from it

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Open the door; the port. Raises OSError when that can't be."""
        self._server = server = await asyncio.get_running_loop().create_server(
            self.connection,
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if tls else None,
            backlog=BACKLOG,
        )
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def drain(self) -> None:
        """Accept no connection any more, and leave every request to aiohttp, which refuses it."""
        self._door.drain()
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Drain, and close each connection of ours once what it waits for is answered; aiohttp closes its own."""
        self.drain()
        self._connections.close()

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until all connections are closed, aiohttp's too, for at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._connections.wait_empty()

    def abort(self) -> None:
        """Cut off what is left. A client that does not read would keep the loop from closing."""
        self._connections.abort()

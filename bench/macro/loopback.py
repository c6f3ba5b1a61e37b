"""Raw HTTP on loopback for benchmarks: a load that keeps connections busy, and a backend that only says 200.

Both are uvloop protocols on llhttp, so that what they cost stays far below what is measured.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

import httptools

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class OkServer(asyncio.Protocol):
    """Answers every request with an empty 200 and counts them."""

    served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        type(self).served += 1
        self._transport.write(_OK)


class _Connection(asyncio.Protocol):
    """One request at a time, until the bodies run out."""

    def __init__(
        self, head: Callable[[int], bytes], bodies: Iterator[bytes], done: asyncio.Future[None]
    ) -> None:
        self._head = head
        self._bodies = bodies
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def _next(self) -> None:
        body = next(self._bodies, None)
        if body is None:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self._head(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 200:
            self._parser = httptools.HttpResponseParser(self)
            self._next()
        elif not self._done.done():
            self._done.set_exception(RuntimeError(f"answered {status}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed by the server"))


async def post_all(port: int, path: str, bodies: Iterator[bytes], connections: int) -> None:
    """POST every body, `connections` at a time, each answered 200 before the next on its connection.

    Raises RuntimeError for another answer, OSError when a connection breaks.
    """
    loop = asyncio.get_running_loop()

    def head(length: int) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()

    finished = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda done=done: _Connection(head, bodies, done), "127.0.0.1", port)  # type: ignore[misc]
        finished.append(done)
    await asyncio.gather(*finished)

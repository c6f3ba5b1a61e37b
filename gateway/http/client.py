"""Outgoing HTTP/1.1: kept connections, every failure turned into a value.

Laid out in one file a step: `target` takes a URL apart, `head` renders a request's head, `exchange` is one request,
`pool` finds it a connection that `connect` makes (with `resolve`), `connection` writes and reads, `answer` judges
what is read. On a kept connection a request costs two calls of the transport and no task, timer or parser object;
`bench/micro/http_client.py` measures it.

Not done: redirects, cookies, proxies, pipelining, HTTP/2. Answers should come as they are (`Accept-Encoding:
identity`); gzip and deflate are understood all the same.
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

from gateway.clock import NS_PER_MS, Clock, SystemClock
from gateway.http.answer import ANSWER_MAX_BYTES
from gateway.http.connect import Connector, NetworkConnector
from gateway.http.connection import PIECE_BYTES
from gateway.http.exchange import Done, Exchange
from gateway.http.head import has_body, render_start
from gateway.http.pool import CONNECT_SHARE, Pool
from gateway.http.resolve import Resolver
from gateway.http.response import Response, unsent
from gateway.http.target import Origin, read_url

__all__ = ["ANSWER_MAX_BYTES", "CONNECT_SHARE", "Endpoint", "HttpClient", "Response", "tls_context"]


def tls_context(ca: Path | None, *, verifies: bool = True) -> ssl.SSLContext:
    """How the other side's certificate is checked: by `ca` (PEM), or by the system's authorities.

    Raises OSError when `ca` can't be read, ssl.SSLError when it is no certificate.
    """
    context = ssl.create_default_context(cafile=ca)
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Waiter:
    """A callback to be awaited."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def done(self, response: Response) -> None:
        """Give this to `Endpoint.start`."""
        if not self._future.done():
            self._future.set_result(response)

    async def wait(self, exchange: Exchange) -> Response:
        """Cancelled, it cancels `exchange`."""
        try:
            return await self._future
        except asyncio.CancelledError:
            exchange.cancel()
            raise


class Endpoint:
    """One method of one URL. What is the same for all requests to it is rendered once."""

    __slots__ = ("_is_head_request", "_pool", "_start")

    def __init__(self, pool: Pool, start: bytes, *, is_head_request: bool) -> None:
        self._pool = pool
        self._start = start
        self._is_head_request = is_head_request

    def start(self, body: bytes, headers: bytes, done: Done) -> Exchange:
        """Begin a request; `done` gets the answer, later and once, and must not raise.

        `headers` are lines as `render_headers` makes them, and not checked again. The exchange can be cancelled.
        """
        assert not headers or headers.endswith(b"\r\n"), "header lines end in CR LF"
        if len(body) <= PIECE_BYTES:
            head = b"%b%bContent-Length: %d\r\n\r\n%b" % (self._start, headers, len(body), body)
            body = b""
        else:
            head = b"%b%bContent-Length: %d\r\n\r\n" % (self._start, headers, len(body))
        return self._pool.start(head, body, done, self._is_head_request)

    def start_bare(self, headers: bytes, done: Done) -> Exchange:
        """As `start`, of a request that has no body and no length."""
        return self._pool.start(self._start + headers + b"\r\n", b"", done, self._is_head_request)

    async def ask(self, body: bytes, headers: bytes) -> Response:
        """As `start`, to be awaited. Raises nothing but CancelledError, which closes its connection."""
        waiter = Waiter()
        return await waiter.wait(self.start(body, headers, waiter.done))


class HttpClient:
    """Connections to one service, or a few. Make it on the loop; close it at the end."""

    def __init__(
        self,
        timeout_ms: int,
        connections: int,
        tls: ssl.SSLContext,
        *,
        clock: Clock | None = None,
        connector: Connector | None = None,
    ) -> None:
        """At most `connections` at once to a host and port.

        `timeout_ms` covers waiting for one of them, connecting, sending and the whole answer.
        """
        self._timeout_ns = timeout_ms * NS_PER_MS
        self._connections = connections
        self._clock = clock or SystemClock()
        self._connector = connector or NetworkConnector(tls, Resolver(self._clock))
        self._pools: dict[Origin, Pool] = {}

    def endpoint(self, method: str, url: str, headers: Mapping[str, str]) -> Endpoint:
        """What to send many requests to. Raises ValueError for a URL or header that can't be sent."""
        target = read_url(url)
        pool = self._pools.get(target.origin)
        if pool is None:
            pool = self._pools[target.origin] = Pool(
                target.origin, self._connections, self._timeout_ns, self._connector, self._clock
            )
        return Endpoint(pool, render_start(method, target, headers), is_head_request=method == "HEAD")

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Make one request, following no redirect. Raises nothing but CancelledError, which closes its connection.

        An answer whose status came and whose body broke off has its status and no body: the other side has
        decided, and asking again would repeat what it did.
        """
        try:
            endpoint = self.endpoint(method, url, headers or {})
        except ValueError as error:
            return unsent(str(error))
        if has_body(method, body):
            return await endpoint.ask(body, b"")
        waiter = Waiter()
        return await waiter.wait(endpoint.start_bare(b"", waiter.done))

    async def close(self) -> None:
        """Close all connections. What is under way ends with an error."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

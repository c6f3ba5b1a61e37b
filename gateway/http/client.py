"""Outgoing HTTP/1.1: kept connections, every failure turned into a value.

Laid out in one file a step: `target` takes a URL apart, `head` renders what all requests begin with, `pool` finds a
connection that `connect` makes (with `resolve`), `answer` judges an unusual answer. What each request does is in
`_fast`: `endpoint` renders it, `exchange` is it, `connection` writes it and reads its `response`. On a kept connection
it costs three calls of the transport and no task, timer or parser object; `bench/micro/http_client.py` measures it.

Not done: redirects, cookies, proxies, pipelining, HTTP/2. Answers should come as they are (`Accept-Encoding:
identity`); gzip and deflate are understood all the same.
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

from gateway._fast.endpoint import BaseEndpoint
from gateway._fast.exchange import Exchange
from gateway._fast.response import Response, unsent
from gateway.clock import NS_PER_MS, Clock, SystemClock
from gateway.http.answer import ANSWER_MAX_BYTES
from gateway.http.connect import Connector, NetworkConnector
from gateway.http.head import has_body, render_start
from gateway.http.pool import CONNECT_SHARE, Pool
from gateway.http.resolve import Resolver
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


class Waiter(Exchange):
    """A request to be awaited."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def settled(self, response: Response) -> None:
        """The end, for whoever waits."""
        if not self._future.done():
            self._future.set_result(response)

    async def wait(self) -> Response:
        """Cancelled, it cancels the request."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.cancel()
            raise


class Endpoint(BaseEndpoint):
    """As many requests begin here as are wanted; `start` is for those who are called back."""

    __slots__ = ()

    async def ask(self, body: bytes | None, headers: bytes) -> Response:
        """As `start`, to be awaited; without a body and a length with None.

        Raises nothing but CancelledError, which closes its connection.
        """
        waiter = Waiter()
        self.start_exchange(waiter, body, headers)
        return await waiter.wait()


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
        return Endpoint(pool, render_start(method, target, headers), method == "HEAD")

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
        return await endpoint.ask(body if has_body(method, body) else None, b"")

    async def close(self) -> None:
        """Close all connections. What is under way ends with an error."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

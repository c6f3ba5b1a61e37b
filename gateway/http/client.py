"""Outgoing HTTP: one pooled session, every failure turned into a value.

aiohttp's client for now; the hot client takes its place behind the same two classes.
"""

import ssl
from pathlib import Path
from typing import Final

import aiohttp

from gateway import __version__

CONNECT_SHARE: Final = 0.8
"""Of the time-out, for connecting: a connection that never comes about is told apart from a silent server."""

ANSWER_MAX_BYTES: Final = 1 << 20
"""Of an answer that is read; a backend's or a node's is a few hundred bytes. The rest is cut off."""

IDLE_S: Final = 60
"""How long an unused connection is kept."""


class Response:
    """An answer: `status` is None when there was none, and `error` says why."""

    __slots__ = ("body", "error", "headers", "status", "was_sent")

    def __init__(
        self,
        status: int | None,
        headers: dict[str, str],
        body: bytes,
        error: str = "",
        *,
        was_sent: bool = True,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.error = error
        self.was_sent = was_sent
        """False when the request certainly did not reach the other side (no connection was made)."""


def tls_context(ca: Path | None, *, verifies: bool = True) -> ssl.SSLContext:
    """How the other side's certificate is checked: by `ca` (PEM), or by the system's authorities.

    Raises OSError when `ca` can't be read, ssl.SSLError when it is no certificate.
    """
    context = ssl.create_default_context(cafile=ca)
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class HttpClient:
    """A connection pool to one service. Make it on the loop; close it at the end."""

    def __init__(self, timeout_ms: int, connections: int, tls: ssl.SSLContext) -> None:
        """At most `connections` at once; `timeout_ms` covers connecting, sending and the whole answer."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections, keepalive_timeout=IDLE_S, ssl=tls, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(
                total=timeout_ms / 1000, sock_connect=timeout_ms / 1000 * CONNECT_SHARE
            ),
            headers={"User-Agent": f"wa-gateway/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        """Make one request, following no redirect. Raises nothing but CancelledError.

        An answer whose status came and whose body broke off has its status and no body: the other side has
        decided, and asking again would repeat what it did.
        """
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                given = {name.lower(): value for name, value in answer.headers.items()}
                try:
                    return Response(answer.status, given, await _read(answer))
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    return Response(answer.status, given, b"", f"body: {type(error).__name__}: {error}")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Response(None, {}, b"", str(error), was_sent=False)
        except TimeoutError:
            return Response(None, {}, b"", "timed out")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Response(None, {}, b"", f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body, cut off at `ANSWER_MAX_BYTES`."""
    content = b""
    while len(content) < ANSWER_MAX_BYTES and not answer.content.at_eof():
        content += await answer.content.read(ANSWER_MAX_BYTES - len(content))
    return content

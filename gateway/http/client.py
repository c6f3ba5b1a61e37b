"""Outgoing HTTP: one pooled session, every failure turned into a value.

aiohttp's client for now; the hot client takes its place behind the same two classes.
"""

import ssl
from pathlib import Path
from typing import Final

import aiohttp

from gateway import __version__

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
            timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
            headers={"User-Agent": f"wa-gateway/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        """Make one request, following no redirect. Raises nothing but CancelledError."""
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.content.read(ANSWER_MAX_BYTES)
                while not answer.content.at_eof() and len(content) < ANSWER_MAX_BYTES:
                    content += await answer.content.read(ANSWER_MAX_BYTES - len(content))
                return Response(answer.status, {k.lower(): v for k, v in answer.headers.items()}, content)
        except aiohttp.ClientConnectorError as error:
            return Response(None, {}, b"", str(error), was_sent=False)
        except TimeoutError:
            return Response(None, {}, b"", "timed out")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Response(None, {}, b"", f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

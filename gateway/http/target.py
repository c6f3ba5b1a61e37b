"""A URL of ours taken apart: where to connect, and what the request's head says of it."""

import base64
import functools
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import msgspec

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
UNIX_SCHEME: Final = "http+unix"

_NOT_IN_A_URL: Final = re.compile(r"[^\x21-\x7e]")


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: a host and port, with TLS or without, or the path of a unix socket."""

    host: str
    port: int
    has_tls: bool = False
    unix_path: str = ""

    def __str__(self) -> str:
        return self.unix_path or f"{self.host_in_brackets}:{self.port}"

    @property
    def host_in_brackets(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host


class Target(msgspec.Struct, frozen=True):
    """What is asked for, and where."""

    origin: Origin
    path: str
    """With the query; as given, nothing is normalised."""
    host: str
    """The value of Host."""
    authorization: str
    """The value of Authorization that the URL's user and password make; empty when it has none."""


@functools.lru_cache(maxsize=256)
def read_url(url: str) -> Target:
    """`http://`, `https://`, or `http+unix://` with the socket's path percent-encoded in the host's place.

    Raises ValueError.
    """
    if _NOT_IN_A_URL.search(url):
        raise ValueError("a URL has no spaces, control or non-ASCII characters")
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == UNIX_SCHEME:
        return Target(Origin("", 0, unix_path=_unix_path(parts.netloc)), path, "localhost", "")
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(
            f"{parts.scheme or 'no'} scheme or no host; expected http://, https:// or http+unix://"
        )
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    # A zone, as in [fe80::1%25eth0], is ours alone: it tells the kernel which link, and the server nothing.
    address = unquote(parts.hostname) if ":" in parts.hostname else parts.hostname
    origin = Origin(address, port, has_tls=parts.scheme == "https")
    host = Origin(address.partition("%")[0], port).host_in_brackets
    return Target(
        origin,
        path,
        host if port == DEFAULT_PORTS[parts.scheme] else f"{host}:{port}",
        _basic(parts.username, parts.password),
    )


def _unix_path(netloc: str) -> str:
    path = unquote(netloc)
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(
            "the path of a unix socket is absolute, with %2F for its slashes, as in %2Frun%2Fx.sock"
        )
    return path


def _basic(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    secret = unquote_to_bytes(user) + b":" + unquote_to_bytes(password or "")
    return f"Basic {base64.b64encode(secret).decode()}"

"""The head of a request, as much of it as possible rendered once."""

import re
from collections.abc import Mapping
from typing import Final

from gateway import __version__
from gateway.http.target import Target

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""What frames a request is not for callers to say."""
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})


def render_headers(headers: Mapping[str, str]) -> bytes:
    """`headers` as lines. Raises ValueError for what is no header, or would end one early."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"{name!r} is no name of a header that can be given")
        if not _VALUE.fullmatch(value):
            # The value itself may be a secret.
            raise ValueError(f"the value of {name} has a control or non-latin character in it")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def render_start(method: str, target: Target, headers: Mapping[str, str]) -> bytes:
    """The head up to where a request's own headers follow. Raises ValueError.

    No answer should come encoded: a few hundred bytes aren't worth the work at both ends.
    """
    if not _NAME.fullmatch(method):
        raise ValueError(f"{method!r} is no method")
    ours = {"User-Agent": f"wa-gateway/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    if target.authorization:
        ours["Authorization"] = target.authorization
    given = {name.lower() for name in headers}
    ours = {name: value for name, value in ours.items() if name.lower() not in given}
    first = f"{method} {target.path} HTTP/1.1\r\nHost: {target.host}\r\n".encode("ascii")
    return first + render_headers({**ours, **headers})


def has_body(method: str, body: bytes) -> bool:
    """Whether a request says how long its body is, be it empty."""
    return bool(body) or method not in _WITHOUT_BODY

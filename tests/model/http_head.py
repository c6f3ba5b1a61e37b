"""The heads that the hot path takes, by a regular expression for each line."""

import re
from typing import NamedTuple

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([ -~]*)")
_CHECKS = {
    b"host": re.compile(rb"[0-9A-Za-z.\-:\[\]_]+"),
    b"content-length": re.compile(rb"0|[1-9][0-9]{0,11}"),
    b"connection": re.compile(rb"keep-alive", re.IGNORECASE),
    b"content-type": re.compile(rb".*"),
    b"user-agent": re.compile(rb".*"),
    b"x-hub-signature-256": re.compile(rb".*"),
}
"""Fields that may come once, and what they may say."""

_NEVER = {
    b"transfer-encoding",
    b"content-encoding",
    b"content-location",
    b"content-range",
    b"etag",
    b"expect",
    b"max-forwards",
    b"proxy-connection",
    b"sec-websocket-key1",
    b"server",
    b"trailer",
    b"upgrade",
}


class Hot(NamedTuple):
    """A head that is taken."""

    head_size: int
    body_size: int
    signature: bytes


def scan_complete(data: bytes, path: bytes, body_max: int) -> Hot | None:
    """What a head is that ends within `data`; None: not ordinary."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    if not separator or len(head) + 4 > 16384:
        return None
    line, *lines = head.split(b"\r\n")
    if line != b"POST " + path + b" HTTP/1.1" or len(lines) > 64:
        return None
    fields: dict[bytes, bytes] = {}
    for text in lines:
        matched = _FIELD.fullmatch(text)
        if not matched or len(text) > 8000:
            return None
        name, value = matched[1].lower(), matched[2].strip(b" ")
        if name in _NEVER:
            return None
        if name in _CHECKS and (name in fields or not _CHECKS[name].fullmatch(value)):
            return None
        fields[name] = value
    if b"host" not in fields or b"content-length" not in fields:
        return None
    size = int(fields[b"content-length"])
    if size > body_max:
        return None
    return Hot(len(head) + 4, size, fields.get(b"x-hub-signature-256", b""))

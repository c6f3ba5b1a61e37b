"""One request to a listener of this machine's gateway, for a command. Standard library only: a command starts fast."""

import http.client
from collections.abc import Mapping
from typing import Final

TIMEOUT_S: Final = 5.0
BODY_MAX_BYTES: Final = 1 << 20
"""A report is a few kilobytes; something else that answers there may send what it likes."""

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- a listener's, asked by loopback


def get(host: str, port: int, path: str, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Status and body of a GET, as `ask` gives them."""
    return ask("GET", host, port, path, timeout_s=timeout_s)


def ask(
    method: str,
    host: str,
    port: int,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    body_max_bytes: int = BODY_MAX_BYTES,
) -> tuple[int, bytes]:
    """Status and body of the answer; blocks for at most `timeout_s` a step.

    Raises OSError when nobody listens or answers in time, http.client.HTTPException when it is no HTTP, and
    ValueError when the body is larger than `body_max_bytes`. A host that means every interface is asked by loopback.
    """
    connection = http.client.HTTPConnection(_ANY_ADDRESS.get(host, host), port, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        answer = response.read(body_max_bytes + 1)
    finally:
        connection.close()
    if len(answer) > body_max_bytes:
        raise ValueError(f"the answer is larger than {body_max_bytes} bytes")
    return response.status, answer

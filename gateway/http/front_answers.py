"""The bytes that the hot path answers with. The one for success is made once a second."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol

from gateway.clock import Clock

RETRY_AFTER_S: Final = "1"


class Reception(Protocol):
    """How a webhook is answered."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Answers:
    """Answers of one listener. Calls are given the loop's time, in seconds; the date is the wall clock's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stale_at = float("-inf")
        """When what `ok` says is no longer true."""
        self._date = ""
        self._ok = b""

    def ok(self, now: float) -> bytes:
        """200 with an empty object. RFC 9110 (6.6.1) wants a date on it, to the second."""
        if now >= self.stale_at:
            self._renew(now)
        return self._ok

    def refusal(self, status: int, text: str, now: float, *, closes: bool = False) -> bytes:
        """`text` with another status; 503 says when to come again, and `closes` that nothing follows."""
        if now >= self.stale_at:
            self._renew(now)
        body = text.encode(errors="backslashreplace")
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            self._date,
        ]
        if status == 503:
            lines.append(f"Retry-After: {RETRY_AFTER_S}")
        if closes:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _renew(self, now: float) -> None:
        """Make what is valid until the wall clock's next second."""
        wall_ms = self._clock.wall_ms()
        self.stale_at = now + 1 - wall_ms % 1000 / 1000
        self._date = f"Date: {formatdate(wall_ms // 1000, usegmt=True)}"
        self._ok = (
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: application/json\r\n"
            "Content-Length: 2\r\n"
            f"{self._date}\r\n\r\n"
            "{}"
        ).encode()

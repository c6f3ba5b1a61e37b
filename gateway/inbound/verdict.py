"""What a backend's answer means for the record, as data. Pure."""

import enum
from typing import Final

from gateway.inbound.limit import Sign


class Verdict(enum.Enum):
    """What becomes of a record after an attempt."""

    __hash__ = object.__hash__  # members are one of a kind, and this is no Python code

    DELIVERED = "delivered"
    RETRY = "retry"
    """The backend is in trouble: it costs an attempt and counts against its health."""
    RETRY_FREE = "retry_free"
    """The backend asks us to slow down: no attempt is spent."""
    GONE = "gone"
    """The backend says that the endpoint is there no more: nothing goes to it until an operator resumes it."""
    PARK = "park"
    """The backend understood the request and refuses this body: sending it again can't help."""


_BODY_REFUSED: Final = frozenset({400, 406, 409, 411, 412, 413, 414, 415, 417, 421, 422, 431, 451})
"""Answers that speak of this request. All others of 4xx (401, 403, 404, 405 …) speak of the endpoint: a wrong
token or a deployment in progress must not park every message that comes meanwhile."""


_DELIVERED: Final = Verdict.DELIVERED


def judge(status: int | None) -> Verdict:
    """The verdict on an HTTP status; None stands for no answer (time-out, refused, cut off)."""
    if status is None:
        return Verdict.RETRY
    if 200 <= status < 300:
        return _DELIVERED
    if status == 429:
        return Verdict.RETRY_FREE
    if status == 410:
        return Verdict.GONE
    return Verdict.PARK if status in _BODY_REFUSED else Verdict.RETRY


_OVERLOADED: Final = frozenset({None, 429, 502, 503, 504})
"""No answer in time or no connection, also where a proxy tells us so, and those who say it themselves."""


def load_sign(status: int | None) -> Sign:
    """What an answer that is neither DELIVERED nor PARK says of the destination's load."""
    return Sign.OVERLOADED if status in _OVERLOADED else Sign.NEITHER


def retry_after_ms(value: str | None, longest_ms: int) -> int:
    """A Retry-After header in milliseconds, at most `longest_ms`; 0 where there is none we can read.

    Only the form in seconds is read (RFC 9110, 10.2.3): a date would trust the backend's clock.
    """
    if value is None or not value.strip().isascii() or not value.strip().isdigit() or len(value) > 9:
        return 0
    return min(int(value) * 1000, longest_ms)

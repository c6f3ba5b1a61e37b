"""The outcome table: what the node's answer to a send means. Data, in one place, for both dialects.

Sources are the error pages of both APIs as the protocol page of this project's documentation lists them.
HTTP status and code are looked at in that order of trust that Meta gives: the code where there is one,
the status where there is none.
"""

import enum
from typing import Final

from gateway.dialects.dialect import Answer


class Effect(enum.Enum):
    """What a send's answer does."""

    SENT = "sent"
    LOGIN = "login"
    """Our token is no longer good: log in again and repeat; no attempt is spent."""
    CONTACT = "contact"
    """The node does not know the contact yet: ask for it, then once more."""
    PAUSE_ALL = "pause_all"
    """The number or the node is overloaded: nothing is sent for a while; no attempt is spent."""
    PAUSE_BULK = "pause_bulk"
    """The number is restricted for spam: bulk waits, answers to customers go on; no attempt is spent."""
    PAUSE_RECIPIENT = "pause_recipient"
    """Too many to this one recipient: the send waits 4^n s, and nothing else does."""
    RETRY = "retry"
    FAIL = "fail"


_BY_CODE: Final = {
    # On-prem
    1005: Effect.LOGIN,
    1006: Effect.CONTACT,
    429: Effect.PAUSE_ALL,
    503: Effect.PAUSE_ALL,
    1015: Effect.PAUSE_ALL,
    1016: Effect.PAUSE_ALL,
    471: Effect.PAUSE_BULK,
    500: Effect.RETRY,
    1000: Effect.RETRY,
    1011: Effect.PAUSE_ALL,  # "Service not ready": no send gets through
    1014: Effect.RETRY,
    1017: Effect.RETRY,
    1018: Effect.RETRY,
    1023: Effect.RETRY,
    2002: Effect.RETRY,
    # Cloud
    4: Effect.PAUSE_ALL,
    80007: Effect.PAUSE_ALL,
    613: Effect.PAUSE_ALL,
    130429: Effect.PAUSE_ALL,
    131048: Effect.PAUSE_BULK,
    131056: Effect.PAUSE_RECIPIENT,
    131000: Effect.RETRY,
    131016: Effect.RETRY,
    131053: Effect.RETRY,
    131057: Effect.RETRY,
    1: Effect.RETRY,
    2: Effect.RETRY,
    190: Effect.LOGIN,
}
"""Codes that are not here fail the message: 470, 131047, 131026, 1008, 1009, 1013 and so on."""


def effect_of(answer: Answer) -> Effect:
    """What to do after `answer`."""
    if 200 <= answer.status < 300:
        return Effect.SENT
    if answer.code is not None and answer.code in _BY_CODE:
        return _BY_CODE[answer.code]
    if answer.status in (429, 503):
        return Effect.PAUSE_ALL
    if answer.status == 401:
        return Effect.LOGIN
    if answer.status >= 500 or answer.status in (408, 425):
        return Effect.RETRY
    return Effect.FAIL

"""What an answer says about a destination's limit (`_fast/limit.pyx`), and how two of one server share its highest."""

import enum
from typing import Final
from urllib.parse import urlsplit

from gateway._fast.limit import NEITHER, OVERLOADED, WELL

EVENTS_SHARE: Final = 4
"""A quarter for events where both webhooks are one server."""


class Sign(enum.IntEnum):
    """What an answer says about the load of whoever gave it."""

    WELL = WELL
    OVERLOADED = OVERLOADED
    NEITHER = NEITHER


def partition(total: int, message_url: str, event_url: str) -> tuple[int, int]:
    """The highest limits of the message and of the event webhook.

    Where both are one server `total` is split, and three quarters are the messages' own whatever events do; each
    gets at least one. Servers of their own have `total` each.
    """
    if _origin(message_url) != _origin(event_url):
        return total, total
    events = max(1, total // EVENTS_SHARE)
    return max(1, total - events), events


def _origin(url: str) -> tuple[str, str | None, int]:
    """Scheme, host and port (RFC 6454, 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)

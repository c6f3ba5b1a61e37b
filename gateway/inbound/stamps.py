"""What a forward says of itself: when it came, how long it waited, which attempt it is. Pure.

Whoever gets it can tell an old message from a new one, and a flood that is being caught up from one that happens.
"""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.events import InboundRecord


def stamps(records: Sequence[InboundRecord], wall_ms: int) -> bytes:
    """The header lines of a request that carries `records` at `wall_ms`; of several, the oldest and the most often tried."""
    if len(records) == 1:
        received_ms, attempts = records[0].received_ms, records[0].attempts
    else:
        received_ms = min(record.received_ms for record in records)
        attempts = max(record.attempts for record in records)
    # The wall clock may have been set back since.
    age_ms = max(0, wall_ms - received_ms)
    received = b"%b.%03dZ" % (second_text(received_ms // 1000), received_ms % 1000)
    return b"X-Gateway-Received: %b\r\nX-Gateway-Age: %d\r\nX-Gateway-Attempt: %d\r\n" % (
        received,
        age_ms,
        attempts + 1,
    )


def rfc3339(wall_ms: int) -> str:
    """UTC with milliseconds (RFC 3339, 5.6)."""
    return f"{second_text(wall_ms // 1000).decode()}.{wall_ms % 1000:03}Z"


@functools.lru_cache(maxsize=64)
def second_text(wall_s: int) -> bytes:
    """A whole second; most of what is forwarded came in the same few."""
    return f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%dT%H:%M:%S}".encode()

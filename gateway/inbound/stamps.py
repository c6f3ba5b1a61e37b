"""What a forward says of itself: when it came, how long it waited, which attempt it is. Pure.

Whoever gets it can tell an old message from a new one, and a flood that is being caught up from one that happens.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.events import InboundRecord


def stamps(records: Sequence[InboundRecord], wall_ms: int) -> dict[str, str]:
    """The headers of a request that carries `records` at `wall_ms`; of several, the oldest and the most often tried."""
    received_ms = min(record.received_ms for record in records)
    return {
        "X-Gateway-Received": rfc3339(received_ms),
        # The wall clock may have been set back since.
        "X-Gateway-Age": str(max(0, wall_ms - received_ms)),
        "X-Gateway-Attempt": str(1 + max(record.attempts for record in records)),
    }


def rfc3339(wall_ms: int) -> str:
    """UTC with milliseconds (RFC 3339, 5.6)."""
    seconds, ms = divmod(wall_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"

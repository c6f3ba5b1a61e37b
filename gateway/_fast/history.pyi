"""What a number did in the last hour, second by second."""

from typing import Final, Self, final

HOUR_S: Final[int]

@final
class SecondsHistory:
    """Counts per second and kind of the last hour, in bounded memory. A `kind` is a `TpsKind`, or below `rows`.

    A kind that does not exist, a negative count and a span that is none raise ValueError.
    """

    def __new__(cls, now_ns: int, rows: int = ...) -> Self:
        """Begin at `now_ns`, with the four kinds or with so many `rows` (1..16)."""

    def record(self, kind: int, count: int, now_ns: int) -> None:
        """Enter `count` events that happened at `now_ns`; one of an earlier second of the last hour counts there.

        What happened before the start is not counted. A second that has 2**32 - 1 of a kind keeps them.
        """

    def count(self, kind: int, seconds: int, now_ns: int) -> int:
        """Events in the last `seconds` (1 to 3600) whole seconds before the one that is running."""

    def observed_s(self, seconds: int, now_ns: int) -> int:
        """How many of the last `seconds` whole seconds lie after the start."""

    def rate_per_s(self, kind: int, seconds: int, now_ns: int) -> float:
        """Events a second over the last `seconds` whole seconds, or over those since the start if it is nearer."""

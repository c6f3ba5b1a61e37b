"""The health of one destination, from the answers it gives."""

from typing import Final, Protocol, Self, final

FAILURES_TO_OPEN: Final[int]
"""So many in a row open it."""

class _Jitter(Protocol):
    def randint(self, a: int, b: int, /) -> int: ...

@final
class Breaker:
    """Closed: requests go; open: none goes before a time; half open: one is under way as a probe, alone."""

    def __new__(cls, wait_min_ms: int, wait_max_ms: int, rng: _Jitter) -> Self:
        """The first wait is half to all of `wait_min_ms`, and it doubles up to `wait_max_ms`.

        Both are 0..1e9, else ValueError.
        """

    @property
    def opened(self) -> int:
        """Times it has opened."""

    @property
    def state(self) -> str:
        """It in a word: closed, open, half_open."""

    @property
    def is_closed(self) -> bool:
        """Whether the destination is well, as far as is known; a probe that is under way knows nothing yet."""

    def may_pass(self, now_ns: int) -> bool:
        """Whether a request may go now."""

    def passes_at_ns(self) -> int | None:
        """When a probe may go; None while closed, or while a probe is under way."""

    def enter(self, now_ns: int) -> bool:
        """A request goes; whether it is the probe, which it is while open. AssertionError where it may not."""

    def succeed(self) -> None:
        """The destination answered as it should: close."""

    def fail(self, now_ns: int, retry_after_ms: int = 0, *, is_probe: bool = False) -> None:
        """The destination did not answer, or with trouble of its own: open when it keeps doing so.

        `retry_after_ms`, 0..1e12, opens it at once, for no less than that. While open, only the probe's failure counts,
        and a later time that an older request is told.
        """

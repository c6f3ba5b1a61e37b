"""The gate of one destination, without those who wait at it."""

from collections.abc import Callable
from typing import Final, Protocol

from typing_extensions import disjoint_base

from gateway._fast.breaker import Breaker
from gateway._fast.limit import ConcurrencyLimit, Passage

SUSPECTS: Final[int]
"""Failures in a row, of records that have failed before, that are still taken for the records' own."""

class _Rate(Protocol):
    def opens_at_ns(self, now_ns: int, *, yields: bool) -> int: ...
    def enter(self, now_ns: int, /) -> None: ...

@disjoint_base
class GateCore:
    """Whether a request may go now, and what its end means for those after it. All calls on the loop."""

    def __init__(
        self,
        breaker: Breaker,
        limit: ConcurrencyLimit,
        rate: _Rate | None = None,
        yields_to: Callable[[int], bool] | None = None,
        *,
        is_dry_run: bool = False,
    ) -> None:
        """`yields_to(now_ns)`: whether someone who goes first needs a token of `rate` now.

        `is_dry_run`: the limit is not kept, and `would_have` counts what would have waited for it.
        """

    @property
    def breaker(self) -> Breaker:
        """The destination's health."""

    @property
    def limit(self) -> ConcurrencyLimit:
        """Its places."""

    @property
    def closed_by(self) -> set[str]:
        """The reasons for which nobody gets through at all; while there is none, it is open as the others say."""

    @property
    def would_have(self) -> int:
        """In a dry run: what would have waited for the limit."""

    def call_when_left(self, on_left: Callable[[], None] | None) -> None:
        """Call this after each request that has ended; None, as at first, while it makes no difference to anyone."""

    def opens_at_ns(self, now_ns: int) -> int:
        """When a request may go: `now_ns` or before for now, NEVER_NS for not until one under way has ended."""

    def needs_token(self, now_ns: int) -> bool:
        """Whether nothing but the rate holds a request back."""

    @property
    def prefers_fresh(self) -> bool:
        """Whether the next to go should be one that has never been tried, if there is one; else retries go first.

        A probe with a record that has failed before would show that record's trouble, not the destination's. Where
        there is only one place, both take turns.
        """

    @property
    def has_room_for_retry(self) -> bool:
        """Whether retries hold less than half of the places.

        The other half is kept free although nothing fresh waits: retries may take until the time-out, all of them.
        """

    def enter(self, now_ns: int, *, is_retry: bool) -> Passage:
        """A request goes: `opens_at_ns` has just said that it may, else it is an AssertionError."""

    def succeed(self, passage: Passage, now_ns: int) -> bool:
        """The destination answered as it should; whether that ends a time of trouble."""

    def fail(
        self,
        passage: Passage,
        now_ns: int,
        sign: int,
        retry_after_ms: int,
        *,
        shows_trouble: bool,
    ) -> bool:
        """The destination did not; whether its breaker opens by that.

        `shows_trouble`: the failure is the destination's, and not one of this record, which may be the trouble itself.
        """

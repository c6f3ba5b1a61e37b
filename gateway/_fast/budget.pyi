"""The number's budget: windows, bucket and floor behind one call per event and one per decision."""

from typing import Final, Self, final

from gateway._fast.bucket import TokenBucket
from gateway._fast.window import SlidingWindow

NEVER_NS: Final[int]
"""2**63 - 1: the time that never comes."""

@final
class EventBudget:
    """Counts what happens and grants sends. Kinds are 0 receive, 1 send, 2 delivered, 3 read.

    A send is granted when `window` has room under `limit` and `bucket` has its tokens, or when `floor` has them.
    Each grant is spent from all three. Nothing is granted before `opens_at_ns`.
    All calls are O(1) amortised; about 60 ns from Python.
    """

    def __new__(
        cls,
        limit: int,
        window: SlidingWindow,
        bucket: TokenBucket,
        costs: tuple[int, int, int, int],
        opens_at_ns: int,
        floor: TokenBucket | None = None,
    ) -> Self:
        """`limit` is 1..1e6 events a window, each of the four `costs` 0..1000; else ValueError.

        The parts are used, not copied: nobody else may change them.
        """

    @property
    def limit(self) -> int:
        """Most events in one window."""

    @property
    def window_max(self) -> int:
        """Most counted in one window when a send was granted into room, that send included; the floor's apart."""

    @property
    def floor_grants(self) -> int:
        """Sends granted by the floor although the window or the bucket had no room."""

    def charge(self, kind: int, count: int, now_ns: int) -> None:
        """Book `count` (0..1e6) events of `kind` that have happened; never refused."""

    def try_send(self, now_ns: int) -> int:
        """Grant and book one send and return `now_ns`, or return the earliest time to ask again.

        Exact for what is booked so far; arrivals until then may move it on. Granted if, and only if, the answer
        equals `now_ns`.
        """

    def set_plan(self, limit: int, bucket: TokenBucket, floor: TokenBucket | None = None) -> None:
        """Change the limit and the rates from the next grant on; what is in the window stays counted."""

    def set_rate(self, interval_ns: int, burst_ns: int, now_ns: int) -> None:
        """Change the bucket's rate and what it may save up; its level in tokens is kept."""

    def set_floor_rate(self, interval_ns: int, burst_ns: int, now_ns: int) -> None:
        """The same for the floor; nothing where there is none."""

    def used(self, kind: int, now_ns: int) -> int:
        """Events of `kind` in the last second."""

    def in_window(self, now_ns: int) -> int:
        """What counts against the limit now."""

    def total(self, kind: int) -> int:
        """Events of `kind` booked so far."""

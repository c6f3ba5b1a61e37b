"""What a send causes: delivered and read receipts per recipient, learned from sends that have settled.

A sample of sends is watched for ten minutes each, and what came in that time enters two moving averages.
A sample, because each watched send costs memory: while SENDS_MAX are watched, new ones are not. The oldest are never
cut short for a new one, which would count their late reads as missing.
Delivered is learned apart from read: it decides how many receipts a group send is expected to cause at once.
"""

from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Final

from gateway.clock import NS_PER_S

WATCH_NS: Final = 600 * NS_PER_S
"""Nine reads in ten come within five minutes (lognormal, median 60 s); a receipt after ten is of no moment."""
REACH_NS: Final = 20 * NS_PER_S
"""Until what has come to a group says how large it is: most phones that are on have answered."""
SENDS_MAX: Final = 4_096
"""About 1 MB."""
DELIVERED_START: Final = 0.95
READ_START: Final = 0.70
"""What client projects report."""
WEIGHT: Final = 1 / 1024
"""Of one recipient in the averages: half of what is known comes from the last 700."""


class _Watched:
    __slots__ = ("delivered", "members", "read", "settles_ns", "to")

    def __init__(self, to: str, members: int, settles_ns: int) -> None:
        self.to = to
        self.members = members
        self.settles_ns = settles_ns
        self.delivered = 0
        self.read = 0

    @property
    def reached(self) -> int:
        """Distinct recipients who have it: some tell only that they read it."""
        return max(self.delivered, self.read)


class Ratios:
    """Moving averages over sends. Pure: time comes in as `now_ns`."""

    def __init__(self) -> None:
        self.delivered_ratio = DELIVERED_START
        """Of recipients, those who have it on their phone in time; a read tells it as well. Within [0, 1]."""
        self.read_ratio = READ_START
        self.settled = 0
        self.on_reached: Callable[[str, int], None] = lambda _to, _participants: None
        """Called 20 s after a group send and when it settles, with the group and how many participants it came to."""
        self.on_sent: Callable[[int, int], None] = lambda _members, _now_ns: None
        """Called for each message that the node took, with its recipients and the time."""
        self._watched: dict[str, _Watched] = {}
        """By message id, oldest first."""
        self._reaching: deque[tuple[int, str]] = deque()
        """When to say how far a group send has come, and its message id; oldest first."""

    def expected(self, members: int) -> int:
        """Quick receipts that a message to so many members will cause."""
        # A share measured as 0.95 and a float's dust above it must not ask for one more.
        return ceil(members * self.delivered_ratio - 1e-9)

    def sent(self, message_id: str, to: str, members: int, now_ns: int) -> None:
        """The node took a message to `members` recipients: 1, or a group's."""
        assert members >= 1, members
        self.settle(now_ns)
        self.on_sent(members, now_ns)
        if message_id and len(self._watched) < SENDS_MAX and message_id not in self._watched:
            self._watched[message_id] = _Watched(to, members, now_ns + WATCH_NS)
            if members > 1:
                self._reaching.append((now_ns + REACH_NS, message_id))

    def arrived(self, message_id: str, *, is_read: bool) -> None:
        """A receipt, told once for each (message, participant, status)."""
        watched = self._watched.get(message_id)
        if watched is None:
            return
        if is_read:
            watched.read += 1
        else:
            watched.delivered += 1

    def settle(self, now_ns: int) -> None:
        """Learn from the sends that have been watched long enough. `sent` does it too."""
        while self._reaching and self._reaching[0][0] <= now_ns:
            watched = self._watched.get(self._reaching.popleft()[1])
            if watched is not None:
                self._tell(watched)
        while self._watched:
            message_id, watched = next(iter(self._watched.items()))
            if watched.settles_ns > now_ns:
                break
            del self._watched[message_id]
            self._learn(watched)

    def _learn(self, watched: _Watched) -> None:
        reached = watched.reached
        members = max(watched.members, reached)
        # As if each recipient had entered by itself with the share of all.
        weight = 1 - (1 - WEIGHT) ** members
        self.delivered_ratio += weight * (reached / members - self.delivered_ratio)
        self.read_ratio += weight * (watched.read / members - self.read_ratio)
        self.settled += 1
        self._tell(watched)

    def _tell(self, watched: _Watched) -> None:
        if watched.members > 1 and (reached := watched.reached):
            self.on_reached(watched.to, reached)

    def watched(self) -> int:
        """Sends being watched, out of SENDS_MAX."""
        return len(self._watched)

"""The pair limit: how often one recipient may be written to, as GCRA with a slot booked for each send.

WhatsApp's Cloud API allows a user one message in 6 s, and 45 at once that are paid back at that rate (131056 beyond).
A booking is never refused: it names the moment, now or later. So sends to one recipient keep their order and wait
for their own moment, and those to all others go on.

What is kept is one number a recipient, the *theoretical arrival time* (the name is GCRA's): when its burst is whole
again. A recipient whose time has passed is as good as unknown and is forgotten.
"""

from collections import OrderedDict
from typing import Final

RECIPIENTS_MAX: Final = 100_000
"""About 15 MB. Beyond, the recipient not written to for longest is forgotten, which may let a message go too soon."""
_SWEEP: Final = 2
"""Recipients looked at with each booking: more than one, so that they are forgotten faster than they come."""


class PairLimit:
    """Slots of recipients. Pure: time comes in as `now_ns`."""

    def __init__(self, interval_ns: int, burst: int, recipients_max: int = RECIPIENTS_MAX) -> None:
        """One send each `interval_ns` (1 or more) to a recipient, `burst` (1 or more) at once."""
        assert interval_ns >= 1, interval_ns
        assert burst >= 1, burst
        self._interval_ns = interval_ns
        self._burst_ns = (burst - 1) * interval_ns
        self._recipients_max = recipients_max
        self._full_at_ns: OrderedDict[str, int] = OrderedDict()
        self.forgotten_early = 0
        """Recipients forgotten for want of room."""

    def reserve(self, to: str, now_ns: int) -> int:
        """Book the next slot of recipient `to`, and return when it is: `now_ns`, or later. O(1)."""
        to = to.lstrip("+")
        full_at_ns = max(self._full_at_ns.get(to, now_ns), now_ns)
        self._full_at_ns[to] = full_at_ns + self._interval_ns
        self._full_at_ns.move_to_end(to)
        self._sweep(now_ns)
        return max(now_ns, full_at_ns - self._burst_ns)

    def _sweep(self, now_ns: int) -> None:
        for _ in range(_SWEEP):
            to, full_at_ns = self._full_at_ns.popitem(last=False)
            if full_at_ns > now_ns:
                self._full_at_ns[to] = full_at_ns  # to the end: others get their turn to be looked at
        while len(self._full_at_ns) > self._recipients_max:
            self._full_at_ns.popitem(last=False)
            self.forgotten_early += 1

    def __len__(self) -> int:
        """Recipients remembered."""
        return len(self._full_at_ns)

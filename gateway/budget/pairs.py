"""The pair limit: how often one recipient may be written to, as GCRA with a slot booked for each send.

WhatsApp's Cloud API allows a user one message in 6 s, and 45 at once that are paid back at that rate (131056 beyond).
A booking is never refused: it names the moment, now or later. So sends to one recipient keep their order and wait
for their own moment, and those to all others go on.

What is kept is one number a recipient, the *theoretical arrival time* (the name is GCRA's): when its burst is whole
again. A recipient whose time has passed is as good as unknown and is forgotten.

After a restart the times are rebuilt from how often each recipient was written to in the last burst * interval, and how
long ago the last one was. Of what was before nothing is known, so the worst is assumed that these two allow.
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
        self._went_ns: dict[str, int] = {}
        """As the above, of what went, and when it went; never later than that."""
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

    def free_at_ns(self, to: str, now_ns: int) -> int:
        """When a send may go, by when those before it went: where they were late, later than its slot."""
        return max(now_ns, self._went_ns.get(to.lstrip("+"), 0) - self._burst_ns)

    def went(self, to: str, now_ns: int) -> None:
        """A send goes now. What is booked from now on comes after it."""
        to = to.lstrip("+")
        whole_ns = max(self._went_ns.get(to, now_ns), now_ns) + self._interval_ns
        self._went_ns[to] = whole_ns
        self._full_at_ns[to] = max(self._full_at_ns.get(to, whole_ns), whole_ns)
        self._bound()

    def restore(self, to: str, sends: int, last_age_ns: int, now_ns: int) -> None:
        """`sends` (1 or more) went to `to` in the last burst * interval, the last one `last_age_ns` ago.

        Told of each recipient once, oldest first; recipients that differ in a plus only are added up.
        """
        assert sends >= 1, sends
        assert last_age_ns >= 0, last_age_ns
        to = to.lstrip("+")
        # A debt of before that span is paid back by now, so what was sent since is all that can be owed: if there was
        # such a debt, all of it. And a slot is never booked with more than a burst owed, that slot included.
        owed_by_now_ns = max(self._full_at_ns.get(to, now_ns), now_ns) + sends * self._interval_ns
        owed_at_last_ns = now_ns - last_age_ns + self._burst_ns + self._interval_ns
        full_at_ns = min(owed_by_now_ns, owed_at_last_ns)
        if full_at_ns > now_ns:
            self._full_at_ns[to] = full_at_ns
            self._full_at_ns.move_to_end(to)
            self._went_ns[to] = full_at_ns
            self._bound()

    def _sweep(self, now_ns: int) -> None:
        for _ in range(_SWEEP):
            to, full_at_ns = self._full_at_ns.popitem(last=False)
            if full_at_ns > now_ns:
                self._full_at_ns[to] = full_at_ns  # to the end: others get their turn to be looked at
            else:
                self._went_ns.pop(to, None)
        self._bound()

    def _bound(self) -> None:
        while len(self._full_at_ns) > self._recipients_max:
            self._went_ns.pop(self._full_at_ns.popitem(last=False)[0], None)
            self.forgotten_early += 1

    def __len__(self) -> int:
        """Recipients remembered."""
        return len(self._full_at_ns)

"""How many requests may be under way to one destination: found by trying, as TCP finds its window (RFC 5681).

Slow start: one more for each success, until answers take longer (`slow_start.py`). Additive increase after it: one more
after as many successes as the limit counts. Both only if all of it was in use. Multiplicative decrease: to 70 % when the
destination is overloaded, or when `Congestion` finds that it queues what we send it. What was under way at a change speaks
of the limit before it and changes nothing: so sixteen requests that time out together are one sign, not sixteen, and an
episode is exactly one round trip. Pure: time comes in.
"""

import enum
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.inbound.congestion import Advice, Congestion
from gateway.inbound.slow_start import Pace, SlowStart

START: Final = 4
"""A few: enough for a backend that takes 50 ms to get 80 requests a second from the first one on."""
DECREASE: Final = 0.7
EVENTS_SHARE: Final = 4
"""A quarter for events where both webhooks are one server."""


class Sign(enum.Enum):
    """What an answer says about the load of whoever gave it."""

    WELL = "well"
    OVERLOADED = "overloaded"
    NEITHER = "neither"


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One request under way."""

    era: int
    number: int
    entered_ns: int


class ConcurrencyLimit:
    """The limit of one destination, from 1 to `highest`."""

    def __init__(self, highest: int) -> None:
        assert highest >= 1, highest
        self.highest = highest
        self.limit = min(START, highest)
        self.in_flight = 0
        self.lowered = 0
        """Times an overload or a queue lowered it."""
        self._slow_start = SlowStart()
        self._congestion = Congestion()
        self._era = 0
        """Counts changes other than by one; requests of an earlier era know nothing of the limit now."""
        self._entered = 0
        self._full_entry = 0
        """Number of the last request with which all of the limit was in use."""
        self._successes = 0
        self._limit_before = self.limit

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.limit

    def enter(self, now_ns: int) -> Ticket:
        """A request goes. Whether there is room is for the caller to ask: a dry run goes without."""
        self.in_flight += 1
        self._entered += 1
        if self.in_flight >= self.limit:
            self._full_entry = self._entered
        return Ticket(self._era, self._entered, now_ns)

    def leave(self, ticket: Ticket, now_ns: int, sign: Sign) -> None:
        """A request has ended, with or without an answer."""
        assert self.in_flight > 0, "more left than entered"
        is_full = self._full_entry >= ticket.number  # at some time while it was under way
        self.in_flight -= 1
        if ticket.era != self._era:
            return
        if sign is Sign.OVERLOADED:
            self._slow_start.end()
            self._congestion.reset()
            self._lower()
        elif sign is Sign.WELL and not self._slow_start.is_over:
            if is_full:
                self._start(ticket.number, now_ns - ticket.entered_ns)
        elif sign is Sign.WELL:
            self._follow(self._congestion.add(now_ns - ticket.entered_ns, self.limit, is_full=is_full))
            if is_full and not self._congestion.is_examining:
                self._grow()

    def _start(self, number: int, latency_ns: int) -> None:
        if self._slow_start.add(number, latency_ns, self._entered) is Pace.GROW:
            self.limit = min(self.limit + 1, self.highest)
        else:
            self._change(max(1, self.limit // 2))
        if self.limit == self.highest:
            self._slow_start.end()
        if self._slow_start.is_over:
            self._congestion.begin(self._slow_start.quickest)

    def _follow(self, advice: Advice) -> None:
        if advice is Advice.LOWER:
            self._lower()
        elif advice is Advice.UNDO:
            self._change(self._limit_before)

    def _grow(self) -> None:
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.limit + 1, self.highest)

    def _lower(self) -> None:
        self._limit_before = self.limit
        lower = max(1, int(self.limit * DECREASE))
        self.lowered += lower < self.limit
        self._change(lower)

    def _change(self, limit: int) -> None:
        self.limit = limit
        self._era += 1
        self._successes = 0


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

# cython: warn.undeclared=False
# SEND and NEVER_NS are meant to be seen from Python.
"""The number's budget in one object: one call books an arrival, one call decides a send.

Made of three clocks of the other modules, asked together because a decision needs all of them:

    window   how much happened in the second that ends now: the hard limit
    bucket   the smoothed rate, debited by everything that happens
    floor    the rate that sends may keep when arrivals alone fill the window; none by default

A send is granted when window and bucket have room for it, or else when the floor has. Every grant is spent
from all three, so the floor is a least rate and not an extra one. Nothing is granted before `opens_at_ns`.

Cost: a decision is two comparisons of times that the parts keep; from Python about 60 ns, most of it the call.
Kinds are the four of gateway.events.TpsKind: 0 receive, 1 send, 2 delivered, 3 read.
"""

from libc.stdint cimport int64_t

cimport cython

from . cimport bounds
from .bounds cimport NOW_NS_MAX, require
from .bucket cimport TokenBucket
from .window cimport SlidingWindow

NEVER_NS = bounds.NEVER_NS

cdef int64_t SECOND_NS = 1_000_000_000
cdef int KINDS = 4
cdef int SEND = 1
cdef int64_t COST_MAX = 1_000
cdef int64_t COUNT_MAX = 1_000_000


@cython.final
cdef class EventBudget:
    def __cinit__(
        self,
        int64_t limit,
        SlidingWindow window not None,
        TokenBucket bucket not None,
        tuple costs not None,
        int64_t opens_at_ns,
        TokenBucket floor=None,
    ):
        require("limit", limit, 1, COUNT_MAX)
        require("opens_at_ns", opens_at_ns, 0, NOW_NS_MAX)
        if len(costs) != KINDS:
            raise ValueError(f"costs has {len(costs)} values, must have {KINDS}")
        for kind in range(KINDS):
            self._costs[kind] = costs[kind]
            require("cost", self._costs[kind], 0, COST_MAX)
            self._totals[kind] = 0
        self.limit = limit
        self._window = window
        self._bucket = bucket
        self._floor = floor
        self._kinds = [SlidingWindow(SECOND_NS, window.capacity) for _ in range(KINDS)]
        self._opens_at_ns = opens_at_ns

    def charge(self, int kind, int64_t count, int64_t now_ns):
        require("kind", kind, 0, KINDS - 1)
        require("count", count, 0, COUNT_MAX)
        self.book(kind, count, now_ns)

    def try_send(self, int64_t now_ns):
        cdef int64_t free_at_ns = self.ask(now_ns)
        cdef int64_t floor_at_ns
        if free_at_ns <= now_ns:
            self.grant(now_ns)
            self.window_max = max(self.window_max, self._window.count(now_ns))
            return now_ns
        if self._floor is None or now_ns < self._opens_at_ns:
            return free_at_ns
        floor_at_ns = self._floor.ready(now_ns, self._costs[SEND])
        if floor_at_ns <= now_ns:
            self.grant(now_ns)
            self.floor_grants += 1
            return now_ns
        return min(free_at_ns, floor_at_ns)

    def set_plan(self, int64_t limit, TokenBucket bucket not None, TokenBucket floor=None):
        require("limit", limit, 1, COUNT_MAX)
        self.limit = limit
        self._bucket = bucket
        self._floor = floor

    def set_rate(self, int64_t interval_ns, int64_t burst_ns, int64_t now_ns):
        self._bucket.change_rate(now_ns, interval_ns, burst_ns)

    def set_floor_rate(self, int64_t interval_ns, int64_t burst_ns, int64_t now_ns):
        if self._floor is not None:
            self._floor.change_rate(now_ns, interval_ns, burst_ns)

    def used(self, int kind, int64_t now_ns):
        require("kind", kind, 0, KINDS - 1)
        return (<SlidingWindow>self._kinds[kind]).count(now_ns)

    def in_window(self, int64_t now_ns):
        return self._window.count(now_ns)

    def total(self, int kind):
        require("kind", kind, 0, KINDS - 1)
        return self._totals[kind]

    cdef int book(self, int kind, int64_t count, int64_t now_ns) except -1:
        """Count what has happened; never refused."""
        cdef int64_t cost = count * self._costs[kind]
        self._totals[kind] += count
        (<SlidingWindow>self._kinds[kind]).add(now_ns, count)
        if cost:
            self._window.add(now_ns, cost)
            # The bucket takes a bounded cost at once; its debt is bounded below that anyway.
            self._bucket.spend(now_ns, min(cost, COUNT_MAX))
        return 0

    cdef int64_t ask(self, int64_t now_ns) except? -1:
        """When a send is free to go by window and bucket."""
        cdef int64_t cost = self._costs[SEND]
        cdef int64_t window_ns = self._window.earliest_fit(now_ns, cost, self.limit)
        cdef int64_t bucket_ns = self._bucket.ready(now_ns, cost)
        return max(self._opens_at_ns, window_ns, bucket_ns)

    cdef int grant(self, int64_t now_ns) except -1:
        self.book(SEND, 1, now_ns)
        if self._floor is not None:
            self._floor.spend(now_ns, self._costs[SEND])
        return 0

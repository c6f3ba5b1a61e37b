# cython: warn.undeclared=False
# DECREASE is meant to be seen from Python.
"""How many requests may be under way to one destination: found by trying, as TCP finds its window (RFC 5681).

Slow start: one more for each success, until answers take longer (`slow_start.pxd`). Additive increase after it: one
more after as many successes as the limit counts. Both only if all of it was in use. Multiplicative decrease: to 70 %
when the destination is overloaded, or when it queues what we send it (`congestion.pxd`). What was under way at a
change speaks of the limit before it and changes nothing: so sixteen requests that time out together are one sign, not
sixteen, and an episode is exactly one round trip. Pure: time comes in.

Cost: a request is one object of 48 bytes, from a freelist; its end is one logarithm. Nothing else is allocated.

Floats come out as Python's would, bit for bit: the same operations in the same order (`tests/model/limit.py`), which
setup.py keeps the compiler from fusing.

Not done: a check that a passage comes back to the limit that it is of, and once. Who has one hands it back.
"""

from libc.stdint cimport int64_t

cimport cython

from .bounds cimport require
from .congestion cimport LOWER_LIMIT, UNDO_LOWERING, Advice, forget_window, is_examining, look_at, make_congestion
from .slow_start cimport make_slow_start, must_halve
from . cimport slow_start

cpdef enum:
    # A few: enough for a backend that takes 50 ms to get 80 requests a second from the first one on.
    START = 4
    ROUND_SAMPLES = slow_start.ROUND_SAMPLES

cdef double C_DECREASE = 0.7

DECREASE = C_DECREASE

cdef int64_t HIGHEST_MAX = 1_000_000


@cython.final
@cython.freelist(64)  # as many are under way to a destination at most, by default
cdef class Passage:
    pass


@cython.final
cdef class ConcurrencyLimit:
    def __cinit__(self, int64_t highest):
        require("highest", highest, 1, HIGHEST_MAX)
        self.highest = highest
        self.limit = min(<int64_t>START, highest)
        self._limit_before = self.limit
        make_slow_start(&self._slow_start)
        make_congestion(&self._congestion)

    @property
    def has_room(self):
        return self.has_place()

    def enter(self, int64_t now_ns):
        return self.let_in(now_ns)

    def leave(self, Passage passage not None, int64_t now_ns, int sign):
        self.let_out(passage, now_ns, sign)

    cdef Passage let_in(self, int64_t now_ns):
        cdef Passage passage = Passage.__new__(Passage)
        self.in_flight += 1
        self._entered += 1
        if self.in_flight >= self.limit:
            self._full_entry = self._entered
        passage.era = self._era
        passage.number = self._entered
        passage.entered_ns = now_ns
        return passage

    cdef int let_out(self, Passage passage, int64_t now_ns, int sign) except -1:
        cdef bint is_full = self._full_entry >= passage.number  # at some time while it was under way
        require("sign", sign, WELL, NEITHER)
        assert self.in_flight > 0, "more left than entered"
        self.in_flight -= 1
        if passage.era != self._era or sign == NEITHER:
            return 0
        if sign == OVERLOADED:
            self._slow_start.is_over = True
            forget_window(&self._congestion)
            self._lower()
        elif self._slow_start.is_over:
            self._go_on(now_ns - passage.entered_ns, is_full)
        elif is_full:
            self._start(passage.number, now_ns - passage.entered_ns)
        return 0

    cdef void _start(self, int64_t number, int64_t latency_ns) noexcept:  # compares numbers
        if must_halve(&self._slow_start, number, latency_ns, self._entered):
            self._change(max(self.limit // 2, 1))
        else:
            self.limit = min(self.limit + 1, self.highest)
        if self.limit == self.highest:
            self._slow_start.is_over = True
        if self._slow_start.is_over:
            self._congestion.usual = self._slow_start.quickest

    cdef void _go_on(self, int64_t latency_ns, bint is_full) noexcept:  # compares numbers
        cdef Advice advice = look_at(&self._congestion, latency_ns, self.limit, is_full)
        if advice == LOWER_LIMIT:
            self._lower()
        elif advice == UNDO_LOWERING:
            self._change(self._limit_before)
        if not is_full or is_examining(&self._congestion):
            return
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self.limit + 1, self.highest)

    cdef void _lower(self) noexcept:  # sets numbers
        cdef int64_t lower = max(<int64_t>(<double>self.limit * C_DECREASE), 1)
        self._limit_before = self.limit
        self.lowered += lower < self.limit
        self._change(lower)

    cdef void _change(self, int64_t limit) noexcept:  # sets numbers
        self.limit = limit
        self._era += 1
        self._successes = 0

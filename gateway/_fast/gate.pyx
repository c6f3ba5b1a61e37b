"""Whether a request may go to a destination now: an operator, its concurrency limit, its breaker, the backend's rate.

Each destination has a gate of its own; all they share is the rate, and of that events take only what messages leave.

Cost: every question of a request is some comparisons in C, and from Python a call. Python is called where there
is a rate, and after a request where someone waits for its place; usually there is no rate, and nobody waits.

Not done: waiting, which is asyncio's, and in `inbound/gate.py`.
"""

from cpython.set cimport PySet_GET_SIZE
from libc.stdint cimport int64_t

from .bounds cimport NEVER_NS
from .breaker cimport Breaker
from .limit cimport NEITHER, WELL, ConcurrencyLimit, Passage

cpdef enum:
    # Failures in a row, of records that have failed before, that are still taken for the records' own. More are the
    # destination: where all that waits is one contact's, only one record is tried, and must not spend all its attempts
    # on it.
    SUSPECTS = 10


cdef class GateCore:
    def __cinit__(self):
        # What __init__ replaces: who forgets to call it meets a gate that is closed, and not a null.
        self.breaker = Breaker(0, 0, None)
        self.limit = ConcurrencyLimit(1)
        self.closed_by = {"never opened"}

    def __init__(
        self,
        Breaker breaker not None,
        ConcurrencyLimit limit not None,
        rate=None,
        yields_to=None,
        *,
        bint is_dry_run=False,
    ):
        self.breaker = breaker
        self.limit = limit
        self.closed_by = set()
        self._rate = rate
        self._yields_to = yields_to
        self._is_dry_run = is_dry_run

    def call_when_left(self, on_left):
        self._on_left = on_left

    # -- before

    def opens_at_ns(self, int64_t now_ns):
        return self.opens_at(now_ns)

    def needs_token(self, int64_t now_ns):
        return self._rate is not None and self._opens_without_rate(now_ns) <= now_ns

    @property
    def prefers_fresh(self):
        return self.wants_fresh()

    @property
    def has_room_for_retry(self):
        return self.takes_retry()

    cdef int64_t opens_at(self, int64_t now_ns) except? -1:
        cdef int64_t opens_at_ns = self._opens_without_rate(now_ns)
        cdef bint yields
        if self._rate is None or opens_at_ns > now_ns:
            return opens_at_ns
        yields = self._yields_to is not None and self._yields_to(now_ns)
        return self._rate.opens_at_ns(now_ns, yields=yields)

    cdef int64_t _opens_without_rate(self, int64_t now_ns) noexcept:  # compares numbers
        if PySet_GET_SIZE(self.closed_by) > 0 or self._places() <= self.limit.in_flight:
            return NEVER_NS
        return self.breaker.opens_at(now_ns)

    cdef inline int64_t _places(self) noexcept:  # reads a number
        return self.limit.highest if self._is_dry_run else self.limit.limit

    cdef bint wants_fresh(self) noexcept:  # compares numbers
        if not self.breaker.is_well() or not self.takes_retry():
            return True
        return self._was_retry and self._places() == 1

    cdef bint takes_retry(self) noexcept:  # compares numbers
        return self._retries == 0 or self._retries < self._places() // 2

    # -- through

    def enter(self, int64_t now_ns, *, bint is_retry):
        return self.pass_through(now_ns, is_retry)

    cdef Passage pass_through(self, int64_t now_ns, bint is_retry):
        cdef bint has_room = self.limit.has_place()
        cdef Passage passage
        assert has_room or self._is_dry_run, "the gate is closed"
        if self._rate is not None:
            self._rate.enter(now_ns)
        self.would_have += not has_room
        self._retries += is_retry
        self._was_retry = is_retry
        passage = self.limit.let_in(now_ns)
        passage.is_probe = self.breaker.let_in(now_ns)
        passage.is_retry = is_retry
        return passage

    # -- behind

    def succeed(self, Passage passage not None, int64_t now_ns):
        return self.well(passage, now_ns)

    def fail(
        self,
        Passage passage not None,
        int64_t now_ns,
        int sign,
        int64_t retry_after_ms,
        *,
        bint shows_trouble,
    ):
        cdef bint was_well = self.breaker.is_well()
        self._fails_in_a_row += 1
        # Nobody gets through any more: then it is not a few records.
        shows_trouble = shows_trouble or self._fails_in_a_row > SUSPECTS
        if shows_trouble or passage.is_probe:
            self.breaker.note_failure(now_ns, retry_after_ms, passage.is_probe)
        # A probe alone was not too many at once: when a dead backend is back, it gets as many as before.
        self._leave(passage, now_ns, sign if shows_trouble and not passage.is_probe else NEITHER)
        self.tell_left()
        # Where it was not closed before, a request from before or the probe has failed: that opens nothing.
        return was_well and not self.breaker.is_well()

    cdef bint well(self, Passage passage, int64_t now_ns) except -1:
        cdef bint has_ended_trouble = self.well_untold(passage, now_ns)
        self.tell_left()
        return has_ended_trouble

    cdef bint well_untold(self, Passage passage, int64_t now_ns) except -1:
        cdef bint was_well = self.breaker.is_well()
        self._fails_in_a_row = 0
        self.breaker.close()
        self._leave(passage, now_ns, WELL)
        return not was_well

    cdef int _leave(self, Passage passage, int64_t now_ns, int sign) except -1:
        self.limit.let_out(passage, now_ns, sign)
        self._retries -= passage.is_retry
        return 0

    cdef int tell_left(self) except -1:
        if self._on_left is not None:
            self._on_left()
        return 0

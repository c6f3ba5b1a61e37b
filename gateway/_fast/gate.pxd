from libc.stdint cimport int64_t

from .breaker cimport Breaker
from .limit cimport ConcurrencyLimit, Passage


# Not final: what waits for it is added in Python.
cdef class GateCore:
    cdef readonly Breaker breaker
    cdef readonly ConcurrencyLimit limit
    cdef readonly set closed_by
    cdef readonly int64_t would_have

    cdef object _rate  # or None
    cdef object _yields_to  # or None
    cdef object _on_left  # or None
    cdef int64_t _retries
    cdef int64_t _fails_in_a_row
    cdef bint _is_dry_run
    cdef bint _was_retry

    # In the order in which a request meets them.
    cdef int64_t opens_at(self, int64_t now_ns) except? -1
    cdef bint wants_fresh(self) noexcept
    cdef bint takes_retry(self) noexcept
    cdef Passage pass_through(self, int64_t now_ns, bint is_retry)
    cdef bint well(self, Passage passage, int64_t now_ns) except -1
    # The two halves of it, for who takes the place that is free before those hear of it who wait.
    cdef bint well_untold(self, Passage passage, int64_t now_ns) except -1
    cdef int tell_left(self) except -1

    cdef int64_t _opens_without_rate(self, int64_t now_ns) noexcept
    cdef int64_t _places(self) noexcept
    cdef int _leave(self, Passage passage, int64_t now_ns, int sign) except -1

from libc.stdint cimport int64_t

cimport cython

from .congestion cimport Congestion
from .slow_start cimport SlowStart


cpdef enum:
    # What an answer says about the load of whoever gave it.
    WELL
    OVERLOADED
    NEITHER


@cython.final
cdef class Passage:
    cdef readonly int64_t era
    cdef readonly int64_t number
    cdef readonly int64_t entered_ns
    # The gate's, which sets them before anyone else sees it.
    cdef readonly bint is_probe
    cdef readonly bint is_retry


@cython.final
cdef class ConcurrencyLimit:
    cdef readonly int64_t highest
    cdef readonly int64_t limit
    cdef readonly int64_t in_flight
    cdef readonly int64_t lowered

    cdef int64_t _era  # counts changes other than by one; requests of an earlier one know nothing of the limit now
    cdef int64_t _entered
    cdef int64_t _full_entry  # number of the last request with which all of the limit was in use
    cdef int64_t _successes
    cdef int64_t _limit_before
    cdef SlowStart _slow_start
    cdef Congestion _congestion

    cdef inline bint has_place(self) noexcept:  # compares two numbers
        return self.in_flight < self.limit

    cdef Passage let_in(self, int64_t now_ns)
    cdef int let_out(self, Passage passage, int64_t now_ns, int sign) except -1

    cdef void _start(self, int64_t number, int64_t latency_ns) noexcept
    cdef void _go_on(self, int64_t latency_ns, bint is_full) noexcept
    cdef void _lower(self) noexcept
    cdef void _change(self, int64_t limit) noexcept

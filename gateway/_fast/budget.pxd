from libc.stdint cimport int64_t

from .bucket cimport TokenBucket
from .window cimport SlidingWindow


cdef class EventBudget:
    cdef readonly int64_t limit
    cdef readonly int64_t window_max
    cdef readonly int64_t floor_grants

    cdef SlidingWindow _window
    cdef TokenBucket _bucket
    cdef TokenBucket _floor
    cdef list _kinds
    cdef int64_t _costs[4]
    cdef int64_t _totals[4]
    cdef int64_t _opens_at_ns

    cdef int book(self, int kind, int64_t count, int64_t now_ns) except -1
    cdef int64_t ask(self, int64_t now_ns) except? -1
    cdef int grant(self, int64_t now_ns) except -1

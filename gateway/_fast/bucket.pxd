from libc.stdint cimport int64_t


cdef class TokenBucket:
    cdef readonly int64_t interval_ns
    cdef readonly int64_t burst_ns
    cdef readonly int64_t debt_max_ns

    cdef int64_t _zero_ns  # when the level was, or will be, exactly zero
    cdef int64_t _newest_ns

    cdef int spend(self, int64_t now_ns, int64_t cost) except -1
    cdef int64_t ready(self, int64_t now_ns, int64_t cost) except? -1
    cdef int64_t take(self, int64_t now_ns, int64_t cost) except? -1
    cdef int64_t debt(self, int64_t now_ns) except -1
    cdef int change_rate(self, int64_t now_ns, int64_t interval_ns, int64_t burst_ns) except -1

    cdef int64_t _floor(self, int64_t now_ns) noexcept nogil

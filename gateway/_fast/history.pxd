from libc.stdint cimport int64_t, uint32_t


cdef class SecondsHistory:
    cdef int64_t _start_ns
    cdef int64_t _newest_s
    cdef int _rows
    cdef uint32_t* _counts  # a ring of seconds for each row

    cdef int enter(self, int row, int64_t count, int64_t now_ns) except -1
    cdef int64_t sum_of(self, int row, int64_t first, int64_t end) noexcept
    cdef int64_t second_of(self, int64_t now_ns) noexcept
    cdef void advance(self, int64_t second) noexcept

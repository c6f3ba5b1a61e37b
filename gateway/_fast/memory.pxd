from libc.stdint cimport int64_t, uint32_t


cdef class Memory:
    cdef public int64_t bytes  # of all bodies: ready, taken, delayed, and behind others
    cdef public int64_t bytes_max
    cdef public int64_t aside_max
    cdef readonly uint32_t closed  # bit c: class c is closed

    cdef int _classes
    cdef int64_t _aside[16]
    cdef int64_t _aside_bytes[16]
    cdef int64_t _behind[16]
    cdef int64_t _all_aside_bytes

    cpdef int put_aside(self, int cls, int64_t size) except -1
    cpdef bint take_away(self, int cls, int64_t size) except -1
    cpdef bint leave_on_disk(self, int cls, int64_t size) except -1
    cpdef bint bring_back(self, int cls, int64_t size) except -1
    cpdef bint drop_behind(self, int cls) except -1

    cdef int _check(self, int cls) except -1
    cdef bint _close(self) noexcept

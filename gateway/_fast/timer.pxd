from libc.stdint cimport int64_t


cdef class DeadlineTimer:
    cdef int _fd

    cdef int _set(self, int64_t deadline_ns) except -1

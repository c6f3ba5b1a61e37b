from libc.stdint cimport int64_t


cdef class Stamper:
    cdef bytes _id_prefix
    cdef object _second_of
    cdef int64_t _second
    cdef bytes _second_text

    cdef bytes lines(self, int64_t seq, int64_t received_ms, int64_t attempts, int64_t wall_ms)

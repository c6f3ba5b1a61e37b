from libc.stdint cimport int64_t

from .response cimport Response


cdef class Exchange:
    # Subclass it to be told of the end by `answered` and `settled` instead of by a callable.
    cdef bytes head  # as it is written, with a small body behind it
    cdef bytes body  # of a large one, that is written after it; else None
    cdef readonly int64_t deadline_ns
    cdef readonly bint is_head_request
    cdef readonly bint is_over
    cdef object done
    cdef object holder  # who has it: the pool's queue, a connection being made, or a connection

    # For who holds it: each ends it, once.
    cdef int settle_whole(self, int status, bytes whole, Py_ssize_t body_at) except -1

    # Its end. The first is the usual answer as it came; unless it is overridden it calls the second, which gets all else.
    cpdef void answered(self, int status, bytes whole, Py_ssize_t body_at) except *
    cpdef void settled(self, Response response) except *

    cdef int _end(self) except -1

from libc.stdint cimport int64_t


cdef class Gathering:
    cdef readonly int64_t changes
    cdef public int64_t waiting_changes
    cdef readonly list _gathered  # put since the thread was given work
    cdef readonly list _makers  # of changes that come after those
    cdef public object _failure
    cdef public bint _is_closed
    cdef readonly int64_t _waiting_since_ns
    cdef readonly object _timer

    cdef object _loop
    cdef object _clock
    cdef double _company_s
    cdef Py_ssize_t _batch_max
    cdef bint _is_handed_soon

    cdef int expect(self, bint can_wait) except -1
    cdef int make(self) except -1

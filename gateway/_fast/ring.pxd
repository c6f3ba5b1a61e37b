from libc.stdint cimport int64_t, uint32_t

cpdef enum:
    EVERY_CLASS = 0xFFFF


cdef struct Ring:
    Py_ssize_t start  # its first slot in the shared arrays
    Py_ssize_t capacity
    Py_ssize_t head  # slot of the oldest item, from start
    Py_ssize_t depth


cdef class PriorityRings:
    cdef list _slots  # the items of all classes, None where there is none
    cdef int64_t* _stamps
    cdef Ring[16] _rings
    cdef Py_ssize_t _total_capacity
    cdef Py_ssize_t _total_depth
    cdef int _classes
    cdef uint32_t _filled  # bit c: class c holds something

    # The caller has made sure that item is not None.
    cdef bint put(self, int cls, object item, int64_t stamp) except -1
    cdef object take(self, uint32_t allowed_mask)
    cdef int first_class(self, uint32_t allowed_mask) noexcept nogil

    cdef Ring* _ring(self, int cls) except NULL
    cdef void _append(self, Ring* ring, object item, int64_t stamp) noexcept

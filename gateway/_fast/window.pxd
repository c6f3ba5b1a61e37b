from libc.stdint cimport int64_t


cdef struct Entry:
    int64_t at_ns
    int64_t running_sum  # cost of this entry and of all before it, since the window was last empty


cdef class SlidingWindow:
    cdef readonly int64_t window_ns
    cdef readonly Py_ssize_t capacity
    cdef readonly int64_t absorbed

    cdef Entry* _entries
    cdef Py_ssize_t _head
    cdef Py_ssize_t _held
    cdef int64_t _newest_ns
    cdef int64_t _sum_in
    cdef int64_t _sum_out

    cdef int add(self, int64_t now_ns, int64_t cost) except -1
    cdef int64_t count(self, int64_t now_ns) except -1
    cdef int64_t earliest_fit(self, int64_t now_ns, int64_t cost, int64_t limit) except? -1

    cdef Entry* _entry(self, Py_ssize_t age_rank) noexcept nogil
    cdef int _advance(self, int64_t now_ns) except -1

cdef class LeastWait:
    cdef double _least_ms
    cdef bint _is_noted

    cdef void put(self, double wait_ms) noexcept

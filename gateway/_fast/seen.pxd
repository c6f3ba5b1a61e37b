from libc.stdint cimport uint64_t


cdef class SeenSet:
    cdef readonly Py_ssize_t capacity

    cdef uint64_t* _queue  # fingerprints by age, a ring
    cdef Py_ssize_t _head
    cdef Py_ssize_t _held
    cdef uint64_t* _table  # the same fingerprints by value; 0 marks a free slot
    cdef size_t _mask
    cdef bint _holds_zero  # the fingerprint 0, which the table can't show

    cdef bint has(self, uint64_t fingerprint) noexcept nogil
    cdef bint insert(self, uint64_t fingerprint) noexcept nogil
    cdef bint remove(self, uint64_t fingerprint) noexcept nogil

    cdef size_t _find(self, uint64_t fingerprint) noexcept nogil
    cdef void _link(self, uint64_t fingerprint) noexcept nogil
    cdef void _unlink(self, uint64_t fingerprint) noexcept nogil
    cdef Py_ssize_t _slot(self, Py_ssize_t age_rank) noexcept nogil

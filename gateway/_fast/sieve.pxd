from libc.stdint cimport int64_t

from .ledger cimport ReceiptLedger


cdef class ReceiptSieve:
    cdef ReceiptLedger _ledger
    cdef bytes _secret
    cdef int64_t _age_max_ms
    cdef object _forwards_each
    cdef object _may_be_nameless

    cdef bint is_open(self) except -1
    cdef bint passes(self, object record, int64_t wall_ms) except -1

"""The totals of the books: how many events of each kind were accepted, and how many ended how.

What they mean, and what holds between them, is in `gateway.store.books`. Kinds and outcomes are the numbers of
`gateway.events.Kind` and `Outcome`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

cimport cython

from .bounds cimport require

cdef extern from "<endian.h>" nogil:
    uint32_t le32toh(uint32_t)

cdef enum:
    COUNT_BYTES = 4


cdef int64_t packed_count(bytes counts, int kind) except -1:
    cdef uint32_t count
    if PyBytes_GET_SIZE(counts) != INBOUND_KINDS * COUNT_BYTES or not 0 <= kind < INBOUND_KINDS:
        raise ValueError(f"counts are {PyBytes_GET_SIZE(counts)} bytes, must be {INBOUND_KINDS * COUNT_BYTES}")
    memcpy(&count, PyBytes_AS_STRING(counts) + kind * COUNT_BYTES, COUNT_BYTES)
    return le32toh(count)


cdef list book_entries(object make, tuple kinds, object outcome, const int64_t* counts):
    cdef list entries = []
    cdef Py_ssize_t at
    for at in range(len(kinds)):
        if counts[at]:
            entries.append(make(kinds[at], outcome, counts[at]))
    return entries


@cython.final
cdef class BookTotals:
    def enter(self, int kind, outcome, int64_t count):
        if outcome is None:
            self.accept(kind, count)
        else:
            self.end(kind, outcome, count)

    def accepted(self, int kind):
        require("kind", kind, 0, BOOK_KINDS - 1)
        return self._accepted[kind]

    def ended(self, int kind, int outcome):
        require("kind", kind, 0, BOOK_KINDS - 1)
        require("outcome", outcome, 0, BOOK_OUTCOMES - 1)
        return self._ended[kind][outcome]

    cdef int accept(self, int kind, int64_t count) except -1:
        require("kind", kind, 0, BOOK_KINDS - 1)
        self._accepted[kind] += count
        return 0

    cdef int end(self, int kind, int outcome, int64_t count) except -1:
        require("kind", kind, 0, BOOK_KINDS - 1)
        require("outcome", outcome, 0, BOOK_OUTCOMES - 1)
        self._ended[kind][outcome] += count
        return 0

from libc.stdint cimport int64_t

cdef enum:
    BOOK_KINDS = 8
    BOOK_OUTCOMES = 5
    INBOUND_KINDS = 7  # those that a record's packed counts have


cdef class BookTotals:
    cdef int64_t[8] _accepted
    cdef int64_t[8][5] _ended

    cdef int accept(self, int kind, int64_t count) except -1
    cdef int end(self, int kind, int outcome, int64_t count) except -1


# How many events of a kind are in packed counts.
cdef int64_t packed_count(bytes counts, int kind) except -1

# What `make(kind, outcome, count)` makes of each kind of which there is something; `counts` has one for each of `kinds`.
cdef list book_entries(object make, tuple kinds, object outcome, const int64_t* counts)

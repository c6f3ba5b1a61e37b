from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef struct Tally:
    uint32_t count  # stays at its maximum
    uint32_t first_s  # UTC seconds, 0 while the count is 0
    uint32_t last_s


cdef struct Entry:  # 40 bytes, in memory as on a page
    uint64_t fingerprint
    Tally delivered
    Tally read
    uint32_t sent_s  # 0 while not sent
    uint16_t failed  # stays at its maximum
    uint8_t mask
    uint8_t spare  # 0


cdef struct PageHeader:  # 16 bytes, before the entries of a page
    uint64_t created  # entries that the ledger had ever made when the page was taken
    uint32_t capacity
    uint32_t number


cdef struct LogItem:  # 16 bytes
    uint64_t fingerprint
    uint32_t at_s  # 0 in an item that sets the mask
    uint8_t level  # 0 in an item that sets the mask
    uint8_t mask  # 0 in an item that records a receipt
    uint16_t spare  # 0


cdef class Receipts:
    cdef readonly uint32_t delivered
    cdef readonly uint32_t delivered_first_s
    cdef readonly uint32_t delivered_last_s
    cdef readonly uint32_t read
    cdef readonly uint32_t read_first_s
    cdef readonly uint32_t read_last_s
    cdef readonly uint32_t sent_s
    cdef readonly uint16_t failed
    cdef readonly uint8_t mask


cdef class ReceiptLedger:
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t dirty_pages

    cdef Entry* _entries  # a ring by age of creation: the n-th ever made is at n % capacity; whole pages
    cdef uint64_t _created  # entries ever made
    cdef uint32_t* _index  # an entry's place in the ring + 1, by fingerprint; 0 marks a free slot
    cdef size_t _slots  # of the index, a power of two
    cdef uint8_t* _page_states
    cdef Py_ssize_t _pages
    cdef bint _is_restoring
    cdef uint64_t _restored_created  # the highest in the pages restored

    cdef void note(self, uint64_t fingerprint, int level, uint32_t at_s) noexcept nogil
    cdef void want(self, uint64_t fingerprint, uint8_t mask) noexcept nogil
    cdef Entry* find(self, uint64_t fingerprint) noexcept nogil

    cdef Py_ssize_t _held(self) noexcept nogil
    cdef Entry* _touch(self, uint64_t fingerprint) noexcept nogil
    cdef Py_ssize_t _create(self, uint64_t fingerprint, size_t slot) noexcept nogil
    cdef size_t _find_slot(self, uint64_t fingerprint) noexcept nogil
    cdef void _unlink(self, uint64_t fingerprint) noexcept nogil
    cdef bytes _page(self, Py_ssize_t number)
    cdef int _require_restored(self) except -1
    cdef int _require_whole(self) except -1
    cdef int _rebuild_index(self) except -1
    cdef void _clear(self) noexcept nogil

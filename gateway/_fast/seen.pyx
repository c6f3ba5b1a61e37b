"""Bounded set of 64-bit fingerprints: "have we had this message id lately?"

Layout: a ring holds the fingerprints by age, an open-addressing table holds the same values for the lookup. The
table is the next power of two at or above twice the capacity, so at most half full. Its home slot is the low bits
of the fingerprint: SipHash under a secret has already mixed them, a second mix would buy nothing.

Linear probing with backward-shift deletion: a removal pulls later entries of its run back into the gap. There are
no tombstones, so the table never ages and never rehashes, and a set that has been full for a year is as fast as on
its first day.

Cost: `in` and `add` touch about 1.5 slots on average for a hit and 2.5 for a miss at half load, mostly in one cache
line. Memory is 8 bytes a fingerprint in the ring and 16 to 32 in the table, allocated at the start:
a million take 25 MB.

Not done: refreshing the age of what is seen again (a redelivery would push out others), and storing keys. Two ids
share a fingerprint once in 2**64 pairs: with a million held, a new id is mistaken once in 1.8e13.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint64_t
from libc.string cimport memset

cimport cython

from .bounds cimport require
from .siphash cimport load_u64, require_secret, siphash24

cdef enum:
    CAPACITY_MAX = 67_108_864  # 2**26, 1.5 GiB


def fingerprint(bytes key not None, bytes secret not None):
    return hash_bytes(<const unsigned char*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), secret)


def fingerprint_str(str key not None, bytes secret not None):
    cdef Py_ssize_t size = 0
    cdef const char* utf8 = PyUnicode_AsUTF8AndSize(key, &size)
    return hash_bytes(<const unsigned char*>utf8, size, secret)


cdef uint64_t hash_bytes(const unsigned char* data, Py_ssize_t size, bytes secret) except? 0:
    require_secret(secret)
    return siphash24(data, <size_t>size, <const unsigned char*>PyBytes_AS_STRING(secret))


@cython.final
cdef class SeenSet:
    def __cinit__(self, Py_ssize_t capacity):
        cdef size_t slots = 2
        require("capacity", capacity, 1, CAPACITY_MAX)
        while slots < 2 * <size_t>capacity:
            slots *= 2
        self._queue = <uint64_t*>PyMem_Calloc(capacity, sizeof(uint64_t))
        self._table = <uint64_t*>PyMem_Calloc(slots, sizeof(uint64_t))
        if self._queue is NULL or self._table is NULL:
            raise MemoryError
        # Written to, and so really there: else the first day of a busy number grows the process page by page.
        memset(self._queue, 0, capacity * sizeof(uint64_t))
        memset(self._table, 0, slots * sizeof(uint64_t))
        self._mask = slots - 1
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_Free(self._queue)
        PyMem_Free(self._table)

    def __len__(self):
        return self._held

    def __contains__(self, uint64_t fingerprint):
        return self.has(fingerprint)

    def add(self, uint64_t fingerprint):
        return self.insert(fingerprint)

    def discard(self, uint64_t fingerprint):
        return self.remove(fingerprint)

    def add_packed(self, bytes data not None):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const unsigned char* packed = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t at
        cdef Py_ssize_t new = 0
        if size % 8 != 0:
            raise ValueError(f"data is {size} bytes, must be a multiple of 8")
        for at in range(0, size, 8):
            new += self.insert(load_u64(packed + at))
        return new

    cdef bint has(self, uint64_t fingerprint) noexcept nogil:
        if fingerprint == 0:
            return self._holds_zero
        return self._table[self._find(fingerprint)] == fingerprint

    cdef bint insert(self, uint64_t fingerprint) noexcept nogil:
        if self.has(fingerprint):
            return False
        if self._held == self.capacity:
            self._unlink(self._queue[self._head])
            self._head = self._slot(1)
            self._held -= 1
        self._queue[self._slot(self._held)] = fingerprint
        self._held += 1
        self._link(fingerprint)
        return True

    cdef bint remove(self, uint64_t fingerprint) noexcept nogil:
        cdef Py_ssize_t rank
        if not self.has(fingerprint):
            return False
        self._unlink(fingerprint)
        # Walk from the newest, where what is taken back was just put; then close the gap, so that ages hold.
        rank = self._held - 1
        while self._queue[self._slot(rank)] != fingerprint:
            rank -= 1
        for rank in range(rank, self._held - 1):
            self._queue[self._slot(rank)] = self._queue[self._slot(rank + 1)]
        self._held -= 1
        return True

    cdef inline size_t _find(self, uint64_t fingerprint) noexcept nogil:
        """The slot that holds `fingerprint`, or the free one that ends its run. Half of the table is free."""
        cdef size_t slot = <size_t>fingerprint & self._mask
        while self._table[slot] != 0 and self._table[slot] != fingerprint:
            slot = (slot + 1) & self._mask
        return slot

    cdef inline void _link(self, uint64_t fingerprint) noexcept nogil:
        if fingerprint == 0:
            self._holds_zero = True
        else:
            self._table[self._find(fingerprint)] = fingerprint

    @cython.overflowcheck(False)
    cdef inline void _unlink(self, uint64_t fingerprint) noexcept nogil:
        cdef size_t gap, slot, home
        if fingerprint == 0:
            self._holds_zero = False
            return
        gap = slot = self._find(fingerprint)
        while True:
            slot = (slot + 1) & self._mask
            if self._table[slot] == 0:
                break
            # An entry may move back into the gap unless its home lies after the gap, around the end or not.
            home = <size_t>self._table[slot] & self._mask
            if ((slot - home) & self._mask) >= ((slot - gap) & self._mask):
                self._table[gap] = self._table[slot]
                gap = slot
        self._table[gap] = 0

    cdef inline Py_ssize_t _slot(self, Py_ssize_t age_rank) noexcept nogil:
        """Where the queue holds the fingerprint with `age_rank` older ones before it."""
        cdef Py_ssize_t slot = self._head + age_rank
        return slot - self.capacity if slot >= self.capacity else slot

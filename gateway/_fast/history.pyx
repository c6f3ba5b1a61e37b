"""What a number did in the last hour: events of each kind, second by second.

A ring of 3600 whole seconds a kind, and one more for the second that is running: 4 x 3601 x 4 bytes, 58 kB.
Seconds are counted from the start, so a span of the last 60 s is exactly the 60 that have ended. An entry is one
array access; after a pause the ring is cleared once, at most 3601 slots. Nothing happens while nothing happens:
a question about a time beyond the newest second knows that nothing came.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport UINT32_MAX, int64_t, uint32_t

cimport cython

from .bounds cimport NOW_NS_MAX, require

cdef enum:
    NS_PER_S = 1_000_000_000
    C_HOUR_S = 3600
    SLOTS = C_HOUR_S + 1
    ROWS_MAX = 16
    KINDS = 4

HOUR_S = C_HOUR_S


@cython.final
cdef class SecondsHistory:
    def __cinit__(self, int64_t now_ns, int rows=KINDS):
        require("rows", rows, 1, ROWS_MAX)
        require("now_ns", now_ns, 0, NOW_NS_MAX)
        self._start_ns = now_ns
        self._rows = rows
        self._counts = <uint32_t*>PyMem_Calloc(<size_t>(rows * SLOTS), sizeof(uint32_t))
        if self._counts is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._counts)

    def record(self, int kind, int64_t count, int64_t now_ns):
        self.enter(kind, count, now_ns)

    def count(self, int kind, int64_t seconds, int64_t now_ns):
        cdef int64_t end = self.second_of(now_ns)
        cdef int64_t first = max(<int64_t>0, end - seconds)
        require("kind", kind, 0, self._rows - 1)
        require("seconds", seconds, 1, C_HOUR_S)
        # What lies more than an hour before the newest entry has been overwritten.
        return self.sum_of(kind, max(first, self._newest_s - C_HOUR_S), min(end, self._newest_s + 1))

    def observed_s(self, int64_t seconds, int64_t now_ns):
        return min(seconds, self.second_of(now_ns))

    def rate_per_s(self, int kind, int64_t seconds, int64_t now_ns):
        cdef int64_t observed_s = min(seconds, self.second_of(now_ns))
        return self.count(kind, seconds, now_ns) / <double>observed_s if observed_s else 0.0

    cdef int enter(self, int row, int64_t count, int64_t now_ns) except -1:
        cdef int64_t second = (now_ns - self._start_ns) // NS_PER_S if now_ns >= self._start_ns else -1
        cdef uint32_t* slot
        require("kind", row, 0, self._rows - 1)
        require("count", count, 0, NOW_NS_MAX)
        if second > self._newest_s:
            self.advance(second)
        elif second < 0 or second < self._newest_s - C_HOUR_S:
            return 0  # older than anything a span can ask for
        slot = self._counts + row * SLOTS + second % SLOTS
        slot[0] = <uint32_t>min(<int64_t>slot[0] + count, <int64_t>UINT32_MAX)
        return 0

    cdef int64_t sum_of(self, int row, int64_t first, int64_t end) noexcept:  # adds numbers
        """Events of the seconds from `first` up to `end`, all of them in the ring."""
        cdef int64_t total = 0
        cdef int64_t second
        for second in range(first, end):
            total += self._counts[row * SLOTS + second % SLOTS]
        return total

    cdef int64_t second_of(self, int64_t now_ns) noexcept:  # compares numbers
        """The second that is running."""
        return (now_ns - self._start_ns) // NS_PER_S if now_ns > self._start_ns else 0

    cdef void advance(self, int64_t second) noexcept:  # clears slots
        """Make `second` the newest, with nothing in it and in those that were skipped."""
        cdef int64_t passed
        cdef int row
        for passed in range(max(self._newest_s + 1, second - SLOTS + 1), second + 1):
            for row in range(self._rows):
                self._counts[row * SLOTS + passed % SLOTS] = 0
        self._newest_s = second

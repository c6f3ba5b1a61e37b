# cython: warn.undeclared=False
# NEVER_NS is meant to be seen from Python; a 64-bit cpdef enum would be cut to an int.
"""Exact sliding count: what happened in the last `window_ns`, to the nanosecond.

Layout: one ring of 16-byte entries, oldest first. An entry holds its time and a *running sum* of costs, so
the count is one subtraction (`_sum_in - _sum_out`) and "when is there room for k more" is a binary search
for the entry whose leaving makes it, not a walk.

Cost: each entry enters once and leaves once, so recording and counting are amortised O(1);
`free_at_ns` is O(1) while there is room and O(log held) when there is none. 16 bytes an entry, all
allocated at the start.

When the ring is full its newest entry takes the new cost and moves to the new time. Costs then leave late,
never early: the count can be too high for up to one window, never too low. `absorbed` counts how often.

Not done: removing an entry before its time, and approximating with sub-windows. The count is a hard limit
at WhatsApp's end and we want the same number they see.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t

cimport cython

from . cimport bounds
from .bounds cimport SPAN_NS_MAX, forward, require

NEVER_NS = bounds.NEVER_NS

cdef enum:
    CAPACITY_MAX = 1_048_576  # 2**20, 16 MiB; a TPS budget needs a few hundred
    COST_MAX = 2147483647

# 2**62: reached after 2**31 records of the highest cost without one idle window; kept as a check, not a limit.
cdef int64_t SUM_MAX = <int64_t>1 << 62


@cython.final
cdef class SlidingWindow:
    def __cinit__(self, int64_t window_ns, Py_ssize_t capacity):
        require("window_ns", window_ns, 1, SPAN_NS_MAX)
        require("capacity", capacity, 1, CAPACITY_MAX)
        self._entries = <Entry*>PyMem_Calloc(capacity, sizeof(Entry))
        if self._entries is NULL:
            raise MemoryError
        self.window_ns = window_ns
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_Free(self._entries)

    def __len__(self):
        return self._held

    def record(self, int64_t now_ns, int64_t cost):
        self.add(now_ns, cost)

    def used(self, int64_t now_ns):
        return self.count(now_ns)

    def free_at_ns(self, int64_t now_ns, int64_t cost, int64_t limit):
        return self.earliest_fit(now_ns, cost, limit)

    cdef int add(self, int64_t now_ns, int64_t cost) except -1:
        cdef Entry* entry
        require("cost", cost, 0, COST_MAX)
        self._advance(now_ns)
        if cost == 0:
            return 0
        if self._sum_in > SUM_MAX - cost:
            raise OverflowError(f"costs since the window was last empty pass {SUM_MAX}")
        self._sum_in += cost

        if self._held > 0:
            entry = self._entry(self._held - 1)
            if entry.at_ns == self._newest_ns:
                entry.running_sum = self._sum_in
                return 0
            if self._held == self.capacity:
                entry.at_ns = self._newest_ns
                entry.running_sum = self._sum_in
                self.absorbed += 1
                return 0
        self._held += 1
        entry = self._entry(self._held - 1)
        entry.at_ns = self._newest_ns
        entry.running_sum = self._sum_in
        return 0

    cdef int64_t count(self, int64_t now_ns) except -1:
        self._advance(now_ns)
        return self._sum_in - self._sum_out

    cdef int64_t earliest_fit(self, int64_t now_ns, int64_t cost, int64_t limit) except? -1:
        cdef Py_ssize_t low, high, middle
        cdef int64_t sum_to_leave
        require("cost", cost, 0, COST_MAX)
        self._advance(now_ns)
        if cost > limit:
            return bounds.NEVER_NS
        if self._sum_in - self._sum_out <= limit - cost:
            return now_ns
        # The first entry whose leaving brings the count down to limit - cost; the newest one always does.
        sum_to_leave = self._sum_in - (limit - cost)
        low, high = 0, self._held - 1
        while low < high:
            middle = (low + high) // 2
            if self._entry(middle).running_sum >= sum_to_leave:
                high = middle
            else:
                low = middle + 1
        return self._entry(low).at_ns + self.window_ns

    cdef inline Entry* _entry(self, Py_ssize_t age_rank) noexcept nogil:
        """The entry with `age_rank` older ones before it."""
        cdef Py_ssize_t slot = self._head + age_rank
        if slot >= self.capacity:
            slot -= self.capacity
        return &self._entries[slot]

    cdef inline int _advance(self, int64_t now_ns) except -1:
        """Move time forward and let out what is a whole window old."""
        cdef int64_t edge_ns
        self._newest_ns = forward(now_ns, self._newest_ns)
        edge_ns = self._newest_ns - self.window_ns
        while self._held > 0 and self._entries[self._head].at_ns <= edge_ns:
            self._sum_out = self._entries[self._head].running_sum
            self._head += 1
            if self._head == self.capacity:
                self._head = 0
            self._held -= 1
        if self._held == 0:
            self._sum_in = self._sum_out = 0
        return 0

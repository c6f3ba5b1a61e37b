"""Bounded FIFO rings, one a priority class, with the choice of the next item inside.

Layout: one Python list holds the slots of all classes, each class a fixed stretch of it used as a ring, and a
C array beside it holds one int64 stamp a slot. A bit set of filled classes makes the choice one AND and one
count of trailing zeros, whatever the number of classes.

Who owns what: the list owns the items, so reference counts and the cycle collector need no code here.
Empty slots hold None, which is why None is refused as an item. Storing into a slot only ever releases None, and
`clear` swaps the list before it lets go of the items: no item's destructor meets half-changed rings.

Cost: every step is O(1), 16 bytes a slot, all allocated at the start; nothing grows.

Not done: removal from the middle, and sharing room between classes, so that bulk can't take a reply's place.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.long cimport PyLong_CheckExact
from libc.stdint cimport int64_t, uint32_t

cimport cython

from .bounds cimport require

cdef extern from *:
    int __builtin_ctz(unsigned int) noexcept nogil

cdef enum:
    CLASSES_MAX = 16
    CAPACITY_MAX = 16_777_216  # 2**24 of all classes together, 256 MiB


@cython.final
cdef class PriorityRings:
    def __cinit__(self, capacities not None):
        cdef list sizes = list(capacities)
        cdef object size
        cdef Py_ssize_t capacity
        cdef Ring* ring
        require("number of classes", len(sizes), 1, CLASSES_MAX)
        for size in sizes:
            capacity = size
            require("capacity", capacity, 1, CAPACITY_MAX)
            ring = &self._rings[self._classes]
            ring.start = self._total_capacity
            ring.capacity = capacity
            self._total_capacity += capacity
            self._classes += 1
        require("sum of capacities", self._total_capacity, 1, CAPACITY_MAX)
        self._stamps = <int64_t*>PyMem_Calloc(self._total_capacity, sizeof(int64_t))
        if self._stamps is NULL:
            raise MemoryError
        self._slots = [None] * self._total_capacity

    def __dealloc__(self):
        PyMem_Free(self._stamps)

    def __len__(self):
        return self._total_depth

    def push(self, int cls, item not None, int64_t stamp):
        return self.put(cls, item, stamp)

    def push_many(self, int cls, list items not None, list stamps not None):
        cdef Ring* ring = self._ring(cls)
        cdef Py_ssize_t count = min(len(items), ring.capacity - ring.depth)
        cdef Py_ssize_t i
        cdef int64_t stamp
        if len(items) != len(stamps):
            raise ValueError(f"{len(items)} items with {len(stamps)} stamps: each item has one")
        # All are checked before the first goes in. Exact ints, so that no foreign code runs in between.
        for i in range(len(items)):
            if items[i] is None:
                raise TypeError(f"item {i} is None, which marks an empty slot")
            if not PyLong_CheckExact(stamps[i]):
                raise TypeError(f"stamp {i} is a {type(stamps[i]).__name__}, must be an int")
            stamp = stamps[i]
            if stamp < 0:
                raise ValueError(f"stamp {i} is {stamp}, must be 0 or more")
        for i in range(count):
            self._append(ring, items[i], stamps[i])
        if count > 0:
            self._filled |= <uint32_t>1 << cls
        return count

    def pop(self, uint32_t allowed_mask):
        return self.take(allowed_mask)

    def peek_class(self, uint32_t allowed_mask):
        return self.first_class(allowed_mask)

    def depth(self, int cls):
        return self._ring(cls).depth

    def capacity(self, int cls):
        return self._ring(cls).capacity

    def room(self, int cls):
        cdef Ring* ring = self._ring(cls)
        return ring.capacity - ring.depth

    def oldest_stamp(self, int cls):
        cdef Ring* ring = self._ring(cls)
        if ring.depth == 0:
            return -1
        return self._stamps[ring.start + ring.head]

    def clear(self):
        cdef list dropped = self._slots
        cdef int cls
        self._slots = [None] * self._total_capacity
        for cls in range(self._classes):
            self._rings[cls].head = 0
            self._rings[cls].depth = 0
        self._filled = 0
        self._total_depth = 0
        dropped.clear()

    cdef bint put(self, int cls, object item, int64_t stamp) except -1:
        cdef Ring* ring = self._ring(cls)
        if stamp < 0:
            raise ValueError(f"stamp is {stamp}, must be 0 or more")
        if ring.depth == ring.capacity:
            return False
        self._append(ring, item, stamp)
        self._filled |= <uint32_t>1 << cls
        return True

    cdef object take(self, uint32_t allowed_mask):
        cdef int cls = self.first_class(allowed_mask)
        cdef Ring* ring
        cdef Py_ssize_t slot
        cdef object item
        if cls < 0:
            return None
        ring = &self._rings[cls]
        slot = ring.start + ring.head
        item = self._slots[slot]
        self._slots[slot] = None
        ring.head += 1
        if ring.head == ring.capacity:
            ring.head = 0
        ring.depth -= 1
        if ring.depth == 0:
            self._filled &= ~(<uint32_t>1 << cls)
        self._total_depth -= 1
        return item

    cdef inline int first_class(self, uint32_t allowed_mask) noexcept nogil:
        """The first allowed class that holds something, or -1."""
        cdef uint32_t candidates = self._filled & allowed_mask
        return __builtin_ctz(candidates) if candidates != 0 else -1

    cdef inline Ring* _ring(self, int cls) except NULL:
        if not 0 <= cls < self._classes:
            raise ValueError(f"class is {cls}, must be 0..{self._classes - 1}")
        return &self._rings[cls]

    cdef inline void _append(self, Ring* ring, object item, int64_t stamp) noexcept:  # nothing here raises
        """Write behind the newest; the caller knows there is room."""
        cdef Py_ssize_t slot = ring.head + ring.depth
        if slot >= ring.capacity:
            slot -= ring.capacity
        slot += ring.start
        self._slots[slot] = item
        self._stamps[slot] = stamp
        ring.depth += 1
        self._total_depth += 1

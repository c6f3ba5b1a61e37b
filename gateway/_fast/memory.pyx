"""What a backlog has in memory, and which of its classes are closed because too much of it stands aside.

A class is *closed*, which means that only delayed ones of it are handed out, while `aside_max` of its records are aside
or `BEHIND_MAX` of them wait on disk behind others of their lanes, or while all that is aside comes to `bytes_max` and
this class has more than its part of that.

Cost: sums; a walk over the classes only while one of the bounds is reached.
"""

cimport cython

from .bounds cimport require

cdef enum:
    CLASSES_MAX = 16
    C_BEHIND_MAX = 1 << 19

BEHIND_MAX = C_BEHIND_MAX


@cython.final
cdef class Memory:
    def __cinit__(self, int classes, int64_t aside_max, int64_t bytes_max):
        require("number of classes", classes, 1, CLASSES_MAX)
        self._classes = classes
        self.aside_max = aside_max
        self.bytes_max = bytes_max

    @property
    def aside(self):
        return [self._aside[cls] for cls in range(self._classes)]

    @property
    def behind_on_disk(self):
        return [self._behind[cls] for cls in range(self._classes)]

    @property
    def has_room_behind(self):
        return self._all_aside_bytes < self.bytes_max // 2

    cpdef int put_aside(self, int cls, int64_t size) except -1:
        self._check(cls)
        self._aside[cls] += 1
        self._aside_bytes[cls] += size
        self._all_aside_bytes += size
        if self._aside[cls] >= self.aside_max or self._all_aside_bytes >= self.bytes_max:
            self._close()
        return 0

    cpdef bint take_away(self, int cls, int64_t size) except -1:
        self._check(cls)
        self.bytes -= size
        self._aside[cls] -= 1
        self._aside_bytes[cls] -= size
        self._all_aside_bytes -= size
        return self._close() if self.closed else False

    cpdef bint leave_on_disk(self, int cls, int64_t size) except -1:
        self._check(cls)
        self._behind[cls] += 1
        if self._behind[cls] >= C_BEHIND_MAX:
            self.closed |= <uint32_t>1 << cls
        return self.take_away(cls, size)

    cpdef bint bring_back(self, int cls, int64_t size) except -1:
        self.bytes += size
        self.put_aside(cls, size)
        return self.drop_behind(cls)

    cpdef bint drop_behind(self, int cls) except -1:
        self._check(cls)
        self._behind[cls] -= 1
        return self._close() if self.closed else False

    cdef inline int _check(self, int cls) except -1:
        if not 0 <= cls < self._classes:
            raise ValueError(f"class is {cls}, must be 0..{self._classes - 1}")
        return 0

    cdef bint _close(self) noexcept:  # nothing here raises
        """Say anew which classes are closed; whether one has opened."""
        cdef bint is_full = self._all_aside_bytes >= self.bytes_max
        cdef int64_t part = self.bytes_max // self._classes
        cdef uint32_t was_closed = self.closed
        cdef int cls
        self.closed = 0
        for cls in range(self._classes):
            if (
                self._aside[cls] >= self.aside_max
                or self._behind[cls] >= C_BEHIND_MAX
                or (is_full and self._aside_bytes[cls] > part)
            ):
                self.closed |= <uint32_t>1 << cls
        return was_closed & ~self.closed != 0

"""The least wait in an interval, which tells a standing queue from a burst."""

cimport cython


@cython.final
cdef class LeastWait:
    def note(self, double wait_ms):
        self.put(wait_ms)

    def take(self, age_ms not None):
        cdef bint was_noted = self._is_noted
        cdef double wait_ms
        self._is_noted = False
        wait_ms = self._least_ms if was_noted else age_ms()
        return wait_ms if wait_ms > 0.0 else 0.0

    cdef void put(self, double wait_ms) noexcept:  # compares numbers
        if not self._is_noted or wait_ms < self._least_ms:
            self._least_ms = wait_ms
            self._is_noted = True

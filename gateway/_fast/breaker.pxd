from libc.stdint cimport INT64_MIN, int64_t

cimport cython

from .bounds cimport NEVER_NS


@cython.final
cdef class Breaker:
    cdef readonly int64_t opened

    cdef object _rng
    cdef int64_t _wait_min_ms
    cdef int64_t _wait_max_ms
    cdef int64_t _failures
    cdef int64_t _open_until_ns  # INT64_MIN while it is not open, which every time has passed
    cdef bint _is_probing

    # What every request asks; comparisons and stores, of which none raises.

    cdef inline bint is_well(self) noexcept:
        return self._open_until_ns == INT64_MIN and not self._is_probing

    cdef inline int64_t opens_at(self, int64_t now_ns) noexcept:
        """When a request may go: `now_ns` for now, NEVER_NS while a probe is under way."""
        if self._is_probing:
            return NEVER_NS
        return now_ns if now_ns >= self._open_until_ns else self._open_until_ns

    cdef inline bint let_in(self, int64_t now_ns) except -1:
        """A request goes; whether it is the probe."""
        assert self.opens_at(now_ns) <= now_ns, "the breaker is open"
        self._is_probing = self._open_until_ns != INT64_MIN
        return self._is_probing

    cdef inline void close(self) noexcept:
        self._failures = 0
        self._open_until_ns = INT64_MIN
        self._is_probing = False

    cdef int note_failure(self, int64_t now_ns, int64_t retry_after_ms, bint is_probe) except -1

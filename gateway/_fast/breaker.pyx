"""Whether a destination may be called: closed (yes), open (not yet), half open (one probe is under way).

Some failures in a row open it; after a wait that doubles, with jitter, one request goes as a probe. Its
success closes the breaker, its failure opens it again for longer. Pure: time and randomness come in.

Cost: a few comparisons, which who cimports it has inlined. Only what opens it goes to Python, for the jitter.
"""

from libc.stdint cimport INT64_MIN, int64_t

cimport cython

from .bounds cimport NOW_NS_MAX, require

cpdef enum:
    # In a row. One or two may be a message the backend can't digest; three are the backend.
    FAILURES_TO_OPEN = 3

cdef enum:
    DOUBLINGS_MAX = 30
    NS_PER_MS = 1_000_000

# Doubled thirty times it is 1.1e18, and in nanoseconds beside any time both of these are far from wrapping.
cdef int64_t WAIT_MS_MAX = 1_000_000_000
cdef int64_t RETRY_AFTER_MS_MAX = 1_000_000_000_000


@cython.final
cdef class Breaker:
    def __cinit__(self, int64_t wait_min_ms, int64_t wait_max_ms, rng):
        require("wait_min_ms", wait_min_ms, 0, WAIT_MS_MAX)
        require("wait_max_ms", wait_max_ms, 0, WAIT_MS_MAX)
        self._wait_min_ms = wait_min_ms
        self._wait_max_ms = wait_max_ms
        self._rng = rng
        self.close()

    @property
    def state(self):
        if self._is_probing:
            return "half_open"
        return "closed" if self.is_well() else "open"

    @property
    def is_closed(self):
        return self.is_well()

    def may_pass(self, int64_t now_ns):
        return self.opens_at(now_ns) <= now_ns

    def passes_at_ns(self):
        if self._is_probing or self.is_well():
            return None
        return self._open_until_ns

    def enter(self, int64_t now_ns):
        return self.let_in(now_ns)

    def succeed(self):
        self.close()

    def fail(self, int64_t now_ns, int64_t retry_after_ms=0, *, bint is_probe=False):
        self.note_failure(now_ns, retry_after_ms, is_probe)

    cdef int note_failure(self, int64_t now_ns, int64_t retry_after_ms, bint is_probe) except -1:
        cdef bint is_open = self._open_until_ns != INT64_MIN
        cdef int64_t ceiling_ms, wait_ms
        require("now_ns", now_ns, 0, NOW_NS_MAX)
        require("retry_after_ms", retry_after_ms, 0, RETRY_AFTER_MS_MAX)
        if is_open and not is_probe:
            # Requests from before say nothing new unless they name a time: if each of them doubled the wait, one cut
            # of sixteen connections would close the destination for as long as a dead one.
            self._open_until_ns = max(self._open_until_ns, now_ns + retry_after_ms * NS_PER_MS)
            return 0
        self._failures += 1
        self._is_probing = False
        if self._failures < FAILURES_TO_OPEN and retry_after_ms == 0:
            return 0
        ceiling_ms = self._wait_min_ms << min(max(self._failures - FAILURES_TO_OPEN, 0), <int64_t>DOUBLINGS_MAX)
        ceiling_ms = min(ceiling_ms, self._wait_max_ms)
        wait_ms = self._rng.randint(ceiling_ms // 2, ceiling_ms)
        self.opened += not is_open
        self._open_until_ns = now_ns + max(wait_ms, retry_after_ms) * NS_PER_MS
        return 0

# cython: warn.undeclared=False
# NEVER_NS is meant to be seen from Python; a 64-bit cpdef enum would be cut to an int.
"""Token bucket as a generic cell rate algorithm (GCRA): the whole state is one point in time.

The bucket fills at one token an interval T. Instead of a level and the time it was read, it keeps Z, the time
at which the level is zero. From Z everything follows, in integers and without rounding:

    level(t)  = (t - Z) / T                           negative while in debt
    cap       : Z is taken as max(Z, t - T - burst)   at most one token and `burst` of time are saved
    ready     : the first t with level(t) >= cost     t = Z + cost * T
    spend     : Z += cost * T                         and at most t + debt_max

A cost above 1 + burst / T can never be saved up, and `ready` says so. The only rounding is in a change of T,
where the level in tokens is kept and Z rounds up, against the bucket, by less than a nanosecond.

Cost: a few integer operations; no division outside a change of T. `_newest_ns` keeps time from running back.

Not done: charging for what may come later. Debits happen when events happen, which settles at the right
rate by itself.
"""

from libc.stdint cimport int64_t

cimport cython

from . cimport bounds
from .bounds cimport NOW_NS_MAX, SPAN_NS_MAX, forward, require

NEVER_NS = bounds.NEVER_NS

cdef extern from *:
    """
    /* value * numerator / denominator, rounded up, within low..high. The product may need 101 bits. */
    static int64_t wa_scale_up(int64_t value, int64_t numerator, int64_t denominator, int64_t low, int64_t high)
    {
        __int128 scaled = (__int128)value * numerator;
        /* C division cuts towards zero, which is up for what is negative. */
        scaled = (scaled > 0 ? scaled + denominator - 1 : scaled) / denominator;
        return scaled < low ? low : scaled > high ? high : (int64_t)scaled;
    }
    """
    int64_t scale_up "wa_scale_up"(
        int64_t value, int64_t numerator, int64_t denominator, int64_t low, int64_t high
    ) noexcept nogil

# cost * interval stays at 1e18, one span: see bounds.pxd for the sum.
cdef int64_t INTERVAL_NS_MAX = 1_000_000_000_000
cdef int64_t COST_MAX = 1_000_000


@cython.final
cdef class TokenBucket:
    def __cinit__(self, int64_t interval_ns, int64_t burst_ns, int64_t debt_max_ns, int64_t start_ns):
        require("interval_ns", interval_ns, 1, INTERVAL_NS_MAX)
        require("burst_ns", burst_ns, 0, SPAN_NS_MAX)
        require("debt_max_ns", debt_max_ns, 0, SPAN_NS_MAX)
        require("start_ns", start_ns, 0, NOW_NS_MAX)
        self.interval_ns = interval_ns
        self.burst_ns = burst_ns
        self.debt_max_ns = debt_max_ns
        self._zero_ns = start_ns
        self._newest_ns = start_ns

    def debit(self, int64_t now_ns, int64_t cost):
        self.spend(now_ns, cost)

    def ready_at_ns(self, int64_t now_ns, int64_t cost):
        return self.ready(now_ns, cost)

    def try_take(self, int64_t now_ns, int64_t cost):
        return self.take(now_ns, cost)

    def debt_ns(self, int64_t now_ns):
        return self.debt(now_ns)

    def set_interval_ns(self, int64_t now_ns, int64_t interval_ns):
        self.change_rate(now_ns, interval_ns, self.burst_ns)

    cdef int spend(self, int64_t now_ns, int64_t cost) except -1:
        """Take `cost` whether it is there or not."""
        require("cost", cost, 0, COST_MAX)
        self._newest_ns = now_ns = forward(now_ns, self._newest_ns)
        self._zero_ns = min(self._floor(now_ns) + cost * self.interval_ns, now_ns + self.debt_max_ns)
        return 0

    cdef int64_t ready(self, int64_t now_ns, int64_t cost) except? -1:
        cdef int64_t time_needed_ns, ready_ns, seen_ns
        require("cost", cost, 0, COST_MAX)
        seen_ns = forward(now_ns, self._newest_ns)
        time_needed_ns = cost * self.interval_ns
        if time_needed_ns > self.interval_ns + self.burst_ns:
            return bounds.NEVER_NS
        ready_ns = self._floor(seen_ns) + time_needed_ns
        # now_ns as the caller gave it, so that "== now_ns" means yes even for a clock that stepped back.
        return now_ns if ready_ns <= seen_ns else ready_ns

    cdef int64_t take(self, int64_t now_ns, int64_t cost) except? -1:
        cdef int64_t ready_ns = self.ready(now_ns, cost)
        if ready_ns == now_ns:
            self.spend(now_ns, cost)
        return ready_ns

    cdef int64_t debt(self, int64_t now_ns) except -1:
        now_ns = forward(now_ns, self._newest_ns)
        return max(self._zero_ns - now_ns, 0)

    cdef int change_rate(self, int64_t now_ns, int64_t interval_ns, int64_t burst_ns) except -1:
        cdef int64_t offset_ns
        require("interval_ns", interval_ns, 1, INTERVAL_NS_MAX)
        require("burst_ns", burst_ns, 0, SPAN_NS_MAX)
        self._newest_ns = now_ns = forward(now_ns, self._newest_ns)
        # The same level in tokens at the new rate; the later zero is the lower level.
        offset_ns = scale_up(
            self._floor(now_ns) - now_ns,
            interval_ns,
            self.interval_ns,
            -(interval_ns + burst_ns),
            self.debt_max_ns,
        )
        self._zero_ns = now_ns + offset_ns
        self.interval_ns = interval_ns
        self.burst_ns = burst_ns
        return 0

    cdef inline int64_t _floor(self, int64_t now_ns) noexcept nogil:
        """The zero time after the cap on what may be saved."""
        cdef int64_t oldest_ns = now_ns - self.interval_ns - self.burst_ns
        return self._zero_ns if self._zero_ns > oldest_ns else oldest_ns

"""Latency histogram with a bounded relative error, small enough to keep one for every kind and step.

Layout: log-linear over microseconds. Values are cut to whole microseconds below 16 µs, and each power of two above is
cut into 16 equal buckets. A bucket is open below and closed above, as Prometheus' `le` is; its bounds are
(16 + k) * 2**j µs, and its width is at most 1/16 of its lower bound. 28 powers and the first 16 make
464 buckets, 3.7 kB, up to 2**32 µs or 71 minutes; longer values share the last bucket.

Count, sum and maximum are exact. The sum is 128 bits wide: 64 would wrap after 2.5 million items that each
waited an hour, which is one bad weekend.

Cost: a record is one subtraction, one division by a constant and one count of leading zeros.

Not done: decay. A scrape takes differences, and who wants a window keeps two and clears one.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.math cimport ceil
from libc.string cimport memset

cimport cython

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil

cdef enum:
    BUCKETS = 464
    SUB_BITS = 4
    SUB_BUCKETS = 16  # 1 << SUB_BITS

cdef int64_t COUNT_MAX = <int64_t>1 << 62


cdef inline int bucket_of(int64_t ns) noexcept nogil:
    """The bucket with lower bound < ns <= upper bound; 0 takes 0 as well."""
    cdef uint64_t us = <uint64_t>(ns - 1) // 1000 if ns > 0 else 0
    cdef int power, bucket
    if us < SUB_BUCKETS:
        return <int>us
    power = 63 - __builtin_clzll(us) - SUB_BITS
    bucket = power * SUB_BUCKETS + <int>(us >> power)
    return bucket if bucket < BUCKETS else BUCKETS - 1


@cython.final
cdef class LatencyHistogram:
    @property
    def sum_ns(self):
        return (<object><uint64_t>(self._sum_ns >> 64) << 64) | <uint64_t>self._sum_ns

    def record_ns(self, int64_t ns):
        self.add(ns, 1)

    def record_many_ns(self, int64_t ns, int64_t n):
        self.add(ns, n)

    def quantile_ns(self, double q):
        return self.quantile(q)

    def cumulative(self, bounds_ns not None):
        cdef list counts = []
        cdef object bound
        cdef int64_t bound_ns
        cdef int64_t last_ns = -1
        cdef int64_t below = 0
        cdef int bucket = 0
        for bound in bounds_ns:
            bound_ns = bound
            if bound_ns <= last_ns:
                raise ValueError(f"bound {bound_ns} after {last_ns}, must be 0 or more and ascending")
            last_ns = bound_ns
            while bucket < BUCKETS and self._upper_ns(bucket) <= bound_ns:
                below += self._buckets[bucket]
                bucket += 1
            counts.append(below)
        return counts

    @cython.overflowcheck(False)
    def merge(self, LatencyHistogram other not None):
        cdef int bucket
        if other.count > COUNT_MAX - self.count:
            raise OverflowError(f"count would pass {COUNT_MAX}")
        for bucket in range(BUCKETS):
            self._buckets[bucket] += other._buckets[bucket]
        self.count += other.count
        self._sum_ns += other._sum_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def clear(self):
        memset(self._buckets, 0, sizeof(self._buckets))
        self.count = 0
        self._sum_ns = 0
        self.max_ns = 0

    @cython.overflowcheck(False)
    cdef int add(self, int64_t ns, int64_t n) except -1:
        if not 0 <= n <= COUNT_MAX - self.count:
            raise ValueError(f"n is {n}, must be 0..{COUNT_MAX - self.count}")
        if n:
            self.put(ns, n)
        return 0

    @cython.overflowcheck(False)
    cdef void put(self, int64_t ns, int64_t n) noexcept nogil:
        ns = max(ns, 0)
        self._buckets[bucket_of(ns)] += n
        self.count += n
        self._sum_ns += <uint128_t>ns * <uint128_t>n
        self.max_ns = max(self.max_ns, ns)

    cdef int64_t quantile(self, double q) except -1:
        cdef int64_t rank
        cdef int bucket
        if not 0.0 <= q <= 1.0:  # nan too
            raise ValueError(f"q is {q}, must be 0..1")
        if self.count == 0:
            return 0
        rank = max(<int64_t>ceil(q * <double>self.count), 1)
        # A double holds 53 bits: beyond them the product may round past the count.
        rank = min(rank, self.count)
        for bucket in range(BUCKETS):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return self._upper_ns(bucket)
        return self.max_ns

    cdef inline int64_t _upper_ns(self, int bucket) noexcept nogil:
        """The highest value the bucket can hold, given that none is above the maximum."""
        cdef int power = bucket // SUB_BUCKETS - 1
        cdef int64_t upper_ns
        if bucket == BUCKETS - 1:
            return self.max_ns
        if power < 0:
            power = 0
        upper_ns = (<int64_t>(bucket - power * SUB_BUCKETS + 1) << power) * 1000
        return min(upper_ns, self.max_ns)

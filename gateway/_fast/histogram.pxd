from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    """
    typedef unsigned __int128 wa_uint128;
    """
    ctypedef unsigned long long uint128_t "wa_uint128"


cdef class LatencyHistogram:
    cdef readonly int64_t count
    cdef readonly int64_t max_ns

    cdef uint128_t _sum_ns
    cdef int64_t[464] _buckets

    cdef int add(self, int64_t ns, int64_t n) except -1
    # As `add`, unchecked, for who has no lock of the interpreter; what another thread reads meanwhile may be off by it.
    cdef void put(self, int64_t ns, int64_t n) noexcept nogil
    cdef int64_t quantile(self, double q) except -1

    cdef int64_t _upper_ns(self, int bucket) noexcept nogil

# The range of time in the native core, and the checks at its door. Inlined where used: there is no module.
#
# Everything inside is an int64 of nanoseconds. The limits are chosen so that no sum made from checked
# values can wrap: now + three spans is at most 7e18, and int64 holds 9.2e18.

from libc.stdint cimport int64_t


cdef extern from *:
    """
    #define WA_NEVER_NS INT64_MAX
    #define WA_NOW_NS_MAX INT64_C(4000000000000000000)  /* 126 years of uptime */
    #define WA_SPAN_NS_MAX INT64_C(1000000000000000000)  /* 31 years, for a window, burst or debt */
    """
    const int64_t NEVER_NS "WA_NEVER_NS"
    const int64_t NOW_NS_MAX "WA_NOW_NS_MAX"
    const int64_t SPAN_NS_MAX "WA_SPAN_NS_MAX"


cdef inline int require(str name, int64_t value, int64_t low, int64_t high) except -1:
    """Refuse a value outside `low..high` with a message that names all three."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must be {low}..{high}")
    return 0


cdef inline int64_t forward(int64_t now_ns, int64_t newest_ns) except -1:
    """The later of `now_ns` and the newest time seen (0 or more): time inside a structure never runs back."""
    if now_ns > NOW_NS_MAX:
        raise ValueError(f"now_ns is {now_ns}, must be at most {NOW_NS_MAX}")
    return now_ns if now_ns > newest_ns else newest_ns

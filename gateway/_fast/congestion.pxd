# Whether a destination queues what we send it, told from how long its answers take.
#
# A server that works on K requests at once takes L / K times as long when it has L > K: no more gets done, and all
# wait. Time-outs tell of it late. So while the limit is in full use we *watch* windows of 64 successes for one that
# takes twice as long as usual. A second one must *confirm* it, or chance would lower the limit. But a server can be
# slow for reasons of its own, and then fewer requests at once would only be fewer. So then we *search*: lower the
# limit as long as lowering shortens the answers, and take back the step that does not. What answers take there is the
# new usual.
#
# Windows are compared by their mean logarithm (geometric mean): a queue multiplies every time, so it moves it by the
# same amount whatever the times are, while a few answers of ten seconds, or a cache that makes some of them a
# hundred times faster, hardly do. The least time of a window, which some limiters use, is not up to that: the least of
# many windows is always far below the least of one. tests/test_limit.py has the simulation.

from libc.math cimport INFINITY, log, sqrt
from libc.stdint cimport int64_t


cdef enum:
    # A window. Where times vary as much as lognormal with sigma 1 (95 % within a factor 50), means of windows still
    # differ by an eighth only (one standard deviation): twice is more than five of them away.
    WINDOW_SAMPLES = 64
    # Standard deviations of a window's mean that it must have grown by, if that is more than twice the time: half of
    # the answers from a cache are so wild.
    GROWN_DEVIATIONS = 4

cdef enum Advice:
    KEEP_LIMIT
    LOWER_LIMIT
    UNDO_LOWERING  # it shortened nothing

cdef enum Phase:
    WATCH
    CONFIRM
    SEARCH

cdef struct Congestion:
    Phase phase
    bint is_full  # all answers of the window so far went while all of the limit was in use
    int64_t count
    double sum
    double squares
    double usual  # logarithm of the time an answer takes without a queue; INFINITY while that is unknown
    double before  # while searching: the window before the limit was lowered, and that limit
    int64_t before_limit


cdef inline void _begin_window(Congestion* seen) noexcept nogil:
    seen.sum = 0
    seen.squares = 0
    seen.count = 0
    seen.is_full = True


cdef inline void make_congestion(Congestion* seen) noexcept nogil:
    seen.phase = WATCH
    seen.usual = INFINITY
    seen.before = 0
    seen.before_limit = 1
    _begin_window(seen)


cdef inline void forget_window(Congestion* seen) noexcept nogil:
    """The limit changes for another reason: begin a new window, and keep what is usual."""
    seen.phase = WATCH
    _begin_window(seen)


cdef inline bint is_examining(const Congestion* seen) noexcept nogil:
    """Whether the limit must stay as it is, because two windows are to be compared."""
    return seen.phase != WATCH


cdef inline Advice look_at(Congestion* seen, int64_t latency_ns, int64_t limit, bint is_full) noexcept nogil:
    """Take in an answer to a request that went under `limit`, `is_full`: all of it in use."""
    cdef double time = log(<double>max(latency_ns, 1))
    seen.sum += time
    seen.squares += time * time
    seen.count += 1
    seen.is_full = seen.is_full and is_full
    return KEEP_LIMIT if seen.count < max(WINDOW_SAMPLES, limit) else _end_window(seen, limit)


cdef inline Advice _end_window(Congestion* seen, int64_t limit) noexcept nogil:
    cdef double mean = seen.sum / seen.count
    cdef double deviation = sqrt(max(0.0, seen.squares / seen.count - mean * mean) / seen.count)
    cdef bint was_full = seen.is_full
    _begin_window(seen)
    # Shorter is learned at once and from any window, a quarter of the way; longer only where a search ends.
    if seen.usual == INFINITY:
        seen.usual = mean
    elif mean < seen.usual:
        seen.usual += (mean - seen.usual) * 0.25
    if not was_full:
        seen.phase = WATCH
        return KEEP_LIMIT
    return _judge(seen, mean, max(log(2.0), GROWN_DEVIATIONS * deviation), limit)


cdef inline Advice _judge(Congestion* seen, double mean, double grown, int64_t limit) noexcept nogil:
    cdef bint has_helped
    if seen.phase == SEARCH:
        # Half of what it would be were all of the time spent in a queue of ours.
        has_helped = seen.before - mean > log(<double>seen.before_limit / <double>limit) / 2
        if has_helped and limit > 1:
            return _search(seen, mean, limit)
        seen.phase = WATCH
        seen.usual = mean
        return KEEP_LIMIT if has_helped else UNDO_LOWERING
    if limit == 1 or mean < seen.usual + grown:
        seen.phase = WATCH
        return KEEP_LIMIT
    if seen.phase == WATCH:
        seen.phase = CONFIRM
        return KEEP_LIMIT
    return _search(seen, mean, limit)


cdef inline Advice _search(Congestion* seen, double mean, int64_t limit) noexcept nogil:
    seen.phase = SEARCH
    seen.before = mean
    seen.before_limit = limit
    return LOWER_LIMIT

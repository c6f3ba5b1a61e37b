# The first growth of a limit: as fast as answers come, until they take longer (RFC 9406, HyStart++).
#
# One more for each success doubles the limit in a round trip. A destination of 2 s would need minutes to get forty
# requests at once if it got one more a round trip. What it must not do is run far past what the destination works on:
# so of each *round*, which ends with the answer to a request that went after it had begun, the first few answers are
# compared with those of the quickest one before, by the means of their logarithms as in congestion.pxd. Once it is
# over it does not begin again: after trouble, growth is careful.

from libc.math cimport INFINITY, log
from libc.stdint cimport int64_t


cdef enum:
    # The first answers of a round, that are looked at: of fewer the mean says little. A round has so many at least.
    ROUND_SAMPLES = 8

cdef struct SlowStart:
    bint is_over
    int count
    double sum
    double quickest  # mean logarithm of an answer's time in the quickest round; INFINITY before the first has ended
    int64_t ends_after  # number of the last request that had gone when the round began


cdef inline void make_slow_start(SlowStart* start) noexcept nogil:
    start.is_over = False
    start.count = 0
    start.sum = 0
    start.quickest = INFINITY
    start.ends_after = 0


cdef inline bint must_halve(SlowStart* start, int64_t number, int64_t latency_ns, int64_t entered) noexcept nogil:
    """Whether the last doubling was one too many, after a success of request `number`; so far `entered` have gone."""
    cdef double mean
    if number > start.ends_after and start.count >= ROUND_SAMPLES:
        start.ends_after = entered
        start.sum = 0
        start.count = 0
    start.sum += log(<double>max(latency_ns, 1))
    start.count += 1
    if start.count != ROUND_SAMPLES:
        return False
    mean = start.sum / start.count
    if mean < start.quickest:
        start.quickest = mean
    elif mean > start.quickest + log(1.5):
        # A round whose answers take so much longer ends it. Chance may do so too; then what follows is slower, not
        # wrong.
        start.is_over = True
        return True
    return False

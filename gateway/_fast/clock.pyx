"""The machine's clocks, read without a frame of Python: each event asks for the time several times."""

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

cdef enum:
    NS_PER_S = 1_000_000_000
    MS_PER_S = 1_000
    NS_PER_MS = 1_000_000


def now_ns():
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * NS_PER_S + now.tv_nsec


def wall_ms():
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t>now.tv_sec * MS_PER_S + now.tv_nsec // NS_PER_MS

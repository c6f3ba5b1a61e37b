"""A deadline as a file descriptor: Linux timerfd on CLOCK_MONOTONIC, to the nanosecond.

The timers of uvloop and of epoll count whole milliseconds; at 80 tokens a second that is a tenth of an interval lost
at each token. A timerfd wakes the loop through `add_reader` like any socket does, some 40 µs after its deadline.

Layout: one descriptor, non-blocking and close-on-exec. Cost: one system call to arm (0.6 µs), one to acknowledge
(0.25 µs); arming again moves the deadline, there is no need to disarm first.

Not done:
- periods. Who paces decides after each firing when the next one is due.
- timer slack (prctl): it does not touch a timerfd. Measured at 20 firings a second: 186 us late at p50 as it comes,
  219 us with a slack of 1 ns.
- firing 0.2 ms early and reading the clock until the deadline: late by 1 us at p50, but the p99 is the scheduler's and
  stays, and each firing costs 45 to 105 us more of the loop's time.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, itimerspec, timespec
from posix.unistd cimport close, read

cimport cython

cdef extern from "<sys/timerfd.h>" nogil:
    int TFD_NONBLOCK
    int TFD_CLOEXEC
    int TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* new_value, itimerspec* old_value)

cdef enum:
    NS_PER_S = 1_000_000_000


@cython.final
cdef class DeadlineTimer:
    def __cinit__(self):
        self._fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self._fd >= 0:
            close(self._fd)

    def fileno(self):
        return self._fd

    def arm_at_ns(self, int64_t deadline_ns):
        # All zeros would disarm, so the distant past is one nanosecond after the start of the clock.
        self._set(max(deadline_ns, 1))

    def disarm(self):
        self._set(0)

    def acknowledge(self):
        cdef uint64_t expirations = 0
        while read(self._fd, &expirations, sizeof(expirations)) < 0:
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
        return expirations

    def close(self):
        # The number is forgotten first: whatever close() answers, Linux has released it.
        cdef int fd = self._fd
        self._fd = -1
        if fd >= 0 and close(fd) < 0 and errno != EINTR:
            PyErr_SetFromErrno(OSError)

    cdef int _set(self, int64_t deadline_ns) except -1:
        cdef itimerspec spec
        spec.it_interval.tv_sec = 0
        spec.it_interval.tv_nsec = 0
        spec.it_value.tv_sec = deadline_ns // NS_PER_S
        spec.it_value.tv_nsec = deadline_ns % NS_PER_S
        if timerfd_settime(self._fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

# A mutex with the two conditions that threads wait for under it, for code that runs without the interpreter's lock.

from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, const void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_condattr_init(pthread_condattr_t* attributes)
    int pthread_condattr_setclock(pthread_condattr_t* attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t* attributes)
    int pthread_cond_init(pthread_cond_t* condition, const pthread_condattr_t* attributes)
    int pthread_cond_destroy(pthread_cond_t* condition)
    int pthread_cond_signal(pthread_cond_t* condition)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until)


cdef enum:
    NS_PER_S = 1_000_000_000


cdef struct Monitor:
    pthread_mutex_t mutex
    pthread_cond_t work  # for the thread that writes
    pthread_cond_t news  # for the thread that has the tables


cdef inline int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * NS_PER_S + now.tv_nsec


cdef inline void make_monitor(Monitor* monitor) noexcept nogil:
    cdef pthread_condattr_t attributes
    pthread_mutex_init(&monitor.mutex, NULL)
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(&monitor.work, &attributes)
    pthread_cond_init(&monitor.news, &attributes)
    pthread_condattr_destroy(&attributes)


cdef inline void destroy_monitor(Monitor* monitor) noexcept nogil:
    pthread_cond_destroy(&monitor.news)
    pthread_cond_destroy(&monitor.work)
    pthread_mutex_destroy(&monitor.mutex)


cdef inline void enter(Monitor* monitor) noexcept nogil:
    pthread_mutex_lock(&monitor.mutex)


cdef inline void leave(Monitor* monitor) noexcept nogil:
    pthread_mutex_unlock(&monitor.mutex)


cdef inline void wait_for(Monitor* monitor, pthread_cond_t* condition) noexcept nogil:
    pthread_cond_wait(condition, &monitor.mutex)


cdef inline bint wait_until(Monitor* monitor, pthread_cond_t* condition, int64_t until_ns) noexcept nogil:
    """Wait for the condition, at most until `until_ns` (monotonic); whether that has come."""
    cdef timespec until
    until.tv_sec = until_ns // NS_PER_S
    until.tv_nsec = until_ns % NS_PER_S
    return pthread_cond_timedwait(condition, &monitor.mutex, &until) == ETIMEDOUT


cdef inline void wake(pthread_cond_t* condition) noexcept nogil:
    pthread_cond_signal(condition)

"""Frames of the redo log, put together and written by a thread that does not need the interpreter for it.

Layout: entries as they were submitted, those that are in the log first, then those that wait; a mutex for the few lines
in which the two threads meet. What is written is a frame as `store/redo_log.py` describes it.

Cost: to submit 60 ns, and the wake-up of the thread where it sleeps; to be told one system call here and one there,
however many commits it is. While a thread that had the interpreter's lock committed, an event paid about 10 µs for the
two threads' handing it to each other, with 24 webhooks in flight.

Not done: a lock-free queue. The mutex is held for some ten instructions, and the thread spends its time in the kernel.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_SetFromErrno
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EAGAIN, EINTR, ENOMEM, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, read, write

cimport cython

from .crc32 cimport crc32
from .pthread cimport (
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_cond_t,
    pthread_cond_timedwait,
    pthread_cond_wait,
    pthread_condattr_destroy,
    pthread_condattr_init,
    pthread_condattr_setclock,
    pthread_condattr_t,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <endian.h>
    #include <errno.h>
    #include <sys/eventfd.h>
    #include <sys/uio.h>

    /* Reading what a bytes object holds needs no lock of the interpreter, while someone keeps it. */
    static inline const char* text_of(PyObject* encoded) { return PyBytes_AS_STRING(encoded); }
    static inline size_t size_of(PyObject* encoded) { return (size_t)PyBytes_GET_SIZE(encoded); }
    static inline void set_errno(int code) { errno = code; }
    """
    const char* text_of(PyObject* encoded) nogil
    size_t size_of(PyObject* encoded) nogil
    void set_errno(int code) nogil
    uint32_t htole32(uint32_t value) nogil
    uint64_t htole64(uint64_t value) nogil

    int EFD_NONBLOCK
    int EFD_CLOEXEC
    int eventfd(unsigned int value, int flags) nogil

    struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t pwritev2(int handle, const iovec* parts, int count, int64_t at, int flags) nogil

cdef enum:
    NS_PER_S = 1_000_000_000
    # Of a frame: magic, length, number and time; the CRC follows.
    FIELDS_BYTES = 24
    HEAD_BYTES = 28
    LENGTH_BYTES = 4
    BATCH_ENTRIES = 512

cdef enum:
    _CALLED = 1
    _MUCH = 2
    _IDLE = 3
    _HELD = 4
    _NO_ROOM = 5

CALLED = _CALLED
MUCH = _MUCH
IDLE = _IDLE
HELD = _HELD
NO_ROOM = _NO_ROOM

cdef int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * NS_PER_S + now.tv_nsec


cdef struct Entry:
    PyObject* encoded
    int changes
    int holds
    int64_t at_ms


@cython.final
cdef class LogWriter:
    cdef int _file, _flags, _told
    cdef char _magic[4]
    cdef uint32_t _seed
    cdef int64_t _first, _end, _limit
    cdef uint64_t _number
    cdef readonly uint64_t commits
    cdef Entry* _entries
    # All entries, and how many of them are in the log.
    cdef Py_ssize_t _room, _size, _written
    # Those under way, of which nothing is told yet.
    cdef Entry _batch[BATCH_ENTRIES]
    cdef int _batch_size
    # Entries since the beginning; `_called_at`: those before the calls that are next. Later calls are apart until those are
    # answered: else whoever calls on and on, while others submit, would hear nothing.
    cdef uint64_t _submitted, _done, _called_at, _next_called_at
    cdef int _calls, _next_calls, _calls_ready
    cdef Py_ssize_t _untold
    # No commit before this, unless `_crowd` changes wait (0: there is no such pause now).
    cdef int64_t _next_ns
    cdef int _crowd, _waiting_changes
    cdef char* _frame
    cdef size_t _frame_room
    cdef pthread_mutex_t _mutex
    cdef pthread_cond_t _changed
    cdef bint _has_locks

    def __cinit__(self, int file, bytes magic, uint32_t seed, int64_t first, int64_t limit, int flags):
        cdef pthread_condattr_t attributes
        assert len(magic) == 4, magic
        self._file, self._flags = file, flags
        memcpy(self._magic, PyBytes_AS_STRING(magic), 4)
        self._seed = seed
        self._first = self._end = first
        self._limit = limit
        self._told = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self._told < 0:
            PyErr_SetFromErrno(OSError)
        pthread_mutex_init(&self._mutex, NULL)
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(&self._changed, &attributes)
        pthread_condattr_destroy(&attributes)
        self._has_locks = True

    def __dealloc__(self):
        self._drop(self._size)
        free(self._entries)
        free(self._frame)
        if self._has_locks:
            self.close()
            pthread_cond_destroy(&self._changed)
            pthread_mutex_destroy(&self._mutex)

    # -- on either thread

    @property
    def number(self):
        return self._number

    @property
    def used_bytes(self):
        return self._end - self._first

    def go_on(self, uint64_t number, int64_t end):
        self._number, self._end = number, end

    # -- for whoever submits

    def fileno(self):
        return self._told

    def submit(self, bytes encoded not None, int changes, int64_t at_ms, bint holds):
        cdef bint wakes
        pthread_mutex_lock(&self._mutex)
        try:
            self._add(encoded, changes, at_ms, holds)
            self._submitted += 1
            self._waiting_changes += changes
            wakes = self._waiting_changes >= self._crowd
        finally:
            pthread_mutex_unlock(&self._mutex)
        if wakes:
            pthread_cond_signal(&self._changed)

    def call(self):
        pthread_mutex_lock(&self._mutex)
        if self._calls and self._called_at != self._submitted:
            self._next_calls += 1
            self._next_called_at = self._submitted
        else:
            self._calls += 1
            self._called_at = self._submitted
        pthread_mutex_unlock(&self._mutex)
        pthread_cond_signal(&self._changed)

    def close(self):
        cdef int told = self._told
        self._told = -1
        if told >= 0:
            close(told)

    def take_told(self):
        cdef uint64_t times
        cdef Py_ssize_t count
        if read(self._told, &times, sizeof(times)) < 0 and errno not in (EAGAIN, EINTR):
            PyErr_SetFromErrno(OSError)
        pthread_mutex_lock(&self._mutex)
        count, self._untold = self._untold, 0
        pthread_mutex_unlock(&self._mutex)
        return count

    # -- for the thread that writes

    def serve(self, int64_t spacing_ns, int crowd, int batch_changes, int64_t much_bytes, int64_t idle_ns):
        cdef int found
        with nogil:
            found = self._serve(spacing_ns, crowd, batch_changes, much_bytes, idle_ns)
        if found < 0:
            self._raise(-found)
        return found

    def take_call(self):
        if not self._calls_ready:
            return False
        self._calls_ready -= 1
        return True

    def tell(self):
        self._tell()

    def take_batch(self):
        cdef int at
        cdef int64_t at_ms = self._batch[self._batch_size - 1].at_ms
        cdef list batch = []
        for at in range(self._batch_size):
            batch.append(<object>self._batch[at].encoded)
        pthread_mutex_lock(&self._mutex)
        for at in range(self._batch_size):
            self._waiting_changes -= self._batch[at].changes
            Py_DECREF(<object>self._batch[at].encoded)
        memmove(
            self._entries + self._written,
            self._entries + self._written + self._batch_size,
            (self._size - self._written - self._batch_size) * sizeof(Entry),
        )
        self._size -= self._batch_size
        self._done += self._batch_size
        self.commits += 1
        pthread_mutex_unlock(&self._mutex)
        return batch, at_ms

    def append(self, list entries not None, int64_t at_ms):
        cdef Py_ssize_t begin = self._size, at
        cdef int found
        cdef bytes entry
        assert begin == self._written, "others wait to be written"
        for entry in entries:
            self._add(entry, 0, at_ms, False)
        with nogil:
            found = self._write(self._entries + begin, self._size - begin, at_ms)
        if found:
            for at in range(begin, self._size):
                Py_DECREF(<object>self._entries[at].encoded)
            self._size = begin
        self._written = self._size
        if found < 0:
            self._raise(-found)
        self.commits += found == 0
        return found == 0

    def entries(self):
        cdef Py_ssize_t at
        cdef list found = []
        for at in range(self._written):
            found.append(<object>self._entries[at].encoded)
        return found

    @property
    def last_ms(self):
        return self._entries[self._written - 1].at_ms if self._written else 0

    def begin_anew(self):
        pthread_mutex_lock(&self._mutex)
        self._drop(self._written)
        self._end = self._first
        pthread_mutex_unlock(&self._mutex)

    # -- its parts

    cdef int _raise(self, int code) except -1:
        set_errno(code)
        PyErr_SetFromErrno(OSError)

    cdef int _add(self, bytes encoded, int changes, int64_t at_ms, int holds) except -1:
        cdef Entry* larger
        cdef Py_ssize_t room
        if self._size == self._room:
            room = max(64, 2 * self._room)
            larger = <Entry*>realloc(self._entries, room * sizeof(Entry))
            if larger == NULL:
                raise MemoryError
            self._entries, self._room = larger, room
        Py_INCREF(encoded)
        self._entries[self._size] = Entry(<PyObject*>encoded, changes, holds, at_ms)
        self._size += 1
        return 0

    cdef void _drop(self, Py_ssize_t count) noexcept:  # to let go of bytes raises nothing
        """Let go of the first `count` entries."""
        cdef Py_ssize_t at
        for at in range(count):
            Py_DECREF(<object>self._entries[at].encoded)
        if count:
            memmove(self._entries, self._entries + count, (self._size - count) * sizeof(Entry))
        self._size -= count
        self._written = max(0, self._written - count)

    cdef void _tell(self) noexcept nogil:
        """The batch is stored: whoever submitted it may look."""
        cdef uint64_t one = 1
        pthread_mutex_lock(&self._mutex)
        self._untold += self._batch_size
        self._batch_size = 0
        pthread_mutex_unlock(&self._mutex)
        while write(self._told, &one, sizeof(one)) < 0 and errno == EINTR:
            pass

    cdef int _serve(
        self, int64_t spacing_ns, int crowd, int batch_changes, int64_t much_bytes, int64_t idle_ns
    ) noexcept nogil:
        cdef int found, changes
        while True:
            found = self._wait(idle_ns)
            if found:
                return found
            self._keep_spacing(spacing_ns, crowd)
            changes = self._take(batch_changes)
            found = self._write(self._batch, self._batch_size, self._batch[self._batch_size - 1].at_ms)
            if found:
                return found
            if changes < crowd:
                self._next_ns = _now_ns() + spacing_ns
            self.commits += 1
            pthread_mutex_lock(&self._mutex)
            self._written += self._batch_size
            self._done += self._batch_size
            self._waiting_changes -= changes
            pthread_mutex_unlock(&self._mutex)
            if self._holds():
                return _HELD
            self._tell()
            if self._end - self._first >= much_bytes:
                return _MUCH

    cdef int _wait(self, int64_t idle_ns) noexcept nogil:
        """Until there is something to write (0), or a reason to end."""
        cdef int64_t until_ns = _now_ns() + idle_ns
        cdef timespec until
        cdef int found = 0
        until.tv_sec = until_ns // NS_PER_S
        until.tv_nsec = until_ns % NS_PER_S
        pthread_mutex_lock(&self._mutex)
        while self._done == self._submitted and not self._calls:
            if self._end == self._first:
                pthread_cond_wait(&self._changed, &self._mutex)
            elif pthread_cond_timedwait(&self._changed, &self._mutex, &until) == ETIMEDOUT:
                if self._done == self._submitted and not self._calls:
                    found = _IDLE
                break
        if not found and self._calls and self._done >= self._called_at:
            self._calls_ready += self._calls
            self._calls, self._called_at = self._next_calls, self._next_called_at
            self._next_calls = 0
            found = _CALLED
        pthread_mutex_unlock(&self._mutex)
        return found

    cdef void _keep_spacing(self, int64_t spacing_ns, int crowd) noexcept nogil:
        """Wait for company after a small commit: as long as was said, or until there is a crowd."""
        cdef int64_t left_ns = self._next_ns - _now_ns()
        cdef timespec until
        if not 0 < left_ns <= spacing_ns:
            return
        until.tv_sec = self._next_ns // NS_PER_S
        until.tv_nsec = self._next_ns % NS_PER_S
        pthread_mutex_lock(&self._mutex)
        self._crowd = crowd
        while self._waiting_changes < crowd:
            if pthread_cond_timedwait(&self._changed, &self._mutex, &until) == ETIMEDOUT:
                break
        self._crowd = 0
        pthread_mutex_unlock(&self._mutex)

    cdef int _take(self, int batch_changes) noexcept nogil:
        """The next batch: at most so many changes, and one entry whatever is in it. How many changes it has."""
        cdef int changes = 0
        cdef Entry* entry
        self._batch_size = 0
        pthread_mutex_lock(&self._mutex)
        while self._written + self._batch_size < self._size and self._batch_size < BATCH_ENTRIES:
            entry = self._entries + self._written + self._batch_size
            if self._batch_size and changes + entry.changes > batch_changes:
                break
            changes += entry.changes
            self._batch[self._batch_size] = entry[0]
            self._batch_size += 1
        pthread_mutex_unlock(&self._mutex)
        return changes

    cdef bint _holds(self) noexcept nogil:
        cdef int at
        for at in range(self._batch_size):
            if self._batch[at].holds:
                return True
        return False

    cdef int _write(self, const Entry* entries, Py_ssize_t count, int64_t committed_ms) noexcept nogil:
        """One frame: 0 when it is on disk, _NO_ROOM, or an error number below 0."""
        cdef size_t size = HEAD_BYTES, length, done = 0
        cdef Py_ssize_t at
        cdef uint32_t word
        cdef uint64_t number = htole64(self._number + 1), at_ms
        cdef char* larger
        cdef char* to
        cdef iovec part
        cdef ssize_t written
        for at in range(count):
            size += LENGTH_BYTES + size_of(entries[at].encoded)
        if self._end + <int64_t>size > self._limit:
            return _NO_ROOM
        if size > self._frame_room:
            larger = <char*>realloc(self._frame, size)
            if larger == NULL:
                return -ENOMEM
            self._frame, self._frame_room = larger, size
        to = self._frame + HEAD_BYTES
        for at in range(count):
            length = size_of(entries[at].encoded)
            word = htole32(length)
            memcpy(to, &word, LENGTH_BYTES)
            memcpy(to + LENGTH_BYTES, text_of(entries[at].encoded), length)
            to += LENGTH_BYTES + length
        memcpy(self._frame, self._magic, 4)
        word = htole32(size - HEAD_BYTES)
        memcpy(self._frame + 4, &word, 4)
        memcpy(self._frame + 8, &number, 8)
        at_ms = htole64(committed_ms)
        memcpy(self._frame + 16, &at_ms, 8)
        word = crc32(<uint8_t*>self._frame, FIELDS_BYTES, self._seed)
        word = htole32(crc32(<uint8_t*>self._frame + HEAD_BYTES, size - HEAD_BYTES, word))
        memcpy(self._frame + FIELDS_BYTES, &word, 4)
        while done < size:
            part.iov_base = self._frame + done
            part.iov_len = size - done
            # With RWF_DSYNC one call writes and syncs.
            written = pwritev2(self._file, &part, 1, self._end + <int64_t>done, self._flags)
            if written >= 0:
                done += written
            elif errno != EINTR:
                return -errno
        self._number += 1
        self._end += size
        return 0

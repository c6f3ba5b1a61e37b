"""The end of the redo log, and the three threads that meet there: one submits, one writes, one brings it into the tables.

Layout: `log_segments.pxd` has the entries, `log_frames.pxd` makes the frames; a mutex for the few lines in which threads
meet. Written is without it, and what is sealed belongs to the thread that has the tables.

Cost: to submit 60 ns, and the wake-up of the thread that writes where it sleeps; to be told one system call here and one
there, however many commits it is. While a thread that had the interpreter's lock committed, an event paid about 10 µs for
the two threads' handing it to each other, with 24 webhooks in flight.

Not done: a lock-free queue. The thread that writes spends its time in the kernel.
"""

from cpython.exc cimport PyErr_SetFromErrno
from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from posix.unistd cimport close, read, write

cimport cython

from .histogram cimport LatencyHistogram
from .log_frames cimport Entry, frame_size
from .log_segments cimport (
    Batch,
    Segments,
    add_entry,
    committed_ms,
    drop_first,
    drop_last,
    fill_batch,
    has_room,
    is_held,
    note_written,
    open_bytes,
    seal_open,
    write_next,
)
from .monitor cimport (
    Monitor,
    destroy_monitor,
    enter,
    leave,
    make_monitor,
    monotonic_ns,
    wait_for,
    wait_until,
    wake,
)

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/eventfd.h>

    static inline void set_errno(int code) { errno = code; }
    """
    void set_errno(int code) nogil
    int EFD_NONBLOCK
    int EFD_CLOEXEC
    int eventfd(unsigned int value, int flags) nogil

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


@cython.final
cdef class LogWriter:
    cdef Segments _log
    cdef int _told
    cdef readonly uint64_t commits
    cdef readonly LatencyHistogram writes
    # Those under way, of which nothing is told yet.
    cdef Batch _batch
    # Entries since the beginning; `_called_at`: those before the calls that are next. Later calls are apart until those are
    # answered: else whoever calls on and on, while others submit, would hear nothing.
    cdef uint64_t _submitted, _done, _called_at, _next_called_at
    cdef int _calls, _next_calls, _calls_ready
    cdef Py_ssize_t _untold
    # The thread that writes: has a frame under way, waits for the tables (HELD or NO_ROOM), found that nothing comes, must
    # seal what it has when the frame is written, has failed (an error number), is to end.
    cdef bint _is_writing, _is_idle, _must_seal, _is_stopped
    cdef int _pause, _error
    # No commit before this, unless `_crowd` changes wait (0: there is no such pause now).
    cdef int64_t _next_ns
    cdef int _crowd, _waiting_changes
    cdef int64_t _much_bytes
    cdef Monitor _monitor
    cdef bint _has_monitor

    def __cinit__(self, int file, bytes magic, uint32_t seed, int64_t first, int64_t segment_bytes, int flags):
        assert len(magic) == 4, magic
        self._log.file.handle, self._log.file.flags, self._log.file.seed = file, flags, seed
        memcpy(self._log.file.magic, PyBytes_AS_STRING(magic), 4)
        self._log.first = self._log.end = first
        self._log.segment_bytes = self._much_bytes = segment_bytes
        self._told = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self._told < 0:
            PyErr_SetFromErrno(OSError)
        self.writes = LatencyHistogram()
        make_monitor(&self._monitor)
        self._has_monitor = True

    def __dealloc__(self):
        drop_first(&self._log, self._log.size)
        free(self._log.entries)
        free(self._log.file.frame)
        if self._has_monitor:
            self.close()
            destroy_monitor(&self._monitor)

    # -- on any thread

    @property
    def number(self):
        return self._log.number

    @property
    def used_bytes(self):
        return self._log.sealed_bytes + open_bytes(&self._log)

    def stop(self):
        enter(&self._monitor)
        self._is_stopped = True
        wake(&self._monitor.work)
        leave(&self._monitor)

    # -- for whoever submits

    def fileno(self):
        return self._told

    def submit(self, bytes encoded not None, int changes, int64_t at_ms, bint holds):
        cdef bint wakes
        enter(&self._monitor)
        try:
            add_entry(&self._log, encoded, changes, at_ms, holds)
            self._submitted += 1
            self._waiting_changes += changes
            wakes = self._waiting_changes >= self._crowd
        finally:
            leave(&self._monitor)
        if wakes:
            wake(&self._monitor.work)

    def call(self):
        enter(&self._monitor)
        if self._calls and self._called_at != self._submitted:
            self._next_calls += 1
            self._next_called_at = self._submitted
        else:
            self._calls += 1
            self._called_at = self._submitted
        if self._done >= self._called_at:
            wake(&self._monitor.news)
        leave(&self._monitor)

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
        enter(&self._monitor)
        count, self._untold = self._untold, 0
        leave(&self._monitor)
        return count

    # -- for the thread that writes

    def serve(self, int64_t spacing_ns, int crowd, int batch_changes, int64_t much_bytes, int64_t idle_ns):
        self._much_bytes = much_bytes
        with nogil:
            self._serve(spacing_ns, crowd, batch_changes, idle_ns)

    # -- for the thread that has the tables

    def wait(self):
        cdef int found
        with nogil:
            found = self._wait_for_news()
        if found < 0:
            self._raise(-found)
        return found

    def take_call(self):
        if not self._calls_ready:
            return False
        self._calls_ready -= 1
        return True

    def seal(self):
        cdef int error
        cdef Py_ssize_t at
        cdef list found = []
        with nogil:
            error = self._seal()
        if error:
            self._raise(error)
        for at in range(self._log.sealed):
            found.append(<object>self._log.entries[at].encoded)
        return found

    @property
    def sealed_number(self):
        return self._log.sealed_number

    @property
    def sealed_ms(self):
        return self._log.entries[self._log.sealed - 1].at_ms if self._log.sealed else 0

    def release(self):
        enter(&self._monitor)
        drop_first(&self._log, self._log.sealed)
        self._log.sealed_bytes = 0
        leave(&self._monitor)

    def tell(self):
        assert self._pause, "nothing is held"
        self._tell()

    def take_batch(self):
        cdef int at
        cdef int64_t at_ms = committed_ms(&self._batch)
        cdef list batch = []
        assert self._pause == _NO_ROOM and not self._log.written, "there may be room"
        enter(&self._monitor)
        for at in range(self._batch.size):
            batch.append(<object>self._batch.entries[at].encoded)
        self._waiting_changes -= self._batch.changes
        drop_first(&self._log, self._batch.size)
        self.commits += 1
        leave(&self._monitor)
        return batch, at_ms

    # -- for one that has all of it

    def go_on(self, uint64_t number):
        self._log.number = self._log.sealed_number = number

    def append(self, list entries not None, int64_t at_ms):
        cdef int error = 0, count = len(entries)
        cdef int64_t size
        cdef bint fits
        cdef bytes entry
        cdef Entry* added
        assert count and self._log.size == self._log.written, "others wait to be written"
        for entry in entries:
            add_entry(&self._log, entry, 0, at_ms, False)
        added = self._log.entries + self._log.written
        size = frame_size(added, count)
        fits = has_room(&self._log, size)
        if fits:
            with nogil:
                error = write_next(&self._log, added, count, size, at_ms)
        if fits and not error:
            note_written(&self._log, count, size)
            self.commits += 1
        else:
            drop_last(&self._log, count)
        if error:
            self._raise(error)
        return fits

    # -- parts, with the interpreter's lock

    cdef int _raise(self, int code) except -1:
        set_errno(code)
        PyErr_SetFromErrno(OSError)

    # -- parts of the thread that has the tables

    cdef void _swap(self) noexcept nogil:
        """Seal what is written: the other segment is free, and may have the room that was missing."""
        seal_open(&self._log)
        self._must_seal = self._is_idle = False
        if self._pause == _NO_ROOM:
            self._pause = 0
            wake(&self._monitor.work)

    cdef int _seal(self) noexcept nogil:
        """0, or the error of the frame that was under way."""
        enter(&self._monitor)
        if not self._log.sealed_bytes:
            self._must_seal = self._is_writing
            while self._must_seal and not self._error:
                wait_for(&self._monitor, &self._monitor.news)
            if not self._log.sealed_bytes and open_bytes(&self._log) and not self._error:
                self._swap()
        leave(&self._monitor)
        return self._error

    cdef int _wait_for_news(self) noexcept nogil:
        """Until there is work for the tables: what it is, or an error number below 0."""
        cdef int found = 0
        enter(&self._monitor)
        while True:
            if self._error:
                found = -self._error
            elif self._calls and self._done >= self._called_at:
                self._calls_ready += self._calls
                self._calls, self._called_at = self._next_calls, self._next_called_at
                self._next_calls = 0
                found = _CALLED
            elif self._pause:
                found = self._pause
            elif open_bytes(&self._log) >= self._much_bytes:
                found = _MUCH
            elif self._is_idle:
                self._is_idle = False
                found = _IDLE
            if found:
                break
            wait_for(&self._monitor, &self._monitor.news)
        leave(&self._monitor)
        return found

    # -- parts of the thread that writes

    cdef void _serve(self, int64_t spacing_ns, int crowd, int batch_changes, int64_t idle_ns) noexcept nogil:
        cdef int changes, error
        cdef int64_t began_ns, size
        while self._wait_for_entries(idle_ns):
            self._keep_spacing(spacing_ns, crowd)
            self._fill_batch(batch_changes)
            changes, size = self._batch.changes, frame_size(self._batch.entries, self._batch.size)
            while self._batch.size and not self._claim(size):
                self._wait_for_tables()  # which find room, or take the batch
                if self._is_stopped:
                    return
            if not self._batch.size:
                continue
            began_ns = monotonic_ns()
            error = write_next(
                &self._log, self._batch.entries, self._batch.size, size, committed_ms(&self._batch)
            )
            self.writes.put(monotonic_ns() - began_ns, 1)
            if self._note_result(error, size):
                self._wait_for_tables()
            elif not error:
                self._tell()
            else:
                return
            if changes < crowd:
                self._next_ns = monotonic_ns() + spacing_ns

    cdef bint _wait_for_entries(self, int64_t idle_ns) noexcept nogil:
        """Whether there is something to write; else it is to end."""
        cdef int64_t until_ns = monotonic_ns() + idle_ns
        cdef bint has_some
        enter(&self._monitor)
        while self._done == self._submitted and not self._is_stopped:
            if self._is_idle or not open_bytes(&self._log):
                wait_for(&self._monitor, &self._monitor.work)
            elif wait_until(&self._monitor, &self._monitor.work, until_ns):
                if open_bytes(&self._log):
                    self._is_idle = True
                    wake(&self._monitor.news)
        self._is_idle = False
        has_some = not self._is_stopped
        leave(&self._monitor)
        return has_some

    cdef void _keep_spacing(self, int64_t spacing_ns, int crowd) noexcept nogil:
        """Wait for company after a small commit: as long as was said, or until there is a crowd."""
        cdef int64_t until_ns = self._next_ns
        if not 0 < until_ns - monotonic_ns() <= spacing_ns:
            return
        enter(&self._monitor)
        self._crowd = crowd
        while self._waiting_changes < crowd and not self._is_stopped:
            if wait_until(&self._monitor, &self._monitor.work, until_ns):
                break
        self._crowd = 0
        leave(&self._monitor)

    cdef void _fill_batch(self, int batch_changes) noexcept nogil:
        enter(&self._monitor)
        fill_batch(&self._batch, &self._log, batch_changes)
        leave(&self._monitor)

    cdef bint _claim(self, int64_t size) noexcept nogil:
        """Whether the segment has room for the batch, which is under way then; else the tables are asked to make some."""
        enter(&self._monitor)
        self._is_writing = has_room(&self._log, size)
        if not self._is_writing:
            self._pause = _NO_ROOM
            wake(&self._monitor.news)
        leave(&self._monitor)
        return self._is_writing

    cdef bint _note_result(self, int error, int64_t size) noexcept nogil:
        """The batch is on disk, or has failed; whether it is held."""
        cdef bint has_news, holds = not error and is_held(&self._batch)
        enter(&self._monitor)
        has_news = error or self._must_seal
        self._is_writing = False
        self._error = error
        if not error:
            note_written(&self._log, self._batch.size, size)
            self.commits += 1
            self._waiting_changes -= self._batch.changes
            if holds:
                self._pause = _HELD
            if self._must_seal:
                self._swap()
        if has_news or self._pause or open_bytes(&self._log) >= self._much_bytes:
            wake(&self._monitor.news)
        leave(&self._monitor)
        return holds

    cdef void _wait_for_tables(self) noexcept nogil:
        enter(&self._monitor)
        while self._pause and not self._is_stopped:
            wait_for(&self._monitor, &self._monitor.work)
        leave(&self._monitor)

    cdef void _tell(self) noexcept nogil:
        """The batch is stored: whoever submitted it may look, unless the store has ended meanwhile."""
        cdef uint64_t one = 1
        enter(&self._monitor)
        self._done += self._batch.size
        if not self._is_stopped:
            self._untold += self._batch.size
        self._batch.size = 0
        if self._pause:
            self._pause = 0
            wake(&self._monitor.work)
        if self._calls and self._done >= self._called_at:
            wake(&self._monitor.news)
        leave(&self._monitor)
        while write(self._told, &one, sizeof(one)) < 0 and errno == EINTR:
            pass

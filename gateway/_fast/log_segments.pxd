# The two segments of the redo log, and the entries that are in them or wait for it. No locks: see log_writer.pyx.
#
#     0 ... sealed ... written ... size      entries, as they were submitted
#       sealed     open       waiting
#
# One segment is open: frames are added to it. When it has much it is sealed, which swaps the two: the entries of the
# sealed one go into the tables while the other one is written, and then it is free.

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memmove

from .log_frames cimport Entry, FrameFile, write_frame


cdef struct Segments:
    FrameFile file
    int64_t first  # byte where the segments begin
    int64_t segment_bytes
    int which  # is open: 0 or 1
    int64_t end  # byte where the open one ends
    int64_t sealed_bytes
    uint64_t number  # of the last frame
    uint64_t sealed_number  # of the last frame in what was sealed last
    Entry* entries
    Py_ssize_t room
    Py_ssize_t size
    Py_ssize_t written
    Py_ssize_t sealed


cdef inline int add_entry(Segments* log, bytes encoded, int changes, int64_t at_ms, int holds) except -1:
    cdef Entry* larger
    cdef Py_ssize_t room
    if log.size == log.room:
        room = max(64, 2 * log.room)
        larger = <Entry*>realloc(log.entries, room * sizeof(Entry))
        if larger == NULL:
            raise MemoryError
        log.entries, log.room = larger, room
    Py_INCREF(encoded)
    log.entries[log.size] = Entry(<PyObject*>encoded, changes, holds, at_ms)
    log.size += 1
    return 0


cdef inline void drop_first(Segments* log, Py_ssize_t count) noexcept:  # to let go of bytes raises nothing
    """Let go of the first `count` entries."""
    cdef Py_ssize_t at
    for at in range(count):
        Py_DECREF(<object>log.entries[at].encoded)
    if count:
        memmove(log.entries, log.entries + count, (log.size - count) * sizeof(Entry))
    log.size -= count
    log.written = max(0, log.written - count)
    log.sealed = max(0, log.sealed - count)


cdef inline void drop_last(Segments* log, Py_ssize_t count) noexcept:
    cdef Py_ssize_t at
    for at in range(log.size - count, log.size):
        Py_DECREF(<object>log.entries[at].encoded)
    log.size -= count


cdef inline int64_t open_begin(const Segments* log) noexcept nogil:
    return log.first + log.which * log.segment_bytes


cdef inline int64_t open_bytes(const Segments* log) noexcept nogil:
    return log.end - open_begin(log)


cdef inline bint has_room(const Segments* log, int64_t size) noexcept nogil:
    """Whether a frame of so many bytes fits."""
    return open_bytes(log) + size <= log.segment_bytes


cdef inline int write_next(
    Segments* log, const Entry* entries, Py_ssize_t count, int64_t size, int64_t at_ms
) noexcept nogil:
    """Write the frame after the last one, for which there is room: 0, or an error number. Then note it."""
    return write_frame(&log.file, log.number + 1, entries, count, size, at_ms, log.end)


cdef inline void note_written(Segments* log, Py_ssize_t count, int64_t size) noexcept nogil:
    """The next `count` entries are in the open segment, as one frame."""
    log.number += 1
    log.end += size
    log.written += count


cdef inline void seal_open(Segments* log) noexcept nogil:
    """Swap the two segments. The other one is free."""
    log.sealed, log.sealed_bytes, log.sealed_number = log.written, open_bytes(log), log.number
    log.which = 1 - log.which
    log.end = open_begin(log)


cdef enum:
    BATCH_ENTRIES = 512


cdef struct Batch:
    # The next entries to be written: they stay the log's.
    int size
    int changes
    Entry entries[BATCH_ENTRIES]


cdef inline void fill_batch(Batch* batch, const Segments* log, int changes_max) noexcept nogil:
    """At most so many changes, and one entry whatever is in it."""
    cdef const Entry* entry
    batch.size = batch.changes = 0
    while log.written + batch.size < log.size and batch.size < BATCH_ENTRIES:
        entry = log.entries + log.written + batch.size
        if batch.size and batch.changes + entry.changes > changes_max:
            break
        batch.changes += entry.changes
        batch.entries[batch.size] = entry[0]
        batch.size += 1


cdef inline bint is_held(const Batch* batch) noexcept nogil:
    cdef int at
    for at in range(batch.size):
        if batch.entries[at].holds:
            return True
    return False


cdef inline int64_t committed_ms(const Batch* batch) noexcept nogil:
    return batch.entries[batch.size - 1].at_ms

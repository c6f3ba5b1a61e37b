# Frames of the redo log, as store/redo_log.py describes them: put together and written without the interpreter's lock.

from cpython.ref cimport PyObject
from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from .crc32 cimport crc32


cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <Python.h>
    #include <endian.h>
    #include <sys/uio.h>

    /* Reading what a bytes object holds needs no lock of the interpreter, while someone keeps it. */
    static inline const char* text_of(PyObject* encoded) { return PyBytes_AS_STRING(encoded); }
    static inline size_t size_of(PyObject* encoded) { return (size_t)PyBytes_GET_SIZE(encoded); }
    """
    const char* text_of(PyObject* encoded) nogil
    size_t size_of(PyObject* encoded) nogil
    uint32_t htole32(uint32_t value) nogil
    uint64_t htole64(uint64_t value) nogil

    struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t pwritev2(int handle, const iovec* parts, int count, int64_t at, int flags) nogil


cdef enum:
    # Of a frame: magic, length, number and time; the CRC follows.
    FIELDS_BYTES = 24
    HEAD_BYTES = 28
    LENGTH_BYTES = 4


cdef struct Entry:
    PyObject* encoded
    int changes
    int holds
    int64_t at_ms


cdef struct FrameFile:
    int handle
    int flags  # of pwritev2
    char magic[4]
    uint32_t seed  # of the CRC
    char* frame  # room for one, malloc'ed
    size_t room


cdef inline int64_t frame_size(const Entry* entries, Py_ssize_t count) noexcept nogil:
    """Bytes of the frame that has these entries."""
    cdef int64_t size = HEAD_BYTES
    cdef Py_ssize_t at
    for at in range(count):
        size += LENGTH_BYTES + size_of(entries[at].encoded)
    return size


cdef inline int write_frame(
    FrameFile* file, uint64_t number, const Entry* entries, Py_ssize_t count, int64_t size, int64_t committed_ms,
    int64_t at,
) noexcept nogil:
    """Write one frame of `frame_size` bytes at byte `at`: 0, or an error number."""
    cdef size_t length, done = 0
    cdef Py_ssize_t which
    cdef uint32_t word
    cdef uint64_t wide
    cdef char* larger
    cdef char* to
    cdef iovec part
    cdef ssize_t written
    if <size_t>size > file.room:
        larger = <char*>realloc(file.frame, size)
        if larger == NULL:
            return ENOMEM
        file.frame, file.room = larger, size
    to = file.frame + HEAD_BYTES
    for which in range(count):
        length = size_of(entries[which].encoded)
        word = htole32(length)
        memcpy(to, &word, LENGTH_BYTES)
        memcpy(to + LENGTH_BYTES, text_of(entries[which].encoded), length)
        to += LENGTH_BYTES + length
    memcpy(file.frame, file.magic, 4)
    word = htole32(size - HEAD_BYTES)
    memcpy(file.frame + 4, &word, 4)
    wide = htole64(number)
    memcpy(file.frame + 8, &wide, 8)
    wide = htole64(committed_ms)
    memcpy(file.frame + 16, &wide, 8)
    word = crc32(<uint8_t*>file.frame, FIELDS_BYTES, file.seed)
    word = htole32(crc32(<uint8_t*>file.frame + HEAD_BYTES, size - HEAD_BYTES, word))
    memcpy(file.frame + FIELDS_BYTES, &word, 4)
    while done < <size_t>size:
        part.iov_base = file.frame + done
        part.iov_len = size - done
        # With RWF_DSYNC one call writes and syncs.
        written = pwritev2(file.handle, &part, 1, at + <int64_t>done, file.flags)
        if written >= 0:
            done += written
        elif errno != EINTR:
            return errno
    return 0

cdef enum:
    # The verdicts, and the most bytes of a head; `http_head.pyi` says what they mean.
    C_OTHER = -1
    C_MORE = 0
    C_HOT = 1
    C_HEAD_MAX = 16384


cdef class HeadScanner:
    # Of the last request that was HOT, as offsets into the data that was scanned
    cdef readonly Py_ssize_t body_start
    cdef readonly Py_ssize_t body_size
    cdef readonly Py_ssize_t signature_start
    cdef readonly Py_ssize_t signature_size  # 0: there was none

    cdef bytes _line  # the whole request line with its CRLF, which owns these bytes:
    cdef const char* _line_bytes
    cdef Py_ssize_t _line_size
    cdef Py_ssize_t _body_max
    cdef const unsigned char* _head  # where the head that is being scanned begins
    cdef unsigned int _seen  # bits of the fields that may come once

    # `scan` for C: `data` is not None, and `start` is within it.
    cdef int look(self, bytes data, Py_ssize_t start) noexcept

    cdef int _scan(self, Py_ssize_t size) noexcept nogil
    cdef bint _takes(
        self, Py_ssize_t name_at, Py_ssize_t name_size, Py_ssize_t value_at, Py_ssize_t value_size
    ) noexcept nogil
    cdef bint _takes_length(self, const unsigned char* digits, Py_ssize_t size) noexcept nogil
    cdef bint _is_first(self, unsigned int field) noexcept nogil

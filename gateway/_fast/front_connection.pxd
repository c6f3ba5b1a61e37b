from .http_head cimport HeadScanner


cdef class Door:
    cdef object _take
    cdef object _is_signed  # None: webhooks need not be signed
    cdef object _answers
    cdef object _unusual
    cdef object _bodies
    cdef object _connections
    cdef object _time
    cdef object _soon
    cdef HeadScanner _scanner
    cdef double _body_timeout_s
    cdef bint _is_draining  # then every request is aiohttp's, which refuses it
    cdef bytes _ok  # the answer to nearly all, until:
    cdef double _ok_stale_at

    cdef bytes _ok_at(self, double now)


cdef class Connection:
    cdef readonly double since
    cdef readonly bint is_choked

    cdef Door _door
    cdef object _transport  # None before and after
    cdef bytes _partial
    cdef bytearray _body  # None: none is under way
    cdef Py_ssize_t _body_size
    cdef bytes _signature  # of that body
    cdef bytes _held
    cdef bint _waits
    cdef bint _closes  # once what it waits for is answered

    # What calling it with a reception of status 200 does, for takers in C.
    cdef int answer_ok(self) except -1

    cdef object _answered(self)
    cdef int _sent(self) except -1
    cdef int _work(self, bytes data) except -1
    cdef int _fill(self, bytes data) except -1
    cdef int _take(self, bytes body, bytes signature) except -1
    cdef int _refuse(self, str why, bint closes) except -1
    cdef bint _is_free(self) except -1
    cdef int _hold(self, bytes data) except -1
    cdef int _hand_off(self, bytes data) except -1

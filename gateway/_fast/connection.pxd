from libc.stdint cimport int64_t

from .exchange cimport Exchange
from .response cimport Response

cdef enum:
    C_PIECE_BYTES = 65536  # of a large body, between looks at whether the server reads it


cdef class BaseConnection:
    cdef BasePool _pool
    cdef object _transport  # None before it is connected and once it is closed
    cdef Exchange _exchange  # what is under way
    cdef object _reader  # of an answer that is not the usual one
    cdef object _rest  # what is still to be written of a large body; None: nothing
    cdef readonly int64_t idle_since_ns
    cdef bint _is_paused
    cdef bint _is_tls

    # Whether it was written; False when certainly none of it was, and this connection is gone.
    cdef bint write(self, Exchange exchange) except -1

    cdef int _read_on(self, Exchange exchange, bytes data) except -1
    cdef int _write_rest(self) except -1
    cdef int _let_go(self, bint can_reuse) except -1
    cdef int _give_up(self, str why) except -1
    cdef int _abort(self) except -1


cdef class BasePool:
    cdef readonly list idle  # the last is used first
    cdef readonly object waiting  # a deque of exchanges
    cdef int64_t _timeout_ns
    cdef int64_t _idle_ns
    cdef int64_t _alarm_ns  # NEVER_NS: it is not set
    cdef object _alarm
    cdef object _loop
    cdef object _clock  # a callable

    # Send `exchange`, whose head is rendered, now or as soon as there is a connection. Not answered before this returns.
    cdef int begin(self, Exchange exchange, int64_t now_ns) except -1
    cdef int64_t now(self) except? -1

    cdef int release(self, BaseConnection connection) except -1

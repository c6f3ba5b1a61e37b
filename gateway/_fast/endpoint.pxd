from libc.stdint cimport int64_t

from .connection cimport BasePool
from .exchange cimport Exchange


cdef class BaseEndpoint:
    cdef readonly BasePool pool
    cdef bytes _start  # request line and the headers of all requests
    cdef bint _is_head_request

    # Send `exchange` with `body`, or (None) without one and without a length. Not answered before this returns.
    cdef int begin(self, Exchange exchange, bytes body, bytes headers, int64_t now_ns) except -1

    # The bytes of a request, with a small body behind its head.
    cdef bytes render(self, bytes body, bytes headers)

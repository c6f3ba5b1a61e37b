"""The header lines of a request with one record in it, written in one go.

They are what `gateway.inbound.stamps` and `gateway.inbound.signature` say where nothing is signed;
`tests/test_fast_stamps.py` compares them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

cimport cython

cdef enum:
    LINES_MAX = 512
    PREFIX_MAX = 128
    SECOND_MAX = 32
    MS_PER_S = 1000


@cython.final
cdef class Stamper:
    def __cinit__(self, bytes id_prefix not None, second_of):
        if PyBytes_GET_SIZE(id_prefix) > PREFIX_MAX:
            raise ValueError(f"id_prefix is {PyBytes_GET_SIZE(id_prefix)} bytes, must be at most {PREFIX_MAX}")
        self._id_prefix = id_prefix
        self._second_of = second_of
        self._second = -1
        self._second_text = b""

    def stamp(self, int64_t seq, int64_t received_ms, int64_t attempts, int64_t wall_ms):
        return self.lines(seq, received_ms, attempts, wall_ms)

    cdef bytes lines(self, int64_t seq, int64_t received_ms, int64_t attempts, int64_t wall_ms):
        cdef char[LINES_MAX] text
        cdef int size
        cdef bytes second
        if received_ms < 0 or wall_ms < 0:
            raise ValueError(f"received_ms is {received_ms} and wall_ms {wall_ms}, must be 0 or more")
        if received_ms // MS_PER_S != self._second:
            # Most of what is forwarded came in the same few seconds.
            second = self._second_of(received_ms // MS_PER_S)
            if PyBytes_GET_SIZE(second) > SECOND_MAX:
                raise ValueError(f"a second is written in {PyBytes_GET_SIZE(second)} bytes, must be at most {SECOND_MAX}")
            self._second, self._second_text = received_ms // MS_PER_S, second
        size = snprintf(
            text,
            LINES_MAX,
            b"X-Gateway-Received: %s.%03dZ\r\nX-Gateway-Age: %lld\r\nX-Gateway-Attempt: %lld\r\n"
            b"webhook-id: %s%lld\r\nwebhook-timestamp: %lld\r\n",
            PyBytes_AS_STRING(self._second_text),
            <int>(received_ms % MS_PER_S),
            # The wall clock may have been set back since.
            <long long>(wall_ms - received_ms if wall_ms > received_ms else 0),
            <long long>attempts + 1,
            PyBytes_AS_STRING(self._id_prefix),
            <long long>seq,
            <long long>(wall_ms // MS_PER_S),
        )
        return PyBytes_FromStringAndSize(text, size)

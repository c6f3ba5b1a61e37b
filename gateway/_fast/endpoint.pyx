"""Where many requests go to, and their heads.

A request is what is the same for all of them, its own headers, its length and its body: four copies into bytes of the
right size. A large body is not copied, but written after its head.

Not done: looking at headers again. `gateway.http.head` has checked them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from .connection cimport C_PIECE_BYTES, BasePool
from .exchange cimport Exchange

cdef enum:
    NAME_SIZE = 16  # "Content-Length: "
    DIGITS_MAX = 19  # of an int64
    END_SIZE = 4  # of its line, and of the head


cdef inline char* put(char* at, const char* what, Py_ssize_t size) noexcept nogil:
    # Copy it there; where the next goes.
    memcpy(at, what, <size_t>size)
    return at + size


cdef inline int digits_of(Py_ssize_t number, char* digits) noexcept nogil:
    # Write them (not negative) at the end of `digits`, which holds DIGITS_MAX; how many they are.
    cdef int count = 0
    while count == 0 or number > 0:
        count += 1
        digits[DIGITS_MAX - count] = <char>(48 + number % 10)
        number //= 10
    return count


cdef class BaseEndpoint:
    def __cinit__(self, BasePool pool not None, bytes start not None, bint is_head_request):
        assert start.endswith(b"\r\n"), "header lines end in CR LF"
        self.pool = pool
        self._start = start
        self._is_head_request = is_head_request

    def start(self, bytes body not None, bytes headers not None, done not None):
        cdef Exchange exchange = Exchange.__new__(Exchange)
        exchange.done = done
        self.begin(exchange, body, headers, self.pool.now())
        return exchange

    def start_exchange(self, Exchange exchange not None, bytes body, bytes headers not None):
        self.begin(exchange, body, headers, self.pool.now())

    cdef int begin(self, Exchange exchange, bytes body, bytes headers, int64_t now_ns) except -1:
        assert not exchange.is_over and exchange.head is None, "an exchange begins once"
        exchange.head = self.render(body, headers)
        if body is not None and PyBytes_GET_SIZE(body) > C_PIECE_BYTES:
            exchange.body = body
        exchange.is_head_request = self._is_head_request
        return self.pool.begin(exchange, now_ns)

    cdef bytes render(self, bytes body, bytes headers):
        cdef Py_ssize_t start_size = PyBytes_GET_SIZE(self._start)
        cdef Py_ssize_t headers_size = PyBytes_GET_SIZE(headers)
        cdef Py_ssize_t length_size = 2
        cdef Py_ssize_t body_size = 0
        cdef int count = 0
        cdef char[DIGITS_MAX] digits
        cdef const char* lines = PyBytes_AS_STRING(headers)
        cdef bytes request
        cdef char* at
        assert headers_size == 0 or (
            headers_size >= 2 and lines[headers_size - 2] == 13 and lines[headers_size - 1] == 10
        ), "header lines end in CR LF"
        if body is not None:
            body_size = PyBytes_GET_SIZE(body)
            count = digits_of(body_size, digits)
            length_size = NAME_SIZE + count + END_SIZE
            if body_size > C_PIECE_BYTES:
                body_size = 0
        request = PyBytes_FromStringAndSize(NULL, start_size + headers_size + length_size + body_size)
        at = put(PyBytes_AS_STRING(request), PyBytes_AS_STRING(self._start), start_size)
        at = put(at, lines, headers_size)
        if body is None:
            put(at, b"\r\n", 2)
            return request
        at = put(at, b"Content-Length: ", NAME_SIZE)
        at = put(at, digits + DIGITS_MAX - count, count)
        at = put(at, b"\r\n\r\n", END_SIZE)
        put(at, PyBytes_AS_STRING(body), body_size)
        return request

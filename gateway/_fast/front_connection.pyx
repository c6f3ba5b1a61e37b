"""One connection on the hot path: ordinary webhooks are taken here, anything else makes it aiohttp's for good.

Requests of a connection are taken one after the other: what comes behind one that has no answer yet is held, and
reading stops. So answers keep their order, the inside sees bodies in the order they came in, and what a connection
holds is bounded by one read. No sender we know pipelines, so nothing is lost by it.

States: idle (nothing held) · an incomplete head (`_partial`) · an incomplete body (`_body`) · waiting for an answer
(`_waits`; `_held` is what came behind it) · choked: the client does not read its answers · handed off.
No task, future or timer is made for a request; times are looked after by `gateway.http.front_table`.

The connection is itself the callable that a taker answers with, so that none is made for a request, and a taker in C
that finds a `Connection` calls `answer_ok` without Python between them. What is seldom, or has words in it, is done by
Python objects that are handed in (`gateway.http.front_unusual`).

Transports keep a connection and it keeps its transport: the collector sees both. It may empty one whose destructors
then call it, hence `nonecheck`: that raises AttributeError, as it does in Python, where C would read from NULL.

Cost: 4,200 instructions and 0.7 us from the bytes to `transport.write`, with a taker in Python that only answers; 2,000
and 0.14 us of it are the head's. The clock is the loop's own: it is what `since` is compared with, and tests set it.

Not done: signatures. `is_signed` costs 3.6 us more, nearly all of it OpenSSL's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.string cimport memchr

cimport cython

from .http_head cimport C_HEAD_MAX, C_HOT, C_MORE, HeadScanner

cdef enum:
    C_IDLE_S = 75
    C_HEAD_TIMEOUT_S = 30
    C_UNREAD_S = 30
    C_UNREAD_MAX_BYTES = 16_384
    LF = 10

IDLE_S = float(C_IDLE_S)
HEAD_TIMEOUT_S = float(C_HEAD_TIMEOUT_S)
UNREAD_S = float(C_UNREAD_S)
UNREAD_MAX_BYTES = C_UNREAD_MAX_BYTES


cdef inline bytes _part(bytes data, Py_ssize_t start, Py_ssize_t end):
    """`data[start:end]`, of bounds that are within it."""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


@cython.final
cdef class Door:
    def __cinit__(
        self,
        take,
        HeadScanner scanner not None,
        is_signed,
        answers,
        unusual,
        bodies,
        double body_timeout_s,
        connections,
        loop,
    ):
        self._take = take
        self._scanner = scanner
        self._is_signed = is_signed
        self._answers = answers
        self._unusual = unusual
        self._bodies = bodies
        self._body_timeout_s = body_timeout_s
        self._connections = connections
        self._time = loop.time
        self._soon = loop.call_soon
        self._ok_stale_at = -INFINITY

    def drain(self):
        self._is_draining = True

    cdef inline bytes _ok_at(self, double now):
        """The bytes of the 200. Python is asked once a second, for their date."""
        if now >= self._ok_stale_at:
            self._ok = self._answers.ok(now)
            self._ok_stale_at = self._answers.stale_at
        return self._ok


@cython.final
@cython.nonecheck(True)
cdef class Connection:
    def __cinit__(self, Door door not None):
        self._door = door
        self._partial = self._signature = self._held = b""

    @property
    def is_idle(self):
        if self._waits or self._partial or self._held or self._body is not None or self._transport is None:
            return False
        return not self._transport.get_write_buffer_size()

    # What the loop calls

    def connection_made(self, transport not None):
        self._transport = transport
        transport.set_write_buffer_limits(C_UNREAD_MAX_BYTES)
        self.since = self._door._time()
        if not self._door._connections.add(self):
            self._refuse("connections", True)

    def connection_lost(self, exc):
        self._transport = None
        self._door._connections.remove(self)
        if self._body is not None:
            self._body = None
            self._door._bodies.release(self._body_size)

    def data_received(self, bytes data not None):
        cdef const char* start
        cdef Py_ssize_t size
        if self._waits or self._held or self.is_choked:
            self._hold(data)
        elif self._body is not None:
            self._fill(data)
        elif self._partial:
            start, size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
            # Scanned again only when a line has ended: at most as often as a head has lines.
            if memchr(start, LF, <size_t>size) != NULL or PyBytes_GET_SIZE(self._partial) + size >= C_HEAD_MAX:
                self._work(self._partial + data)
            else:
                self._partial += data
        else:
            self._work(data)

    def eof_received(self):
        return None  # the transport closes

    def pause_writing(self):
        self.is_choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self):
        self.is_choked = False
        self._go_on()

    # What the table calls

    def expire(self, double now):
        cdef double age = now - self.since
        cdef object transport = self._transport
        if transport is None or self._waits:
            return
        if transport.get_write_buffer_size():
            if age >= C_UNREAD_S:
                transport.abort()
        elif self._body is not None:
            if age >= self._door._body_timeout_s:
                self._refuse("body_slow", True)
        elif self._partial:
            if age >= C_HEAD_TIMEOUT_S:
                self._refuse("head_slow", True)
        elif age >= C_IDLE_S:
            transport.close()

    def close(self):
        self._closes = True
        if self._transport is not None and not self._waits:
            self._transport.close()

    def evict(self):
        self.close()

    def abort(self):
        if self._transport is not None:
            self._transport.abort()

    # What the taker calls: once for each body

    def __call__(self, reception not None):
        cdef double now
        if reception.status == 200:
            self.answer_ok()
        elif self._answered() is not None:
            self.since = now = self._door._time()
            self._transport.write(self._door._unusual.answer(reception, now))
            self._sent()

    cdef int answer_ok(self) except -1:
        cdef double now
        cdef object transport = self._answered()
        if transport is None:
            return 0
        self.since = now = self._door._time()
        transport.write(self._door._ok_at(now))
        return self._sent()

    cdef object _answered(self):
        """No longer wait for an answer. Where it goes to; None when the client has gone: a node repeats."""
        assert self._waits, "answered twice"
        self._waits = False
        return self._transport

    cdef int _sent(self) except -1:
        """Go on behind an answer."""
        if self._closes:
            self.close()
        elif self._held:
            # Not now: the store calls us while it tells of a commit, and what is held may be anything.
            self._door._soon(self._go_on)
        return 0

    cdef int _work(self, bytes data) except -1:
        """Take the requests in `data` one after the other, as far as that goes."""
        cdef Door door = self._door
        cdef HeadScanner scanner = door._scanner
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t body, end
        cdef bytes signature
        cdef int verdict = scanner.look(data, start)
        while verdict == C_HOT and not door._is_draining:
            self._partial = b""
            body = scanner.body_start
            end = body + scanner.body_size
            signature = b""
            if door._is_signed is not None:
                signature = _part(data, scanner.signature_start, scanner.signature_start + scanner.signature_size)
            if end > size:
                if not door._bodies.try_reserve(scanner.body_size):
                    break  # aiohttp refuses it, and reads what still comes
                self._body = bytearray(_part(data, body, size))
                self._body_size = end - body
                self._signature = signature
                self.since = door._time()
                return 0
            # Whoever takes it may answer at once, and other connections may have used the scanner on return.
            self._take(_part(data, body, end), signature)
            if end == size:
                return 0
            if not self._is_free():
                return self._hold(_part(data, end, size))
            start = end
            verdict = scanner.look(data, start)
        data = _part(data, start, size) if start else data
        if verdict != C_MORE:
            return self._hand_off(data)
        if not self._partial:
            self.since = door._time()
        self._partial = data
        return 0

    cdef int _fill(self, bytes data) except -1:
        """More of a body; what is behind it is the next request."""
        cdef bytearray body = self._body
        cdef Py_ssize_t missing = self._body_size - len(body)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if size < missing:
            body += data
            return 0
        body += _part(data, 0, missing)
        self._body = None
        self._door._bodies.release(self._body_size)
        self._take(bytes(body), self._signature)
        if size == missing:
            return 0
        data = _part(data, missing, size)
        return self._work(data) if self._is_free() else self._hold(data)

    cdef int _take(self, bytes body, bytes signature) except -1:
        """Hand a whole body to the inside, which may answer before this returns."""
        cdef Door door = self._door
        if door._is_signed is not None and not door._is_signed(body, signature):
            return self._refuse("signature", False)
        self._waits = True
        door._take(body, self)
        return 0

    cdef int _refuse(self, str why, bint closes) except -1:
        cdef double now
        assert self._transport is not None
        self.since = now = self._door._time()
        self._transport.write(self._door._unusual.refusal(why, now, closes))
        if closes:
            self.close()
        return 0

    cdef bint _is_free(self) except -1:
        """Whether the next request may be looked at."""
        cdef object transport = self._transport
        return not (self._waits or self.is_choked or transport is None or transport.is_closing())

    cdef int _hold(self, bytes data) except -1:
        """Keep what has been read for later, and read no more until then."""
        self._held += data
        if self._transport is not None:
            self._transport.pause_reading()
        return 0

    def _go_on(self):
        cdef bytes held = self._held
        cdef object transport = self._transport
        if transport is None or transport.is_closing() or self.is_choked or (self._waits and held):
            return
        self._held = b""
        transport.resume_reading()
        if held:
            self._work(held)

    cdef int _hand_off(self, bytes data) except -1:
        """Leave the connection, from these bytes on, to aiohttp. All answers of ours are out by now."""
        cdef object transport = self._transport
        assert transport is not None
        assert not self._waits, "handed off with an answer to give"
        if not transport.is_closing():
            self._door._unusual.hand_off(self, transport, data, self._door._time())
        return 0

"""Kept connections and their pool: what each request does, and what it may meet on its way.

A request is one write to the idle connection that was used last; its usual answer arrives whole and is read in one
pass. That costs three calls of the transport and no task, timer or parser object. Anything else has its place here as a
branch to a method of the subclasses in `gateway.http`: an answer in pieces or of another form goes to a reader
(`new_reader`), a request without an idle connection to `find_place`, a deadline to `look_at_deadlines`.

Who holds what: a connection its exchange, from the write to the answer; an exchange its holder, for `cancel`. The end of
an exchange unties both. Each step first puts itself in order and then calls others, for these may begin the next request.

Not done: pipelining, and no second try of a request of which the kernel took bytes (`gateway/http/connection.py`).
"""

from collections import deque

from .answer cimport body_of_whole
from .bounds cimport NEVER_NS, SPAN_NS_MAX, require
from .response cimport unanswered

cdef enum:
    NS_PER_S = 1_000_000_000

PIECE_BYTES = C_PIECE_BYTES


cdef class BaseConnection:
    def __cinit__(self, BasePool pool not None):
        self._pool = pool

    def new_reader(self, bint is_head_request):
        raise NotImplementedError

    @property
    def exchange(self):
        return self._exchange

    def send(self, Exchange exchange not None):
        return self.write(exchange)

    def time_out(self):
        self._give_up("timed out")

    def close(self, str why not None):
        if self._exchange is not None:
            self._give_up(why)
        else:
            self._abort()

    def abandon(self, Exchange _exchange):
        self._exchange = None
        self._abort()

    # -- called by the transport

    def connection_made(self, transport not None):
        self._transport = transport
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        if not self._is_tls:
            # Then transports write at once, and tell us by `pause_writing` when not all of it could be.
            transport.set_write_buffer_limits(0)

    def data_received(self, bytes data not None):
        cdef Exchange exchange = self._exchange
        cdef Py_ssize_t body_at
        cdef int status = 0
        if exchange is None:
            # Nothing was asked: whatever it is, the next answer could be mistaken for it.
            self._abort()
            return
        if self._reader is None and not exchange.is_head_request:
            body_at = body_of_whole(data, &status)
            if body_at >= 0:
                self._exchange = None
                self._let_go(True)
                exchange.settle_whole(status, data, body_at)
                return
        self._read_on(exchange, data)

    def eof_received(self):
        self._give_up("")

    def connection_lost(self, exc):
        self._give_up("" if exc is None else f"{type(exc).__name__}: {exc}")

    def pause_writing(self):
        self._is_paused = True

    def resume_writing(self):
        self._is_paused = False
        self._write_rest()

    # -- its parts

    cdef bint write(self, Exchange exchange) except -1:
        cdef object transport = self._transport
        assert self._exchange is None, "no pipelining"
        if transport is None or transport.is_closing():
            self._pool.forget(self)
            return False
        self._exchange = exchange
        exchange.holder = self
        transport.write(exchange.head)
        # Where the first write fails, the kernel has taken nothing. TLS has layers in between: there we can't know.
        if transport.is_closing() and not self._is_tls:
            self._exchange = None
            exchange.holder = None
            self._pool.forget(self)
            return False
        if exchange.body is not None:
            self._rest = memoryview(exchange.body)
            self._write_rest()
        return True

    cdef int _read_on(self, Exchange exchange, bytes data) except -1:
        cdef object reader = self._reader
        if reader is None:
            reader = self._reader = self.new_reader(exchange.is_head_request)
        if reader.feed(data):
            self._exchange = self._reader = None
            self._let_go(reader.can_reuse)
            exchange.settle(reader.response)
        return 0

    cdef int _write_rest(self) except -1:
        cdef object transport = self._transport
        cdef object piece
        assert transport is not None
        while self._rest is not None and not self._is_paused and not transport.is_closing():
            piece = self._rest[:C_PIECE_BYTES]
            self._rest = self._rest[C_PIECE_BYTES:] or None
            transport.write(piece)
        return 0

    cdef int _let_go(self, bint can_reuse) except -1:
        # An answer to half a request is one; but the other half may not come between it and the next request.
        # What is left of a large body waits only while writing is paused.
        if can_reuse and not self._is_paused:
            self._pool.release(self)
        else:
            self._abort()
        return 0

    cdef int _give_up(self, str why) except -1:
        # It is of no use any more: because of `why`, or (empty) the server has closed it.
        cdef Exchange exchange = self._exchange
        cdef object reader = self._reader
        self._exchange = self._reader = None
        self._abort()
        if exchange is None:
            return 0
        if reader is not None:
            exchange.settle(reader.end(why))
        else:
            exchange.settle(unanswered(why or "the connection was closed without an answer"))
        return 0

    cdef int _abort(self) except -1:
        cdef object transport = self._transport
        self._rest = self._transport = None
        if transport is not None:
            transport.abort()
            self._pool.forget(self)
        return 0


cdef class BasePool:
    def __cinit__(self, *_arguments, **_options):
        self.idle = []
        self.waiting = deque()
        self._alarm_ns = NEVER_NS

    def __init__(self, int64_t timeout_ns, int64_t idle_ns, clock not None, loop not None):
        require("timeout_ns", timeout_ns, 0, SPAN_NS_MAX)
        require("idle_ns", idle_ns, 0, SPAN_NS_MAX)
        self._timeout_ns = timeout_ns
        self._idle_ns = idle_ns
        self._clock = clock
        self._loop = loop

    def find_place(self, Exchange exchange):
        raise NotImplementedError

    def forget(self, BaseConnection connection):
        raise NotImplementedError

    def look_at_deadlines(self, int64_t now_ns):
        raise NotImplementedError

    def now_ns(self):
        return self.now()

    cdef int64_t now(self) except? -1:
        return self._clock()

    cdef int begin(self, Exchange exchange, int64_t now_ns) except -1:
        exchange.deadline_ns = now_ns + self._timeout_ns
        if exchange.deadline_ns < self._alarm_ns:
            self.arm(exchange.deadline_ns)
        while self.idle:
            if (<BaseConnection?>self.idle.pop()).write(exchange):
                return 0
        self.find_place(exchange)
        return 0

    cdef int release(self, BaseConnection connection) except -1:
        if self.waiting:
            # The first one leaves the queue only when it is sent: should this connection be gone, it gets the next.
            if connection.write(<Exchange?>self.waiting[0]):
                self.waiting.popleft()
            return 0
        connection.idle_since_ns = self.now()
        self.idle.append(connection)
        if connection.idle_since_ns + self._idle_ns < self._alarm_ns:
            self.arm(connection.idle_since_ns + self._idle_ns)
        return 0

    # -- time

    def arm(self, int64_t at_ns):
        if at_ns >= self._alarm_ns:
            return
        self.disarm()
        self._alarm_ns = at_ns
        self._alarm = self._loop.call_later(max(0, at_ns - self.now()) / <double>NS_PER_S, self._ring)

    def disarm(self):
        if self._alarm is not None:
            self._alarm.cancel()

    def _ring(self):
        self._alarm = None
        self._alarm_ns = NEVER_NS
        self.look_at_deadlines(self.now())

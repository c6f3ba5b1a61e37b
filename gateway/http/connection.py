"""A connection to a server: one request at a time, and its answer.

The usual answer arrives whole, is read in one call (`_fast.answer`) and costs no task, timer or parser object.
Anything else goes to an `AnswerReader`. The write buffer's limit is 0, so that transports write at once and tell us
by `pause_writing` when not all of it could be.

Not done: pipelining. And no second try of a request of which the kernel took bytes, even where the server closed a
kept connection without a word, which RFC 9112 9.3.1 allows for idempotent requests only. Ours are POSTs that
make people's phones ring. It stays rare: an idle connection that the server closes leaves the pool at once.
"""

import asyncio
from typing import Final, Protocol, cast

from gateway._fast.answer import whole_answer
from gateway.http.answer import AnswerReader
from gateway.http.exchange import Exchange
from gateway.http.response import Response, unanswered

PIECE_BYTES: Final = 64 << 10
"""Of a large body, between looks at whether the server reads it; up to this, head and body are one write."""

_TLS: Final = "sslcontext"


class Owner(Protocol):
    """The pool, as its connections see it."""

    def release(self, connection: "Connection") -> None:
        """It is ready for the next request."""

    def forget(self, connection: "Connection") -> None:
        """It is closed. Called at least once, unless it never came to be used."""


class Connection(asyncio.Protocol):
    """Owned by a pool."""

    __slots__ = (
        "_exchange",
        "_is_paused",
        "_is_tls",
        "_owner",
        "_reader",
        "_rest",
        "_transport",
        "idle_since_ns",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._reader: AnswerReader | None = None
        self._rest = memoryview(b"")
        """What is still to be written of a large body."""
        self._is_paused = False
        self._is_tls = False
        self.idle_since_ns = 0

    @property
    def exchange(self) -> Exchange | None:
        """What is under way here."""
        return self._exchange

    def send(self, exchange: Exchange) -> bool:
        """Write a request; False when certainly none of it was, and this connection is gone."""
        transport = self._transport
        assert self._exchange is None, "no pipelining"
        if transport is None or transport.is_closing():
            self._owner.forget(self)
            return False
        self._exchange = exchange
        exchange.holder = self
        transport.write(exchange.head)
        # Where the first write fails, the kernel has taken nothing. TLS has layers in between: there we can't know.
        if transport.is_closing() and not self._is_tls:
            self._exchange = exchange.holder = None
            self._owner.forget(self)
            return False
        if exchange.body:
            self._rest = memoryview(exchange.body)
            self._write_rest()
        return True

    def time_out(self) -> None:
        """The time of what is under way has run out."""
        self._give_up("timed out")

    def close(self, why: str) -> None:
        """Close it; what is under way ends with `why`."""
        if self._exchange is not None:
            self._give_up(why)
        else:
            self._abort()

    def abandon(self, _exchange: Exchange) -> None:
        """Close it: the answer that nobody waits for must not become the next one's."""
        self._exchange = None
        self._abort()

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's have all the methods, and another base.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._is_tls = transport.get_extra_info(_TLS) is not None
        if not self._is_tls:
            transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Nothing was asked: whatever it is, the next answer could be mistaken for it.
            self._abort()
            return
        reader = self._reader
        if reader is None:
            found = None if exchange.is_head_request else whole_answer(data)
            if found is not None:
                status, body_at = found
                self._finish(exchange, Response(status, data[:body_at], data[body_at:]), True)
                return
            reader = self._reader = AnswerReader(is_head_request=exchange.is_head_request)
        if reader.feed(data):
            assert reader.response is not None
            self._finish(exchange, reader.response, reader.can_reuse)

    def eof_received(self) -> None:
        self._give_up("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up("" if exc is None else f"{type(exc).__name__}: {exc}")

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write_rest()

    # -- its parts

    def _write_rest(self) -> None:
        transport = self._transport
        assert transport is not None
        while self._rest and not self._is_paused and not transport.is_closing():
            piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
            transport.write(piece)

    def _finish(self, exchange: Exchange, response: Response, can_reuse: bool) -> None:
        self._exchange = self._reader = None
        # An answer to half a request is one; but the other half may not come between it and the next request.
        # What is left of a large body waits only while writing is paused.
        if can_reuse and not self._is_paused:
            self._owner.release(self)
        else:
            self._abort()
        exchange.settle(response)

    def _give_up(self, why: str) -> None:
        """The connection is of no use any more: because of `why`, or (empty) the server has closed it."""
        exchange, reader = self._exchange, self._reader
        self._exchange = self._reader = None
        self._abort()
        if exchange is None:
            return
        if reader is not None:
            exchange.settle(reader.end(why))
        else:
            exchange.settle(unanswered(why or "the connection was closed without an answer"))

    def _abort(self) -> None:
        self._rest = memoryview(b"")
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._owner.forget(self)

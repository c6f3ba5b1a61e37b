"""Kept connections and their pool: what each request does, and nothing that is rare."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, Self

from typing_extensions import disjoint_base

from gateway._fast.exchange import Exchange
from gateway._fast.response import Response

PIECE_BYTES: Final = 65536
"""Of a large body, between looks at whether the server reads it; up to this, head and body are one write."""

class _Reader(Protocol):
    """Takes the bytes of one answer, whatever it looks like."""

    @property
    def response(self) -> Response | None: ...
    @property
    def can_reuse(self) -> bool: ...
    def feed(self, data: bytes, /) -> bool: ...
    def end(self, error: str, /) -> Response: ...

@disjoint_base
class BaseConnection:
    """A connection to a server, as an `asyncio.Protocol` and as its pool see it."""

    def __new__(cls, pool: BasePool) -> Self:
        """For `pool`, which is told when it is free and when it is gone."""

    def new_reader(self, is_head_request: bool) -> _Reader:
        """To be overridden: what reads an answer that is not the usual one."""

    @property
    def exchange(self) -> Exchange | None:
        """What is under way here."""

    @property
    def idle_since_ns(self) -> int:
        """When it was last released; 0 before."""

    def send(self, exchange: Exchange) -> bool:
        """Write a request; False when certainly none of it was, and this connection is gone."""

    def time_out(self) -> None:
        """The time of what is under way has run out."""

    def close(self, why: str) -> None:
        """Close it; what is under way ends with `why`."""

    def abandon(self, _exchange: Exchange) -> None:
        """Close it: the answer that nobody waits for must not become the next one's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport, as are those that follow; see `asyncio.Protocol`."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

@disjoint_base
class BasePool:
    """Idle connections, who waits for one, and the timer of all deadlines.

    Connections call `forget` when they are closed: at least once, unless they never came to be used.
    """

    def __init__(
        self,
        timeout_ns: int,
        idle_ns: int,
        clock: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """A request has `timeout_ns`, and an idle connection is kept for `idle_ns` (0 to 10**18, else ValueError).

        `clock()` is the time in nanoseconds, as `time.monotonic_ns`.
        """

    @property
    def idle(self) -> list[BaseConnection]:
        """Connections that do nothing; the last is used first."""

    @property
    def waiting(self) -> deque[Exchange]:
        """Who waits for a connection, in order."""

    def now_ns(self) -> int:
        """By the clock."""

    def find_place(self, exchange: Exchange) -> None:
        """To be overridden: there is no idle connection for `exchange`."""

    def forget(self, connection: BaseConnection) -> None:
        """To be overridden: it is closed."""

    def look_at_deadlines(self, now_ns: int) -> None:
        """To be overridden: end what is late, and `arm` for when the next may be."""

    def arm(self, at_ns: int) -> None:
        """Look at the deadlines then, unless that is due earlier already."""

    def disarm(self) -> None:
        """Look at them no more, and not before those that were due if anything begins all the same."""

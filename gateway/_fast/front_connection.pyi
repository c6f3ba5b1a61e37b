"""One connection on the hot path: ordinary webhooks are taken here, anything else makes it aiohttp's for good."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, Self, final

from gateway._fast.http_head import HeadScanner

IDLE_S: Final = 75.0
"""For a connection on which nothing is under way, as nginx's default; on aiohttp's side too."""

HEAD_TIMEOUT_S: Final = 30.0
"""From a head's first byte to its last."""

UNREAD_S: Final = 30.0
"""For a client to take its answers."""

UNREAD_MAX_BYTES: Final = 16384
"""Of answers that a client does not take: then no more is read from it. TLS's own limit would be 512 KiB."""

class _Reception(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...

class _Answers(Protocol):
    @property
    def stale_at(self) -> float: ...
    def ok(self, now: float) -> bytes: ...

class _Unusual(Protocol):
    def answer(self, reception: _Reception, now: float) -> bytes: ...
    def refusal(self, why: str, now: float, closes: bool) -> bytes: ...
    def hand_off(
        self, connection: Connection, transport: asyncio.Transport, data: bytes, now: float
    ) -> None: ...

class _Bodies(Protocol):
    def try_reserve(self, size: int) -> bool: ...
    def release(self, size: int) -> None: ...

class _Connections(Protocol):
    def add(self, guest: Connection) -> bool: ...
    def remove(self, guest: Connection) -> None: ...

@final
class Door:
    """What the connections of a listener share."""

    def __new__(
        cls,
        take: Callable[[bytes, Callable[[_Reception], None]], None],
        scanner: HeadScanner,
        is_signed: Callable[[bytes, bytes], bool] | None,
        answers: _Answers,
        unusual: _Unusual,
        bodies: _Bodies,
        body_timeout_s: float,
        connections: _Connections,
        loop: asyncio.AbstractEventLoop,
    ) -> Self:
        """`take` is given webhooks, each with what is called once to answer it: a `Connection`.

        `is_signed(body, signature)` says which of them are taken; None: all are.
        `answers.ok(now)` is sent for status 200, and asked for again when the loop's time has come to `answers.stale_at`.
        `unusual` makes the bytes of any other answer, and makes a connection aiohttp's.
        `bodies` bounds those that do not come in one read, and `body_timeout_s` their time.
        """

    def drain(self) -> None:
        """Leave every request from now on to aiohttp, which refuses it."""

@final
class Connection:
    """One connection, from its begin to its end or until it is handed off: an `asyncio.Protocol`, by its methods.

    Called with a reception, it answers the body that was taken last; AssertionError if it has been answered.
    """

    def __new__(cls, door: Door) -> Self:
        """To be given to a transport."""

    def __call__(self, reception: _Reception) -> None:
        """Answer. Nothing happens if the client has gone."""

    @property
    def since(self) -> float:
        """When it last began to be idle, or to wait for bytes; the loop's time."""

    @property
    def is_idle(self) -> bool:
        """Whether closing it now cuts nothing off."""

    @property
    def is_choked(self) -> bool:
        """Whether its client does not take its answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins; refused at once when there are too many."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended. What was not taken yet is forgotten."""

    def data_received(self, data: bytes) -> None:
        """Take the requests in `data`, or keep what it has of one."""

    def eof_received(self) -> None:
        """The client sends no more: the transport closes."""

    def pause_writing(self) -> None:
        """Read no more: the client does not take its answers."""

    def resume_writing(self) -> None:
        """Go on: it has taken them."""

    def expire(self, now: float) -> None:
        """End it if a head, a body, a reader or the next request has taken too long. An answer takes what it takes."""

    def close(self) -> None:
        """Close it when what it waits for is answered: at once if it waits for nothing."""

    def evict(self) -> None:
        """Close it, idle as it is."""

    def abort(self) -> None:
        """Close it now, whatever is unsent."""

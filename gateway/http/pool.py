"""Connections to one origin: who gets one, who waits for one, and how long anything may take.

Idle connections are used last in, first out, so that those a lull leaves over grow old and are closed.
One timer serves all deadlines. It is armed for the earliest, at most once in the length of a time-out, and not at
all when nothing is under way and nothing idles: then the process sleeps.

The usual request, on a connection that idles, is `_fast.connection`'s alone.
"""

import asyncio
from typing import Final

from gateway._fast.connection import BaseConnection, BasePool
from gateway._fast.exchange import Exchange
from gateway._fast.response import unsent
from gateway.clock import NS_PER_S, Clock
from gateway.http.connect import Connector
from gateway.http.connection import Connection
from gateway.http.target import Origin

CONNECT_SHARE: Final = 0.8
"""Of the time-out, for connecting: a connection that never comes about is told apart from a silent server."""

IDLE_NS: Final = 60 * NS_PER_S
"""How long an unused connection is kept."""

CLOSED: Final = "the client was closed"


class Dial:
    """A connection that is being made for one exchange."""

    __slots__ = ("exchange", "task")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.held_by(self)
        self.task: asyncio.Task[None] | None = None

    def abandon(self, _exchange: Exchange) -> None:
        """Stop connecting."""
        assert self.task is not None
        self.task.cancel()

    def fail(self, why: str) -> None:
        """Give the exchange its end, unless its caller wants none any more."""
        _fail_unless_over(self.exchange, why)


class Pool(BasePool):
    """At most `limit` connections, those being made among them."""

    def __init__(
        self, origin: Origin, limit: int, timeout_ns: int, connector: Connector, clock: Clock
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(timeout_ns, IDLE_NS, clock.now_ns, loop)
        self._origin = origin
        self._limit = limit
        self._timeout_ns = timeout_ns
        self._connector = connector
        self._loop = loop
        self._connections: set[BaseConnection] = set()
        self._dials: set[Dial] = set()
        self._is_closed = False

    def find_place(self, exchange: Exchange) -> None:
        """Make a connection for it, or let it wait for one."""
        if self._is_closed:
            self._loop.call_soon(_fail_unless_over, exchange, CLOSED)
        elif self._open_count() < self._limit:
            self._dial(exchange)
        else:
            exchange.held_by(self)
            self.waiting.append(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """Take one that waits out of the queue."""
        self.waiting.remove(exchange)

    def statistics(self) -> dict[str, int]:
        """Connections in use, idle and being made, and requests that wait for one."""
        idle, dials = len(self.idle), len(self._dials)
        in_use = len(self._connections) - idle
        return {"in_use": in_use, "idle": idle, "connecting": dials, "waiting": len(self.waiting)}

    async def close(self) -> None:
        """Close all connections. What is under way ends with an error."""
        self._is_closed = True
        self.disarm()
        while self.waiting:
            self.waiting.popleft().settle(unsent(CLOSED))
        # One that has just come about is a connection already, with a request that was sent.
        dials = [dial for dial in self._dials if dial.task is not None and not dial.task.done()]
        for dial in dials:
            dial.abandon(dial.exchange)
            dial.fail(CLOSED)
        for connection in list(self._connections):
            connection.close(CLOSED)
        await asyncio.gather(*(dial.task for dial in dials if dial.task), return_exceptions=True)
        # Transports tell of their end in the loop's next round.
        await asyncio.sleep(0)

    def forget(self, connection: BaseConnection) -> None:
        """It is closed."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self.idle:
                self.idle.remove(connection)
            self._use_room()

    # -- connecting

    def _open_count(self) -> int:
        return len(self._connections) + len(self._dials)

    def _use_room(self) -> None:
        """A place is free: the first who waits gets it."""
        if self.waiting and not self._is_closed and self._open_count() < self._limit:
            self._dial(self.waiting.popleft())

    def _dial(self, exchange: Exchange) -> None:
        left_ns = exchange.deadline_ns - self.now_ns()
        timeout_s = min(left_ns, int(self._timeout_ns * CONNECT_SHARE)) / NS_PER_S
        dial = Dial(exchange)
        self._dials.add(dial)
        dial.task = self._loop.create_task(self._connect(dial, timeout_s), name=f"connect to {self._origin}")
        dial.task.add_done_callback(lambda _task: self._dialled(dial))

    async def _connect(self, dial: Dial, timeout_s: float) -> None:
        """Make a connection for the exchange of `dial`, and send it there."""
        try:
            connection = await self._connector.connect(self._origin, lambda: Connection(self), timeout_s)
        except (OSError, ValueError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            dial.fail(f"cannot connect to {self._origin}: {reason}")
        else:
            self._connections.add(connection)
            assert not dial.exchange.is_over, "who cancels it cancels us"
            deadline_ns = dial.exchange.deadline_ns
            if not connection.send(dial.exchange):
                dial.fail(f"cannot connect to {self._origin}: closed at once")
            else:
                self.arm(deadline_ns)  # a look at the deadlines meanwhile did not see it

    def _dialled(self, dial: Dial) -> None:
        """Also of one that was cancelled before it began."""
        self._dials.discard(dial)
        self._use_room()

    # -- time

    def look_at_deadlines(self, now_ns: int) -> None:
        """End what is late, and be called again when the next may be."""
        later_ns = []
        # They came in the order of their deadlines, and after those who hold the places they wait for. So what is
        # under way, here or in dials with time-outs of their own, calls us in time for them, too.
        while self.waiting and self.waiting[0].deadline_ns <= now_ns:
            self.waiting.popleft().settle(unsent("timed out: no free connection"))
        for connection in list(self._connections):
            exchange = connection.exchange
            at_ns = connection.idle_since_ns + IDLE_NS if exchange is None else exchange.deadline_ns
            if at_ns > now_ns:
                later_ns.append(at_ns)
            elif exchange is None:
                connection.close("")
            else:
                connection.time_out()
        if later_ns:
            self.arm(min(later_ns))


def _fail_unless_over(exchange: Exchange, why: str) -> None:
    if not exchange.is_over:
        exchange.settle(unsent(why))

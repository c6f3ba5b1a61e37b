"""Connections to one origin: who gets one, who waits for one, and how long anything may take.

Idle connections are used last in, first out, so that those a lull leaves over grow old and are closed.
One timer serves all deadlines. It is armed for the earliest, at most once in the length of a time-out, and not at
all when nothing is under way and nothing idles: then the process sleeps.
"""

import asyncio
from collections import deque
from typing import Final

from gateway.clock import NS_PER_S, Clock
from gateway.http.connect import Connector
from gateway.http.connection import Connection
from gateway.http.exchange import Done, Exchange
from gateway.http.response import unsent
from gateway.http.target import Origin

CONNECT_SHARE: Final = 0.8
"""Of the time-out, for connecting: a connection that never comes about is told apart from a silent server."""

IDLE_NS: Final = 60 * NS_PER_S
"""How long an unused connection is kept."""

_NEVER_NS: Final = 1 << 62

CLOSED: Final = "the client was closed"


class Dial:
    """A connection that is being made for one exchange."""

    __slots__ = ("exchange", "task")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.holder = self
        self.task: asyncio.Task[None] | None = None

    def abandon(self, _exchange: Exchange) -> None:
        """Stop connecting."""
        assert self.task is not None
        self.task.cancel()

    def fail(self, why: str) -> None:
        """Give the exchange its end, unless its caller wants none any more."""
        _fail_unless_over(self.exchange, why)


class Pool:
    """At most `limit` connections, those being made among them."""

    def __init__(
        self, origin: Origin, limit: int, timeout_ns: int, connector: Connector, clock: Clock
    ) -> None:
        self._origin = origin
        self._limit = limit
        self._timeout_ns = timeout_ns
        self._connector = connector
        self._now_ns = clock.now_ns
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._dials: set[Dial] = set()
        self._waiting: deque[Exchange] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = _NEVER_NS
        self._is_closed = False

    def start(self, head: bytes, body: bytes, done: Done, is_head_request: bool) -> Exchange:
        """Send a request, now or as soon as there is a connection. It is not answered before this returns.

        `head` may have a small body behind it already; then `body` is empty.
        """
        deadline_ns = self._now_ns() + self._timeout_ns
        exchange = Exchange(head, body, deadline_ns, done, is_head_request)
        if deadline_ns < self._alarm_ns:
            self._arm(deadline_ns)
        while self._idle:
            if self._idle.pop().send(exchange):
                return exchange
        if self._is_closed:
            self._loop.call_soon(_fail_unless_over, exchange, CLOSED)
        elif self._open_count() < self._limit:
            self._dial(exchange)
        else:
            exchange.holder = self
            self._waiting.append(exchange)
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """Take one that waits out of the queue."""
        self._waiting.remove(exchange)

    def statistics(self) -> dict[str, int]:
        """Connections in use, idle and being made, and requests that wait for one."""
        idle, dials = len(self._idle), len(self._dials)
        in_use = len(self._connections) - idle
        return {"in_use": in_use, "idle": idle, "connecting": dials, "waiting": len(self._waiting)}

    async def close(self) -> None:
        """Close all connections. What is under way ends with an error."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        while self._waiting:
            self._waiting.popleft().settle(unsent(CLOSED))
        dials = list(self._dials)
        for dial in dials:
            dial.abandon(dial.exchange)
            dial.fail(CLOSED)
        for connection in list(self._connections):
            connection.close(CLOSED)
        await asyncio.gather(*(dial.task for dial in dials if dial.task), return_exceptions=True)
        # Transports tell of their end in the loop's next round.
        await asyncio.sleep(0)

    # -- called by connections

    def release(self, connection: Connection) -> None:
        """It is ready for the next request."""
        if self._waiting:
            # The first one leaves the queue only when it is sent: should this connection be gone, it gets the next.
            if connection.send(self._waiting[0]):
                self._waiting.popleft()
            return
        connection.idle_since_ns = now_ns = self._now_ns()
        self._idle.append(connection)
        if now_ns + IDLE_NS < self._alarm_ns:
            self._arm(now_ns + IDLE_NS)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._use_room()

    # -- connecting

    def _open_count(self) -> int:
        return len(self._connections) + len(self._dials)

    def _use_room(self) -> None:
        """A place is free: the first who waits gets it."""
        if self._waiting and not self._is_closed and self._open_count() < self._limit:
            self._dial(self._waiting.popleft())

    def _dial(self, exchange: Exchange) -> None:
        left_ns = exchange.deadline_ns - self._now_ns()
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
            elif deadline_ns < self._alarm_ns:
                self._arm(deadline_ns)  # a look at the deadlines meanwhile did not see it

    def _dialled(self, dial: Dial) -> None:
        """Also of one that was cancelled before it began."""
        self._dials.discard(dial)
        self._use_room()

    # -- time

    def _arm(self, at_ns: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ns = at_ns
        delay_s = max(0, at_ns - self._now_ns()) / NS_PER_S
        self._alarm = self._loop.call_later(delay_s, self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        """End what is late, and be called again when the next may be."""
        self._alarm, self._alarm_ns = None, _NEVER_NS
        now_ns = self._now_ns()
        next_ns = _NEVER_NS
        # They came in the order of their deadlines, and after those who hold the places they wait for. So what is
        # under way, here or in dials with time-outs of their own, calls us in time for them, too.
        while self._waiting and self._waiting[0].deadline_ns <= now_ns:
            self._waiting.popleft().settle(unsent("timed out: no free connection"))
        for connection in list(self._connections):
            exchange = connection.exchange
            at_ns = connection.idle_since_ns + IDLE_NS if exchange is None else exchange.deadline_ns
            if at_ns > now_ns:
                next_ns = min(next_ns, at_ns)
            elif exchange is None:
                connection.close("")
            else:
                connection.time_out()
        if next_ns < self._alarm_ns:
            self._arm(next_ns)


def _fail_unless_over(exchange: Exchange, why: str) -> None:
    if not exchange.is_over:
        exchange.settle(unsent(why))

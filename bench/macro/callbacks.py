"""The node's callbacks as a load: its queue and its 6 to 24 connections, lean enough to keep a gateway busy.

The queue, its order and its retries are the simulated node's (`gateway.sim.callbackqueue`); the HTTP is raw, because
that node's client costs as much CPU as the gateway it is to measure. A callback that is not answered 200, or not at
all, waits 3 s, 6 s ... and goes again, as Coreapp does it.
"""

import asyncio
import random
from collections import Counter
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
import orjson

from gateway.clock import NS_PER_S, SystemClock
from gateway.sim.callbackqueue import CallbackQueue, Delivery
from gateway.sim.faults import Faults
from gateway.sim.journal import Callback
from gateway.sim.settings import Settings

QUEUE_MAX: Final = 2_000_000
"""Of events; the real one ends at 100,000, and then the node refuses sends. Here it is to be seen how long it gets."""
TIMEOUT_S: Final = 10.0


class _Connection(asyncio.Protocol):
    """One callback at a time; idle in between."""

    def __init__(self, owner: "CallbackLoad") -> None:
        self._owner = owner
        self._delivery: Delivery | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._parser = httptools.HttpResponseParser(self)
        self._owner.idle.append(self)

    def send(self, delivery: Delivery) -> None:
        self._delivery = delivery
        body = _body(delivery)
        self._transport.write(self._owner.head % len(body) + body)
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        keeps = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        self._end("" if status == 200 else str(status))
        if keeps:
            self._owner.idle.append(self)
            self._owner.dispatch()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        self._end("connection")
        self._owner.lost(self)

    def _end(self, reason: str) -> None:
        delivery, self._delivery = self._delivery, None
        if self._timer is not None:
            self._timer.cancel()
        if delivery is not None:
            self._owner.settle(delivery, reason)


class CallbackLoad:
    """The queue of one node and the connections that empty it. `open` it, then `offer`."""

    def __init__(self, url: str, connections: int = 24, seed: int = 0) -> None:
        """`url` is the webhook's."""
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        assert parts.port is not None, url
        self._host, self._port = parts.hostname, parts.port
        self.head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n"
        ).encode()
        self._connections = connections
        self._clock = SystemClock()
        rng = random.Random(f"{seed} callbacks")
        self.queue = CallbackQueue(Settings(url), Faults(), rng, queue_max=QUEUE_MAX)
        self.idle: list[_Connection] = []
        self.queue_max = 0
        """Most events that waited since somebody set it to 0: for a connection, or for their next attempt."""
        self.acked = 0
        self.reasons: Counter[str] = Counter()
        """Attempts that were not answered 200, by status; `connection` for no answer."""
        self.ack_ms: list[float] = []
        """From when a callback was made to its 200."""
        self._retry: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._reopening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        for _ in range(self._connections):
            await self._connect()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        self.dispatch()

    def close(self) -> None:
        """Let go of all connections; what waits is forgotten."""
        self._is_closing = True
        if self._retry is not None:
            self._retry.cancel()
        for connection in self.idle:
            connection._transport.close()  # noqa: SLF001  (both are of this file)

    def offer(self, callback: Callback) -> None:
        """One event happens now."""
        entered = self.queue.try_put(callback)
        assert entered, "the queue of the load is full"
        self.dispatch()
        self.queue_max = max(self.queue_max, len(self.queue))

    @property
    def waiting(self) -> int:
        """Events that wait for a connection or for their next attempt."""
        return len(self.queue)

    def dispatch(self) -> None:
        """Give work to whoever is idle."""
        now_ns = self._clock.now_ns()
        while self.idle and (delivery := self.queue.take(now_ns)):
            self.idle.pop().send(delivery)
        due_ns = self.queue.next_ns()
        if due_ns is not None and self.idle and self._retry is None:
            delay_s = max(0.001, (due_ns - now_ns) / NS_PER_S)
            self._retry = asyncio.get_running_loop().call_later(delay_s, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self.dispatch()

    def settle(self, delivery: Delivery, reason: str) -> None:
        """An attempt has ended."""
        now_ns = self._clock.now_ns()
        delivery.attempts += 1
        if reason:
            self.reasons[reason] += 1
            self.queue.put_back(delivery, now_ns)
            self.queue_max = max(self.queue_max, len(self.queue))
            return
        for callback in delivery.callbacks:
            self.acked += 1
            callback.acked_ns = now_ns
            self.ack_ms.append((now_ns - callback.made_ns) / 1e6)

    def lost(self, connection: _Connection) -> None:
        """A connection has ended: open another."""
        if connection in self.idle:
            self.idle.remove(connection)
        if not self._is_closing:
            task = asyncio.ensure_future(self._reconnect())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    async def _reconnect(self) -> None:
        while not self._is_closing:
            try:
                await self._connect()
                break
            except OSError:
                await asyncio.sleep(0.1)


def _body(delivery: Delivery) -> bytes:
    """The arrays of one callback: `contacts` beside the messages that have one."""
    contacts = [callback.contact for callback in delivery.callbacks if callback.contact]
    body = {"contacts": contacts} if contacts else {}
    body[delivery.callbacks[0].array] = [callback.item for callback in delivery.callbacks]
    return orjson.dumps(body)

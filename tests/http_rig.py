"""A network in memory for the HTTP client: its connections are wires whose other end the test holds.

On the loop of `virtual_time` a test owns time, too.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from virtual_time import run_virtual, virtual_loop

from gateway._fast.exchange import Exchange
from gateway._fast.response import Response
from gateway.http.client import Endpoint, HttpClient
from gateway.http.target import Origin

P = TypeVar("P", bound=asyncio.Protocol)
T = TypeVar("T")

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TIMEOUT_S = 10.0
URL = "http://backend.test/hook"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire(asyncio.Transport):
    """One connection. What is written counts as taken by the kernel as far as `room` reaches; the rest waits."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.taken = b""
        self.waiting = b""
        self.room: int | None = None
        """Bytes that are still taken; None for no limit."""
        self.is_broken = False
        """Whether a write fails before a byte is taken."""
        self.tls: ssl.SSLContext | None = None
        self._is_closing = False

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.tls if name == "sslcontext" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "the client wants to know of each byte that is not taken"

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._is_closing
        if self.is_broken:
            self._lose(ConnectionResetError("reset"))
            return
        self.waiting += bytes(data)
        self._take()
        if self.waiting:
            self.protocol.pause_writing()

    def abort(self) -> None:
        self._lose(None)

    def _take(self) -> None:
        count = len(self.waiting) if self.room is None else min(self.room, len(self.waiting))
        self.taken, self.waiting = self.taken + self.waiting[:count], self.waiting[count:]
        if self.room is not None:
            self.room -= count

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    # -- the other end

    def say(self, data: bytes) -> None:
        """Send `data`."""
        assert not self._is_closing
        self.protocol.data_received(data)

    def hang_up(self) -> None:
        """Close: the client sees the end of what was sent."""
        if not self._is_closing and not self.protocol.eof_received():
            self._lose(None)

    def reset(self) -> None:
        """Close so that the client sees an error."""
        self._lose(ConnectionResetError("reset"))

    def give_room(self, count: int | None) -> None:
        """Take `count` bytes more; None for all."""
        self.room = count
        self._take()
        if not self.waiting and not self._is_closing:
            self.protocol.resume_writing()


class Network:
    """Makes wires. With `gate` cleared, connections wait for it."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.dialled = 0
        self.error: Exception | None = None
        self.prepare: Callable[[Wire], None] = lambda wire: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def connect(self, origin: Origin, factory: Callable[[], P], timeout_s: float) -> P:
        self.dialled += 1
        async with asyncio.timeout(timeout_s):
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        protocol = factory()
        wire = Wire(protocol)
        self.prepare(wire)
        self.wires.append(wire)
        protocol.connection_made(wire)
        return protocol

    @property
    def open_wires(self) -> list[Wire]:
        return [wire for wire in self.wires if not wire.is_closing()]


class Rig:
    """A client on that network, one endpoint of it, and the answers by the number of the request."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        self.network = Network()
        self.http = HttpClient(
            int(timeout_s * 1000), connections, NO_TLS, clock=virtual_loop(), connector=self.network
        )
        self.endpoint: Endpoint = self.http.endpoint("POST", URL, {})
        self.answers: dict[int, Response] = {}
        self._started = 0

    def statistics(self) -> dict[str, int]:
        """Of the endpoint's pool."""
        return next(iter(self.http._pools.values())).statistics()

    @property
    def wire(self) -> Wire:
        """The newest."""
        return self.network.wires[-1]

    def start(self, body: bytes = b"body", endpoint: Endpoint | None = None) -> Exchange:
        """Begin a request; its answer goes to `answers`, once."""
        number, self._started = self._started, self._started + 1

        def done(response: Response) -> None:
            assert number not in self.answers
            self.answers[number] = response

        return (endpoint or self.endpoint).start(body, b"", done)

    async def sent(self, body: bytes = b"body", endpoint: Endpoint | None = None) -> Wire:
        """Begin a request and let it be sent on a wire, which this is."""
        taken = {wire: len(wire.taken) for wire in self.network.wires}
        self.start(body, endpoint)
        await settle()
        [wire] = [wire for wire in self.network.wires if len(wire.taken) > taken.get(wire, 0)]
        return wire


def told(response: Response) -> tuple[int | None, bytes, bool]:
    """Status, body, and whether anything may have been sent."""
    return response.status, response.body, response.was_sent


async def settle() -> None:
    """Let all run that is ready; no time passes."""
    for _ in range(10):
        await asyncio.sleep(0)


def play(
    story: Callable[[Rig], Coroutine[Any, Any, T]], *, connections: int = 4, timeout_s: float = TIMEOUT_S
) -> T:
    """Run `story` with a rig in virtual time, and close the rig's client."""

    async def run() -> T:
        rig = Rig(connections, timeout_s)
        try:
            return await story(rig)
        finally:
            await rig.http.close()
            assert rig.network.open_wires == []

    return run_virtual(run())

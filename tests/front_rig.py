"""The ingest listener twice, hot front and bare aiohttp, on wires in memory and in simulated time."""

import asyncio
import codecs
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web
from virtual_time import VirtualLoop, virtual_loop

from gateway._fast.front_connection import IDLE_S
from gateway.clock import SystemClock
from gateway.http.front import Front
from gateway.http.front_answers import Reception
from gateway.http.ingest import Ingest

BODY_MAX: Final = 4096
HEAD: Final = b"POST /webhook HTTP/1.1\r\nHost: gw\r\n"
END: Final = b'\r\n\r\n{"a":1}'
VERIFY_TOKEN: Final = "verify"
INSTANT_S: Final = 1e-4
"""Time that passes only when nothing is left to do."""


def webhook(body: bytes, *fields: bytes) -> bytes:
    """An ordinary request."""
    lines = [b"POST /webhook HTTP/1.1", b"Host: gw", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def corpus() -> dict[str, dict[str, bytes]]:
    """`ordinary` and `unusual` requests by name."""
    sections: dict[str, dict[str, bytes]] = {}
    for line in (Path(__file__).parent / "data" / "http" / "requests.txt").read_text().splitlines():
        if line.startswith("== "):
            section = sections.setdefault(line.split()[1].rstrip(":"), {})
        elif line and not line.startswith("#"):
            name, _, text = line.partition(" | ")
            # Not `format`: the bodies have braces of their own.
            escaped = codecs.escape_decode(text.encode())[0]
            section[name] = escaped.replace(b"{head}", HEAD).replace(b"{end}", END)
    return sections


class Told(NamedTuple):
    """How a webhook is answered."""

    status: int
    reason: str


class Inside:
    """Takes webhooks and pushes, and keeps them in order. A body says how it is answered."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.holds = False
        """Then answers wait in `held`."""
        self.held: list[Callable[[], None]] = []

    def take(self, body: bytes, answer: Callable[[Reception], None]) -> None:
        self.taken.append(("webhook", body))
        told = Told(200, "")
        if body.startswith(b"bad"):
            told = Told(400, "not JSON")
        elif body.startswith(b"full"):
            told = Told(503, "store_full")
        if self.holds:
            self.held.append(lambda: answer(told))
        elif body.startswith(b"late"):
            asyncio.get_running_loop().call_later(INSTANT_S * 10, answer, told)
        else:
            answer(told)

    async def receive(self, body: bytes) -> Reception:
        answered: asyncio.Future[Reception] = asyncio.get_running_loop().create_future()
        self.take(body, answered.set_result)
        return await answered


class Said(NamedTuple):
    """An answer of the push API."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class PushApi:
    """Takes every push; knows nothing else."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self.pushes = self.batches = self.queries = self.changes = self

    def authorise(self, authorization: str | None) -> Said | None:
        return None

    def refuse_large(self, limit_bytes: int) -> Said:
        return Said(413, b"large")

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> Said:
        self._inside.taken.append(("push", body))
        return Said(202, b'{"taken":true}')

    async def _unknown(self, *what: Any) -> Said:
        return Said(404, b'{"known":false}')

    find = find_batch = cancel = cancel_batch = reclass = reclass_batch = find_many = _unknown


class Wire(asyncio.Transport):
    """A connection in memory: what the client sends is `feed`, what it gets is `written`."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol: Any = protocol
        self._loop = asyncio.get_running_loop()
        self._coming: list[bytes] = []
        self.is_reading_now = True
        self.written = b""
        self.is_closed = False
        self._is_closing = False
        self.was_aborted = False
        self.reads_answers = True
        self._unsent = 0
        if self._is_closing:
            self._lose()
        self._is_paused = False
        self.errors: list[Exception] = []
        protocol.connection_made(self)

    # The client's side

    def feed(self, data: bytes) -> None:
        """The client sends `data`; it arrives when the server reads."""
        self._coming.append(data)
        self._deliver()

    def hang_up(self) -> None:
        """The client goes away."""
        if not self.is_closed:
            self.is_closed = True
            self._protocol.connection_lost(None)

    def read_answers(self) -> None:
        """A client that has not read reads everything, and goes on reading."""
        self.reads_answers = True
        self._unsent = 0
        if self._is_closing:
            self._lose()
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    @property
    def unread(self) -> int:
        """Pieces that the server has not read."""
        return len(self._coming)

    @property
    def protocol(self) -> Any:
        return self._protocol

    def _deliver(self) -> None:
        while self._coming and self.is_reading_now and not self.is_closed:
            try:
                self._protocol.data_received(self._coming.pop(0))
            except Exception as error:  # noqa: BLE001 -- a real transport ends the connection and logs it
                self.errors.append(error)
                self.abort()

    # The server's side

    def write(self, data: Any) -> None:
        if self._is_closing:
            return
        self.written += data
        if not self.reads_answers:
            self._unsent += len(data)
            if self._unsent > self._high_water and not self._is_paused:
                self._is_paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high_water = high

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def close(self) -> None:
        """Close when all is sent; until then nothing is read and nothing more is written."""
        self.is_reading_now = False
        self._is_closing = True
        if not self._unsent:
            self._lose()

    def abort(self) -> None:
        self.was_aborted = True
        self._is_closing = True
        self._lose()

    def _lose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        if not self.is_reading_now and not self._is_closing:
            self.is_reading_now = True
            self._loop.call_soon(self._deliver)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol


class Listener:
    """One listener, with what is behind it."""

    def __init__(self, connections_max: int, app_secret: str) -> None:
        self.inside = Inside()
        self.ingest = Ingest(
            self.inside,
            PushApi(self.inside),
            PushApi(self.inside),
            webhook_path="/webhook",
            webhook_body_max=BODY_MAX,
            push_body_max=BODY_MAX,
            app_secret=app_secret,
            verify_token=VERIFY_TOKEN,
        )
        self._runner = web.AppRunner(self.ingest.application(), access_log=None, keepalive_timeout=IDLE_S)
        self._connections_max = connections_max
        self.front: Front

    async def open(self) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        clock = loop if isinstance(loop, VirtualLoop) else SystemClock()
        self.front = self.ingest.front(self.server, self._connections_max, clock)

    @property
    def server(self) -> web.Server:
        assert self._runner.server is not None
        return self._runner.server

    def hot(self) -> Wire:
        """A new connection to the front."""
        return Wire(self.front.connection())

    def plain(self) -> Wire:
        """A new connection to aiohttp."""
        return Wire(self.server())

    def drain(self) -> None:
        self.ingest.is_draining = True
        self.front.drain()

    async def close(self) -> None:
        self.front.close()
        await asyncio.gather(self.front.wait_closed(1), self._runner.cleanup())
        self.front.abort()


@contextlib.asynccontextmanager
async def listening(*, connections_max: int = 512, app_secret: str = "") -> AsyncIterator[Listener]:
    """An open listener."""
    listener = Listener(connections_max, app_secret)
    await listener.open()
    try:
        yield listener
    finally:
        await listener.close()


async def settle(instants: int = 1) -> None:
    """Until nothing is left to do but to wait; a late answer of `Inside` takes ten instants."""
    virtual_loop()
    await asyncio.sleep(instants * INSTANT_S)


class Answer(NamedTuple):
    """What a client sees of an answer."""

    status: int
    body: bytes
    content_type: str
    retry_after: str
    connection: str


def answers_in(written: bytes) -> list[Answer]:
    """The answers a client reads out of what was written; AssertionError if that is not a row of whole answers."""
    found = []
    while written:
        head, separator, written = written.partition(b"\r\n\r\n")
        assert separator, head
        line, *lines = head.decode().split("\r\n")
        matched = re.fullmatch(r"HTTP/\d\.\d (\d{3}) [A-Za-z -]+", line)
        assert matched, line
        fields = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
        assert len(fields) == len(lines), "a field twice"
        status = int(matched[1])
        if status == 100:
            assert not fields
            continue
        assert re.fullmatch(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT", fields["date"])
        size = int(fields["content-length"])
        assert len(written) >= size
        found.append(
            Answer(
                status,
                written[:size],
                fields.get("content-type", ""),
                fields.get("retry-after", ""),
                fields.get("connection", "").lower(),
            )
        )
        written = written[size:]
    return found

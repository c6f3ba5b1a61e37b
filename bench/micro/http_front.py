"""What one webhook costs the server that answers it, in us of CPU, with nothing behind it: parse, hand over, answer.

The client is another process: a uvloop protocol that repeats a prepared request and parses nothing. Rows are run in
turn; the CPU is this process's, system calls and loop included. `the loop alone` answers each read with prepared bytes: what
no server on this loop can beat, and what is above it is the server's own share.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final, cast

import httptools
import uvloop
from aiohttp import web
from compare import about, headline

from gateway.clock import SystemClock
from gateway.http.front_answers import Answers, Reception
from gateway.http.ingest import Ingest

CONNECTIONS: Final = 24
"""As a node has."""
PACKAGES: Final = ("uvloop", "aiohttp", "httptools")
SECRET: Final = "secret"
BODY: Final = b'{"messages":[{"id":"ABGG","from":"15550100111","text":{"body":"%s"}}]}' % (b"x" * 530)
SIGNATURE: Final = b"sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest().encode()


def request(path: bytes) -> bytes:
    """As a node sends it."""
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:9080\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\n"
        b"Content-Type: application/json\r\nX-Hub-Signature-256: %b\r\nAccept-Encoding: gzip\r\n\r\n%b"
    ) % (path, len(BODY), SIGNATURE, BODY)


WEBHOOK: Final = request(b"/webhook")
PUSH: Final = request(b"/v1/messages")


class Told:
    """The answer of an inside that has nothing to do, and of a push API of that kind."""

    status = 200
    reason = ""
    body = b"{}"
    headers: Mapping[str, str] = {}


TOLD: Final = Told()


class Inside:
    """Answers at once."""

    def __init__(self) -> None:
        self.pushes = self.batches = self.queries = self.changes = self

    async def receive(self, body: bytes) -> Reception:
        assert len(body) == len(BODY)
        return TOLD

    def take(self, body: bytes, answer: Callable[[Reception], None]) -> None:
        assert len(body) == len(BODY)
        answer(TOLD)

    def authorise(self, _authorization: str | None) -> None:
        return None

    def refuse_large(self, _limit_bytes: int) -> Told:
        raise AssertionError

    async def accept(self, body: bytes, _headers: Mapping[str, str]) -> Told:
        assert len(body) == len(BODY)
        return TOLD

    async def find(self, *_what: Any) -> Told:
        raise AssertionError

    find_batch = cancel = cancel_batch = reclass = reclass_batch = find_many = find


class Bare(asyncio.Protocol):
    """The loop alone."""

    answers = Answers(SystemClock())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, _data: bytes) -> None:
        self._transport.write(self.answers.ok(0))


class Llhttp(Bare):
    """A protocol on httptools that does no more than it must: no limits, no hand-off."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        assert url == b"/webhook"

    def on_header(self, name: bytes, value: bytes) -> None:
        pass

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        INSIDE.take(b"".join(self._body), self._answer)
        self._body.clear()

    def _answer(self, _reception: Reception) -> None:
        self._transport.write(self.answers.ok(0))


INSIDE: Final = Inside()
Factory = Callable[[], asyncio.Protocol]
Measure = Callable[[Factory, bytes], Awaitable[float]]


async def serve_ingest(measure: Measure, sent: bytes, app_secret: str, *, is_hot: bool) -> float:
    """Our listener, behind the front or without it."""
    ingest = Ingest(
        INSIDE,
        INSIDE,
        INSIDE,
        webhook_path="/webhook",
        webhook_body_max=3 << 20,
        push_body_max=1 << 20,
        app_secret=app_secret,
    )
    runner = web.AppRunner(ingest.application(), access_log=None)
    await runner.setup()
    assert runner.server is not None
    front = ingest.front(runner.server, 512, SystemClock())
    taken_s = await measure(front.connection if is_hot else runner.server, sent)
    front.close()
    await runner.cleanup()
    front.abort()
    return taken_s


ROWS: Final[dict[str, Callable[[Measure], Awaitable[float]]]] = {
    "the loop alone": lambda measure: measure(Bare, WEBHOOK),
    "the front": lambda measure: serve_ingest(measure, WEBHOOK, "", is_hot=True),
    "the front, signed": lambda measure: serve_ingest(measure, WEBHOOK, SECRET, is_hot=True),
    "httptools, no checks": lambda measure: measure(Llhttp, WEBHOOK),
    "aiohttp": lambda measure: serve_ingest(measure, WEBHOOK, "", is_hot=False),
    "aiohttp, signed": lambda measure: serve_ingest(measure, WEBHOOK, SECRET, is_hot=False),
    "aiohttp, handed a push": lambda measure: serve_ingest(measure, PUSH, "", is_hot=True),
}


class _Client(asyncio.Protocol):
    """Sends again when it is answered."""

    def __init__(self, sent: bytes, count: int, finished: asyncio.Future[None]) -> None:
        self._sent = sent
        self._left = count
        self._finished = finished

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 200"), data
        self._left -= 1
        if self._left:
            self.transport.write(self._sent)
        else:
            self._finished.set_result(None)

    def start(self) -> None:
        self.transport.write(self._sent)


def load(pipe: Pipe) -> None:
    """The client's process: each (port, request, count) is posted; says when connected, waits, says when done."""

    async def post(port: int, sent: bytes, count: int) -> None:
        loop = asyncio.get_running_loop()
        made, finished = [], []
        for _ in range(CONNECTIONS):
            done: asyncio.Future[None] = loop.create_future()
            finished.append(done)
            _, client = await loop.create_connection(
                lambda done=done: _Client(sent, count // CONNECTIONS, done),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            made.append(client)
        pipe.send("connected")
        pipe.recv()
        for client in made:
            client.start()
        await asyncio.gather(*finished)
        pipe.send("done")
        for client in made:
            client.transport.close()

    while (task := pipe.recv()) is not None:
        uvloop.run(post(*task))


async def measure(pipe: Pipe, count: int, factory: Factory, sent: bytes) -> float:
    """CPU of this process while `count` requests are answered, s."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0)
    told = asyncio.Event()
    loop.add_reader(pipe.fileno(), told.set)
    pipe.send((server.sockets[0].getsockname()[1], sent, count))
    await _wait(told, pipe)
    start_s = time.process_time()
    pipe.send("go")
    await _wait(told, pipe)
    taken_s = time.process_time() - start_s
    loop.remove_reader(pipe.fileno())
    server.close()
    return taken_s


async def _wait(told: asyncio.Event, pipe: Pipe) -> None:
    await told.wait()
    told.clear()
    pipe.recv()


def run(rounds: int, count: int) -> dict[str, list[float]]:
    """Per row, us a request in each round; the first round warms up."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    client = context.Process(target=load, args=(other,))
    client.start()
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    for number in range(rounds + 1):
        for name, row in ROWS.items():
            taken_s = uvloop.run(_run(row, pipe, count))
            if number:
                taken[name].append(round(taken_s / count * 1e6, 2))
    pipe.send(None)
    client.join()
    return taken


async def _run(row: Callable[[Measure], Awaitable[float]], pipe: Pipe, count: int) -> float:
    return await row(lambda factory, sent: measure(pipe, count, factory, sent))


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    medians = {name: statistics.median(values) for name, values in result["us"].items()}
    lines = [
        headline(result, f"requests over {CONNECTIONS} connections, {len(BODY)} bytes each"),
        f"{'us of CPU a request':26}{'median':>8}{'range':>14}{'own share':>11}{'ratio':>7}",
    ]
    for name, values in result["us"].items():
        own = medians[name] - medians["the loop alone"]
        spread = f"{min(values):.1f}-{max(values):.1f}"
        ratio = medians[name] / medians["the front"]
        lines.append(f"{name:26}{medians[name]:8.1f}{spread:>14}{own:11.1f}{ratio:7.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds measured (default 5), after one more")
    parser.add_argument("--count", type=int, default=24_000, help="requests a row and round (default 24000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    options = parser.parse_args()
    count = max(1, options.count // CONNECTIONS) * CONNECTIONS
    result = {**about(PACKAGES), "rounds": options.rounds, "count": count}
    result["us"] = run(options.rounds, count)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

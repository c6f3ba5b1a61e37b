"""What one POST over a kept connection costs its client, in us of CPU: all of it, system calls and loop too.

The server is another process: a uvloop protocol that answers each read with the same bytes and parses nothing. Rows
are run in turn; the CPU is this process's. `the loop alone` writes prepared bytes and looks at nothing that comes
back: what no client on this loop can beat, and what is above it is the client's own share.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop

from gateway._fast.response import Response
from gateway.http.client import HttpClient

ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}"
)
BODY: Final = b'{"messages":[{"id":"ABGG","from":"15550100111","text":{"body":"%s"}}]}' % (b"x" * 330)
HEADERS: Final = {
    "webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    "webhook-timestamp": "1674087231",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
LINES: Final = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()
PACKAGES: Final = ("uvloop", "aiohttp", "httptools")

Row = Callable[[str, int, int], Awaitable[float]]


class Server(asyncio.Protocol):
    """Answers each read: clients here send a request in one write and wait."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = transport.write  # type: ignore[attr-defined]  # uvloop's is no asyncio.Transport

    def data_received(self, _data: bytes) -> None:
        self._write(ANSWER)


def serve(ready: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def bare(url: str, count: int, connections: int) -> float:
    """The loop alone."""
    loop = asyncio.get_running_loop()
    path = url.rpartition("/")[2]
    request = b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        LINES,
        len(BODY),
        BODY,
    )
    left = count
    finished = loop.create_future()

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.write = transport.write  # type: ignore[attr-defined]  # as above

        def data_received(self, _data: bytes) -> None:
            nonlocal left
            left -= 1
            if left >= connections:
                self.write(request)
            elif left == 0:
                finished.set_result(None)

    port = int(url.split(":")[2].partition("/")[0])
    made = [await loop.create_connection(Client, "127.0.0.1", port) for _ in range(connections)]
    start_s = time.process_time()
    for _, client in made:
        client.write(request)
    await finished
    taken_s = time.process_time() - start_s
    for transport, _ in made:
        transport.close()
    return taken_s


async def ours_called(url: str, count: int, connections: int) -> float:
    """Ours, with a callback for the answer: as forwards go."""
    http = HttpClient(30_000, connections, ssl.create_default_context())
    endpoint = http.endpoint("POST", url, {"Content-Type": "application/json"})
    finished = asyncio.get_running_loop().create_future()
    left = count

    def done(response: Response) -> None:
        nonlocal left
        assert response.status == 200
        left -= 1
        if left >= connections:
            endpoint.start(BODY, LINES, done)
        elif left == 0:
            finished.set_result(None)

    start_s = time.process_time()
    for _ in range(connections):
        endpoint.start(BODY, LINES, done)
    await finished
    taken_s = time.process_time() - start_s
    await http.close()
    return taken_s


async def _workers(ask: Callable[[], Awaitable[int | None]], count: int, connections: int) -> float:
    async def work() -> None:
        for _ in range(count // connections):
            assert await ask() == 200

    start_s = time.process_time()
    await asyncio.gather(*(work() for _ in range(connections)))
    return time.process_time() - start_s


async def ours_awaited(url: str, count: int, connections: int) -> float:
    """Ours, awaited: as sends go."""
    http = HttpClient(30_000, connections, ssl.create_default_context())
    endpoint = http.endpoint("POST", url, {"Content-Type": "application/json"})

    async def ask() -> int | None:
        return (await endpoint.ask(BODY, LINES)).status

    taken_s = await _workers(ask, count, connections)
    await http.close()
    return taken_s


async def ours_request(url: str, count: int, connections: int) -> float:
    """Ours, the URL and all headers given anew each time."""
    http = HttpClient(30_000, connections, ssl.create_default_context())
    headers = {"Content-Type": "application/json", **HEADERS}

    async def ask() -> int | None:
        return (await http.request("POST", url, BODY, headers)).status

    taken_s = await _workers(ask, count, connections)
    await http.close()
    return taken_s


async def of_aiohttp(url: str, count: int, connections: int) -> float:
    """The client of aiohttp, as this gateway had it."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=30, sock_connect=24),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        headers = {"Content-Type": "application/json", **HEADERS}

        async def ask() -> int | None:
            async with session.post(url, data=BODY, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status

        return await _workers(ask, count, connections)


ROWS: Final[dict[str, Row]] = {
    "the loop alone": bare,
    "ours, called back": ours_called,
    "ours, awaited": ours_awaited,
    "ours, request()": ours_request,
    "aiohttp": of_aiohttp,
}
BASE: Final = "ours, called back"


def measure(url: str, rounds: int, count: int, connections: int) -> dict[str, list[float]]:
    """Per row, us of CPU a request in each round; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    for number in range(rounds + 1):
        for name, row in ROWS.items():
            taken_s = uvloop.run(_awaited(row, url, count, connections))
            if number:
                taken[name].append(round(taken_s / count * 1e6, 2))
    return taken


async def _awaited(row: Row, url: str, count: int, connections: int) -> float:
    return await row(url, count, connections)


def about() -> dict[str, Any]:
    """Where and when; the macro benchmarks have the same in `record.py`."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release().rpartition('.')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version(name) for name in PACKAGES},
        "load_1min_at_start": round(os.getloadavg()[0], 2),
    }


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"{result['date']}; {result['machine']}; {result['python']}; {packages}",
        f"{result['rounds']} rounds of {result['count']} requests; load {result['load_1min_at_start']}",
    ]
    for connections, rows in result["us"].items():
        lines.append(f"{f'CPU us a request, {connections} at once':36}{'median':>9}{'range':>14}{'ratio':>8}")
        base = statistics.median(rows[BASE])
        for name, values in rows.items():
            median = statistics.median(values)
            spread = f"{min(values):.1f}-{max(values):.1f}"
            lines.append(f"{name:36}{median:9.1f}{spread:>14}{median / base:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds measured (default 5), after one more")
    parser.add_argument("--count", type=int, default=10_000, help="requests a row and round (default 10000)")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16], help="requests at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.rounds < 1 or any(not 1 <= n <= options.count for n in options.connections):
        sys.exit("--rounds and --connections must be at least 1, --count no less than --connections")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    result: dict[str, Any] = {**about(), "rounds": options.rounds, "us": {}}
    try:
        url = f"http://127.0.0.1:{ours.recv()}/webhook"
        for connections in options.connections:
            result["count"] = count = options.count // connections * connections
            result["us"][connections] = measure(url, options.rounds, count, connections)
    finally:
        server.terminate()
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

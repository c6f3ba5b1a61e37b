"""The hot front on real sockets: uvloop's and asyncio's transports, plain and over TLS."""

import asyncio
import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from front_rig import BODY_MAX, Answer, Listener, answers_in, corpus, listening, webhook

from gateway._fast.front_connection import Connection

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
QUERY = b"GET /v1/messages/abc HTTP/1.1\r\nHost: gw\r\n\r\n"
LAST = b"GET /v1/messages/last HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n"

BUFFER_BYTES = 131_072
"""Of a socket: small, so that answers pile up in the server."""
SEGMENT_BYTES = 1400
"""Small beside it, or TCP would wait for timers; loopback's own is 64 KiB."""


class Client:
    """A socket to the listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def answer(self) -> Answer:
        """The next answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        [size] = [
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        [answer] = answers_in(head + await self._reader.readexactly(size))
        return answer

    async def rest(self) -> list[int]:
        """Statuses of all answers until the server closes."""
        return [answer.status for answer in answers_in(await self._reader.read())]

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def reset(self) -> None:
        """Cut the connection off with RST."""
        sock: Any = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Dial = Callable[[], Awaitable[Client]]
Scenario = Callable[[Listener, Dial], Awaitable[None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, *names, "-days", "1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext] | None]:
    """What server and client speak TLS with."""
    if request.param == "plain":
        yield None
        return
    cert, key = request.getfixturevalue("certificate")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    yield server, ssl.create_default_context(cafile=cert)


@pytest.fixture(params=LOOPS)
def play(
    request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None
) -> Callable[[Scenario], None]:
    """Runs a scenario on each loop, plain and over TLS."""
    server, client = contexts or (None, None)

    async def main(scenario: Scenario) -> None:
        loop = asyncio.get_running_loop()
        failures: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: failures.append(context))
        async with asyncio.timeout(20), listening() as listener:
            port = await listener.front.listen("127.0.0.1", 0, server)

            async def dial() -> Client:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, ("127.0.0.1", port))
                except OSError:
                    sock.close()
                    raise
                name = "localhost" if client else None
                return Client(*await asyncio.open_connection(sock=sock, ssl=client, server_hostname=name))

            await scenario(listener, dial)
        assert failures == []

    def run(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main(scenario))

    return run


async def until(is_reached: Callable[[], bool]) -> None:
    """Wait for what the kernel has to bring."""
    while not is_reached():
        await asyncio.sleep(0.001)


def test_answers_many_webhooks_on_one_connection(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        for number in range(200):
            await client.send(webhook(b"%d" % number))
            assert (await client.answer()).status == 200
        assert [body for _, body in listener.inside.taken] == [b"%d" % number for number in range(200)]
        await client.close()
        await until(lambda: len(listener.ingest.connections) == 0)

    play(scenario)


def test_hands_off_in_the_middle_of_a_pipeline(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        await client.send(
            webhook(b"late 1") + webhook(b"2") + QUERY + webhook(b"late 3") + QUERY, webhook(b"4"), LAST
        )
        assert await client.rest() == [200, 200, 404, 200, 404, 200, 404]
        assert [body for _, body in listener.inside.taken] == [b"late 1", b"2", b"late 3", b"4"]
        await client.close()
        await until(lambda: len(listener.ingest.connections) == 0)

    play(scenario)


def test_a_handed_off_connection_serves_what_aiohttp_serves(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        for request, status in (
            (b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", 202),
            (corpus()["unusual"]["chunked"], 200),
            (corpus()["unusual"]["verification"], 200),
            (webhook(b"x" * BODY_MAX), 200),
        ):
            await client.send(*(request[at : at + 7] for at in range(0, len(request), 7)))
            assert (await client.answer()).status == status
        await client.send(webhook(b"x" * (BODY_MAX + 1)), LAST)
        assert (await client.rest())[0] == 413
        await client.close()

    play(scenario)


def test_expect_is_told_to_continue(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        await client.send(
            b"POST /webhook HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        )
        assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"x", LAST)
        assert await client.rest() == [200, 404]
        await client.close()

    play(scenario)


def test_a_body_that_comes_in_many_reads_is_whole(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        body = bytes(range(256)) * (BODY_MAX // 256)
        request = webhook(body) + webhook(b"next")
        await client.send(*(request[at : at + 500] for at in range(0, len(request), 500)))
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 200
        assert [taken for _, taken in listener.inside.taken] == [body, b"next"]
        assert listener.ingest.reading_bytes == 0
        await client.close()

    play(scenario)


def test_a_connection_cut_off_in_a_body_leaves_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        for cut in (Client.reset, lambda client: client._writer.transport.abort()):
            client = await dial()
            await client.send(webhook(b"x" * 100)[:-1])
            await until(lambda: listener.ingest.reading_bytes == 100)
            cut(client)
            await until(lambda: len(listener.ingest.connections) == 0)
            assert listener.ingest.reading_bytes == 0
            assert not listener.inside.taken

    play(scenario)


def test_who_goes_before_the_answer_is_forgotten(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        listener.inside.holds = True
        client = await dial()
        await client.send(webhook(b"1"))
        await until(lambda: len(listener.inside.held) == 1)
        client.reset()
        await until(lambda: len(listener.ingest.connections) == 0)
        listener.inside.held[0]()

    play(scenario)


def test_reads_on_after_a_client_that_did_not_read(play: Callable[[Scenario], None]) -> None:
    """More answers than small buffers hold: the server stops reading, and nothing is lost or mixed up."""

    async def scenario(listener: Listener, dial: Dial) -> None:
        # The sockets of connections inherit it.
        server = listener.front._server
        assert server is not None
        with socket.socket(fileno=os.dup(server.sockets[0].fileno())) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        client = await dial()
        count = 15_000
        sending = asyncio.ensure_future(
            client.send(*[webhook(b"%d" % number) for number in range(count)], LAST)
        )
        await until(lambda: len(listener.inside.taken) > 0)
        [connection] = listener.ingest.connections._guests
        assert isinstance(connection, Connection)
        await until(lambda: connection.is_choked)
        taken = len(listener.inside.taken)
        assert taken < count
        await asyncio.sleep(0.01)
        assert len(listener.inside.taken) == taken
        assert await client.rest() == [200] * count + [404]
        await sending
        assert [body for _, body in listener.inside.taken] == [b"%d" % number for number in range(count)]
        await client.close()

    play(scenario)


def test_stops_listening_when_it_drains(play: Callable[[Scenario], None]) -> None:
    async def scenario(listener: Listener, dial: Dial) -> None:
        client = await dial()
        await client.send(webhook(b"1"))
        assert (await client.answer()).status == 200
        listener.drain()
        with pytest.raises(OSError):
            await dial()
        await client.send(webhook(b"2"))
        answer = await client.answer()
        assert (answer.status, answer.retry_after, answer.connection) == (503, "1", "close")
        assert await client.rest() == []
        await client.close()

    play(scenario)

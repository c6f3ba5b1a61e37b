"""The HTTP client over the kernel's sockets: TLS, unix sockets, names and addresses, and servers that end badly."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from http_rig import NO_TLS, OK

from gateway._fast.connection import PIECE_BYTES
from gateway.clock import NS_PER_S, FakeClock
from gateway.http.client import HttpClient, Response, tls_context
from gateway.http.connect import NetworkConnector
from gateway.http.resolve import TTL_NS, Resolver

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl command to make certificates"
)


class Server:
    """A server of raw bytes on loopback; `talk` is one connection's life."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        """Those whose TLS, if any, came about."""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(
        self, *, tls: ssl.SSLContext | None = None, unix_path: Path | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator["Server"]:
        if unix_path is None:
            server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
            self.port = server.sockets[0].getsockname()[1]
        else:
            server = await asyncio.start_unix_server(self._serve, unix_path)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.talk(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            self._tasks.discard(task)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    return head, await reader.readexactly(int(length.split()[1]))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its body."""
    while True:
        _, body = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@contextlib.asynccontextmanager
async def client(
    tls: ssl.SSLContext = NO_TLS, *, timeout_ms: int = 10_000, connector: NetworkConnector | None = None
) -> AsyncIterator[HttpClient]:
    http = HttpClient(timeout_ms, 4, tls, connector=connector)
    try:
        yield http
    finally:
        await http.close()


# -- plain connections


async def test_requests_in_turn_share_a_connection() -> None:
    async with Server(echo).serving() as server, client() as http:
        for number in range(5):
            response = await http.request("POST", f"http://127.0.0.1:{server.port}/", b"%d" % number)
            assert (response.status, response.body) == (200, b"%d" % number)
        assert server.connections == 1


async def test_a_body_larger_than_the_kernel_takes_at_once_arrives_whole() -> None:
    async with Server(echo).serving() as server, client() as http:
        body = bytes(range(256)) * 3072
        assert len(body) > 10 * PIECE_BYTES
        for _ in range(2):
            response = await http.request("POST", f"http://127.0.0.1:{server.port}/", body)
            assert (response.status, response.body, response.error) == (200, body, "")
        assert server.connections == 1


async def test_an_answer_comes_early_and_the_body_is_not_waited_for() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()  # some of it, until the client ends

    async with Server(refuse).serving() as server, client() as http:
        endpoint = http.endpoint("POST", f"http://127.0.0.1:{server.port}/", {})
        response = await endpoint.ask(bytes(50 << 20), b"")
        assert (response.status, response.was_sent) == (413, True)


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"]
)
async def test_a_server_that_hangs_up_early(says: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(says)

    async with Server(hang_up).serving() as server, client() as http:
        response = await http.request("POST", f"http://127.0.0.1:{server.port}/")
        assert (response.status, response.body) == (200 if says.endswith(b"hell") else None, b"")
        assert response.was_sent
        assert response.error


async def test_a_server_that_closes_idle_connections_is_asked_on_new_ones() -> None:
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with Server(once).serving() as server, client() as http:
        for _ in range(3):
            closed.clear()
            response = await http.request("POST", f"http://127.0.0.1:{server.port}/")
            assert response.status == 200
            await closed.wait()
            await idle_connections(http, 0)
        assert server.connections == 3


async def idle_connections(http: HttpClient, count: int) -> None:
    """Wait until so many idle: the kernel needs a moment to tell of an end."""
    [pool] = http._pools.values()
    while pool.statistics()["idle"] != count:
        await asyncio.sleep(0)


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client() as http:
            response = await http.request("POST", f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert (response.status, response.was_sent) == (None, False)
    assert "refused" in response.error


async def test_ipv6() -> None:
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(OK)

    try:
        async with Server(talk).serving(host="::1") as server, client() as http:
            response = await http.request("POST", f"http://[::1]:{server.port}/x")
            assert response.status == 200
            assert f"Host: [::1]:{server.port}\r\n".encode() in heads[0]
    except OSError:
        pytest.skip("this machine has no IPv6")


# -- unix sockets


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "back end.sock"
    url = "http+unix://" + str(path).replace("/", "%2F").replace(" ", "%20") + "/hook?x"
    async with client() as http:
        response = await http.request("POST", url, b"x")
        assert (response.status, response.was_sent) == (None, False)
        async with Server(echo).serving(unix_path=path) as server:
            for _ in range(2):
                response = await http.request("POST", url, b"hello")
                assert (response.status, response.body, response.error) == (200, b"hello", "")
            assert server.connections == 1


# -- names


class Names:
    """What the system's resolver would say."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.error: OSError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return list(self.addresses)


async def test_a_name_is_looked_up_once_in_its_time() -> None:
    clock, names = FakeClock(), Names("10.0.0.1", "10.0.0.2")
    resolver = Resolver(clock, names)
    names.gate.clear()
    asking = [asyncio.create_task(resolver.addresses("backend.test", 80)) for _ in range(10)]
    await asyncio.sleep(0)
    names.gate.set()
    assert await asyncio.gather(*asking) == [["10.0.0.1", "10.0.0.2"]] * 10
    clock.advance_ns(TTL_NS - 1)
    await resolver.addresses("backend.test", 80)
    assert names.asked == 1
    clock.advance_ns(1)
    names.addresses = ["10.0.0.3"]
    assert await resolver.addresses("backend.test", 80) == ["10.0.0.3"]
    assert names.asked == 2
    assert TTL_NS == 60 * NS_PER_S


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%lo"])
async def test_an_address_needs_no_look_up(address: str) -> None:
    names = Names()
    assert await Resolver(FakeClock(), names).addresses(address, 80) == [address]
    assert names.asked == 0


async def test_a_failed_look_up_is_not_remembered_and_nothing_was_sent() -> None:
    names = Names("127.0.0.1")
    names.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    async with Server(echo).serving() as server:
        url = f"http://backend.test:{server.port}/"
        async with client(connector=NetworkConnector(NO_TLS, Resolver(FakeClock(), names))) as http:
            response = await http.request("POST", url)
            assert (response.status, response.was_sent, server.connections) == (None, False, 0)
            assert "Name or service not known" in response.error
            names.error, names.addresses = None, []
            assert "no address" in (await http.request("POST", url)).error
            names.addresses = ["127.0.0.1"]
            assert (await http.request("POST", url)).status == 200
            assert names.asked == 3


async def test_a_look_up_that_hangs_is_given_up_and_nothing_was_sent() -> None:
    names = Names("127.0.0.1")
    names.gate.clear()
    connector = NetworkConnector(NO_TLS, Resolver(FakeClock(), names))
    async with client(connector=connector, timeout_ms=50) as http:
        response = await http.request("POST", "http://backend.test/")
        assert (response.status, response.was_sent) == (None, False)
        assert "timed out" in response.error


async def test_every_address_of_a_name_is_tried_in_order() -> None:
    async with Server(echo).serving() as server:
        # Nothing listens at the first two: all of 127.0.0.0/8 is this machine.
        names = Names("127.0.0.2", "127.0.0.3", "127.0.0.1")
        async with client(connector=NetworkConnector(NO_TLS, Resolver(FakeClock(), names))) as http:
            response = await http.request("POST", f"http://backend.test:{server.port}/", b"x")
            assert (response.status, response.error, names.asked) == (200, "", 1)


async def test_a_name_none_of_whose_addresses_answers_is_looked_up_again() -> None:
    async with Server(echo).serving() as server:
        names = Names("127.0.0.2")
        async with client(connector=NetworkConnector(NO_TLS, Resolver(FakeClock(), names))) as http:
            url = f"http://backend.test:{server.port}/"
            assert not (await http.request("POST", url)).was_sent
            names.addresses = ["127.0.0.1"]
            assert (await http.request("POST", url)).status == 200
            assert names.asked == 2


async def test_the_system_knows_localhost() -> None:
    async with Server(echo).serving() as server, client() as http:
        assert (await http.request("POST", f"http://localhost:{server.port}/")).status == 200


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For `localhost` alone, and its own authority."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, *names, "-days", "1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def ask_over_tls(certificate: tuple[Path, Path], host: str, tls: ssl.SSLContext) -> Response:
    async with Server(echo).serving(tls=server_tls(certificate)) as server, client(tls) as http:
        first = await http.request("POST", f"https://{host}:{server.port}/", b"hello")
        again = await http.request("POST", f"https://{host}:{server.port}/", b"hello")
        assert (first.status, first.error) == (again.status, again.error)
        assert server.connections == (1 if first.status else 0)
        return first


@needs_openssl
async def test_a_certificate_of_our_authority_for_this_name_is_accepted(
    certificate: tuple[Path, Path],
) -> None:
    response = await ask_over_tls(certificate, "localhost", tls_context(certificate[0]))
    assert (response.status, response.body) == (200, b"hello")


@needs_openssl
async def test_a_large_body_over_tls(certificate: tuple[Path, Path]) -> None:
    body = bytes(range(256)) * 3072
    context = tls_context(certificate[0])
    async with Server(echo).serving(tls=server_tls(certificate)) as server, client(context) as http:
        for _ in range(2):
            response = await http.request("POST", f"https://localhost:{server.port}/", body)
            assert (response.status, response.body) == (200, body)
        assert server.connections == 1


@needs_openssl
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_of_another_authority_or_name_is_refused_and_nothing_was_sent(
    certificate: tuple[Path, Path], host: str
) -> None:
    context = tls_context(None if host == "localhost" else certificate[0])
    response = await ask_over_tls(certificate, host, context)
    assert (response.status, response.was_sent) == (None, False)
    assert "certificate verify failed" in response.error.lower()


@needs_openssl
async def test_a_certificate_is_not_looked_at_where_the_operator_says_so(
    certificate: tuple[Path, Path],
) -> None:
    response = await ask_over_tls(certificate, "127.0.0.1", tls_context(None, verifies=False))
    assert response.status == 200


async def test_a_server_that_speaks_no_tls_means_that_nothing_was_sent() -> None:
    async with Server(echo).serving() as server, client(tls_context(None), timeout_ms=500) as http:
        response = await http.request("POST", f"https://127.0.0.1:{server.port}/")
        assert (response.status, response.was_sent) == (None, False)

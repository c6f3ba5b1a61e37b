"""The node client over real HTTP on loopback: one login for all, and whether a request was sent."""

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from builders import push_body

from gateway.dialects.cloud import Cloud
from gateway.dialects.onprem import OnPrem
from gateway.errors import NodeError
from gateway.http.client import HttpClient
from gateway.node.client import RETRY_AFTER_MAX_S, NodeClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SENT = {"messages": [{"id": "gBGG1"}]}


class FakeNode:
    """A WebApp that hands out numbered tokens, takes the newest one only, and can be told otherwise."""

    def __init__(self) -> None:
        self.port = 0
        self.logins = 0
        self.authorizations: list[str] = []
        self.requests: list[tuple[str, bytes]] = []
        self.login_asked = asyncio.Event()
        self.login_gate = asyncio.Event()
        self.login_gate.set()
        self.login_answer: web.Response | None = None
        self.on_send: Handler | None = None

    @property
    def token(self) -> str:
        return f"token-{self.logins}"

    async def login(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization", ""))
        self.login_asked.set()
        await self.login_gate.wait()
        if self.login_answer is not None:
            return self.login_answer
        self.logins += 1
        return web.json_response({"users": [{"token": self.token, "expires_after": "x"}]})

    async def other(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, await request.read()))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"errors": [{"code": 1005, "title": "Access denied"}]}, status=401)
        if self.on_send is not None:
            return await self.on_send(request)
        return web.json_response(SENT, status=201)


@asynccontextmanager
async def serving(node: FakeNode) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/v1/users/login", node.login)
    app.router.add_route("*", "/{tail:.*}", node.other)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    node.port = runner.addresses[0][1]
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    made = FakeNode()
    async with serving(made):
        yield made


@asynccontextmanager
async def client_of(port: int, timeout_ms: int = 10_000) -> AsyncIterator[NodeClient]:
    http = HttpClient(timeout_ms, connections=32, tls=NO_TLS)
    client = NodeClient(
        http, f"http://127.0.0.1:{port}/", "/v1/messages", OnPrem(), user="admin", password="pass:word"
    )
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[NodeClient]:
    async with client_of(node.port) as made:
        yield made


async def test_logs_in_before_the_first_send(node: FakeNode, client: NodeClient) -> None:
    answer = await client.send(push_body())
    assert (answer.status, answer.message_id) == (201, "gBGG1")
    (authorization,) = node.authorizations
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"admin:pass:word"
    assert node.requests == [("/v1/messages", push_body())]


async def test_many_sends_at_once_share_one_login(node: FakeNode, client: NodeClient) -> None:
    node.login_gate.clear()
    sending = [asyncio.create_task(client.send(push_body())) for _ in range(20)]
    await node.login_asked.wait()
    node.login_gate.set()
    assert {answer.status for answer in await asyncio.gather(*sending)} == {201}
    assert (node.logins, client.logins, len(node.authorizations)) == (1, 1, 1)


async def test_callers_that_need_a_new_token_share_one_login(node: FakeNode, client: NodeClient) -> None:
    await client.send(push_body())
    node.logins += 1  # the token has expired
    answers = await asyncio.gather(*(client.send(push_body()) for _ in range(8)))
    assert {answer.code for answer in answers} == {1005}
    await asyncio.gather(*(client.login() for _ in range(8)))
    assert client.logins == 2
    assert len(node.authorizations) == 2
    assert (await client.send(push_body())).status == 201


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.json_response({"errors": [{"code": 1005}]}, status=401),
        lambda: web.json_response({"users": []}),
        lambda: web.json_response({"users": [{"token": ""}]}),
        lambda: web.json_response([]),
        lambda: web.Response(text="<html>"),
        lambda: web.Response(body=b"\xff"),
        lambda: web.Response(body=b'{"x":' + b"[" * 100_000),
        lambda: web.json_response({"users": [{"token": "t"}]}, status=500),
        lambda: web.Response(status=302, headers={"Location": "/v1/elsewhere"}),
    ],
)
async def test_a_login_that_gives_no_token_is_an_error_and_nothing_was_sent(
    node: FakeNode, client: NodeClient, answer: Callable[[], web.Response]
) -> None:
    node.login_answer = answer()
    with pytest.raises(NodeError, match="login refused: HTTP") as error:
        await client.send(push_body())
    assert not error.value.was_sent
    assert "pass:word" not in str(error.value)
    assert node.requests == []
    assert client.logins == 0


async def test_after_a_failed_login_the_next_send_tries_again(node: FakeNode, client: NodeClient) -> None:
    node.login_answer = web.Response(status=500)
    with pytest.raises(NodeError):
        await client.send(push_body())
    node.login_answer = None
    assert (await client.send(push_body())).status == 201


async def test_an_answer_that_does_not_come_in_time_leaves_it_open_whether_it_was_sent(
    node: FakeNode,
) -> None:
    stuck = asyncio.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        await stuck.wait()
        return web.Response()

    node.on_send = never
    async with client_of(node.port, timeout_ms=100) as client:
        await client.login()
        with pytest.raises(NodeError, match="timed out") as error:
            await client.send(push_body())
        stuck.set()
    assert error.value.was_sent
    assert len(node.requests) == 1


async def test_a_connection_that_is_cut_leaves_it_open_whether_it_was_sent(
    node: FakeNode, client: NodeClient
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    node.on_send = cut
    with pytest.raises(NodeError) as error:
        await client.send(push_body())
    assert error.value.was_sent


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client_of(unused.getsockname()[1]) as client:
            client._token = "token"
            with pytest.raises(NodeError) as error:
                await client.send(push_body())
    assert not error.value.was_sent


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        (None, None),
        ("3", 3.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999", RETRY_AFTER_MAX_S),
        ("1.5", None),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("1234567890", None),
    ],
)
async def test_reads_the_seconds_of_retry_after(
    node: FakeNode, client: NodeClient, header: str | None, expected_s: float | None
) -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        headers = {} if header is None else {"Retry-After": header}
        return web.json_response(
            {"errors": [{"code": 1015, "title": "Too many"}]}, status=429, headers=headers
        )

    node.on_send = busy
    answer = await client.send(push_body())
    assert (answer.status, answer.code, answer.retry_after_s) == (429, 1015, expected_s)


async def test_an_answer_that_is_no_json_is_an_answer_all_the_same(
    node: FakeNode, client: NodeClient
) -> None:
    async def gateway_page(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    node.on_send = gateway_page
    answer = await client.send(push_body())
    assert (answer.status, answer.code) == (502, None)


@pytest.mark.parametrize("to", ["15550100111", "+15550100111"])
async def test_asks_for_a_contact_with_a_plus(node: FakeNode, client: NodeClient, to: str) -> None:
    await client.login()
    await client.check_contact(to)
    ((path, body),) = node.requests
    assert path == "/v1/contacts"
    assert json.loads(body)["contacts"] == ["+15550100111"]


async def test_a_fixed_token_is_used_without_a_login_and_can_not_be_renewed(node: FakeNode) -> None:
    http = HttpClient(10_000, connections=2, tls=NO_TLS)
    client = NodeClient(http, f"http://127.0.0.1:{node.port}", "/1234/messages", Cloud(), token="token-0")
    assert (await client.send(push_body())).message_id == "gBGG1"
    assert node.requests[0][0] == "/1234/messages"
    assert node.authorizations == []
    with pytest.raises(NodeError, match="only the operator") as error:
        await client.login()
    assert not error.value.was_sent
    await client.close()


@pytest.mark.parametrize(
    ("answer", "members"),
    [
        (lambda: web.json_response({"groups": [{"creator": "1", "participants": ["1", "2", "3", "3"]}]}), 2),
        (lambda: web.json_response({"groups": [{"participants": ["2", "3"], "new": 1}]}), 2),
        (lambda: web.json_response({"groups": [{"creator": "1", "participants": ["1"]}]}), None),
        (lambda: web.json_response({"groups": [{"subject": "x"}]}), None),
        (lambda: web.json_response({"groups": []}), None),
        (lambda: web.json_response({"groups": [{"participants": [1]}]}), None),
        (lambda: web.json_response({"errors": [{"code": 1006}]}, status=404), None),
        (lambda: web.Response(text="<html>"), None),
        (lambda: web.Response(body=b"\xff"), None),
    ],
)
async def test_the_members_of_a_group_are_those_besides_us(
    node: FakeNode, client: NodeClient, answer: Callable[[], web.Response], members: int | None
) -> None:
    async def on_send(_request: web.Request) -> web.Response:
        return answer()

    node.on_send = on_send
    assert await client.group_members("15550100999-1690000000/../x?y") == members
    assert node.requests == [("/v1/groups/15550100999-1690000000/../x?y", b"")]


async def test_a_node_that_does_not_answer_about_a_group_is_an_error(
    node: FakeNode, client: NodeClient
) -> None:
    await client.login()
    async with client_of(1) as away:
        with pytest.raises(NodeError):
            await away.group_members("1-2")

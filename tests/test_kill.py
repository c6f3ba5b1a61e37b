"""Acked is kept: a child process killed at random moments under load, and a ledger outside it."""

import asyncio
import contextlib
import itertools
import json
import random
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from harness import RecordingBackend
from process import GatewayProcess

TOKEN = "a-token-of-the-tests"
NODE_TPS = "2000"
SEND_COSTS_ALONE = "receive=0,send=1,delivered=0,read=0"
"""A fast machine gets more webhooks in than any plan has events, and sends would have no room at all."""
POLL_S = 0.01
SENDERS = 12
"""Connections that post webhooks, and as many that push: enough to keep commits shared."""

LIVES_PER_SENDING = 4
"""One of so many lasts until sends have gone out: nothing is sent in the first second of a life."""

KNOWN_MIN = 100
"""Sends of which the gateway has said that they were sent, before its last kill."""


class Ledger:
    """What the gateway answered 2xx to, and what came out at the other sides."""

    def __init__(self) -> None:
        self.acked_webhooks: set[str] = set()
        self.acked_pushes: set[str] = set()
        self.at_node: list[str] = []
        self.known_sent: dict[str, int] = {}
        """How often the node had a push by the time that the gateway said it was sent."""
        self.changes = 0
        self._changed = asyncio.Condition()

    async def enter(self, place: set[str] | list[str], name: str) -> None:
        place.add(name) if isinstance(place, set) else place.append(name)
        self.changes += 1
        async with self._changed:
            self._changed.notify_all()

    async def wait_changes(self, count: int) -> None:
        """Wait for `count` more entries."""
        target = self.changes + count
        async with self._changed:
            await self._changed.wait_for(lambda: self.changes >= target)

    async def wait_sends(self, count: int) -> None:
        """Wait for `count` more sends at the node."""
        target = len(self.at_node) + count
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.at_node) >= target)


@contextlib.asynccontextmanager
async def recording_node(ledger: Ledger):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """A node that takes every send."""

    async def login(_request: web.Request) -> web.Response:
        return web.json_response({"users": [{"token": "t", "expires_after": "2099-01-01 00:00:00+00:00"}]})

    async def send(request: web.Request) -> web.Response:
        text = (await request.json())["text"]["body"]
        await ledger.enter(ledger.at_node, text)
        return web.json_response({"messages": [{"id": f"wa-{text}"}]}, status=201)

    app = web.Application()
    app.router.add_post("/v1/users/login", login)
    app.router.add_post("/v1/messages", send)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def webhook_body(name: str, number: int) -> bytes:
    """A message, a receipt, or both in one body."""
    message = {"from": f"1555{number % 7}", "id": f"m-{name}", "type": "text", "text": {"body": "hi"}}
    status = {"id": f"s-{name}", "recipient_id": "15550100", "status": "delivered"}
    shapes = ({"messages": [message]}, {"statuses": [status]}, {"messages": [message], "statuses": [status]})
    return json.dumps(shapes[number % 3]).encode()


def events_of(body: bytes) -> set[str]:
    top = json.loads(body)
    return {item["id"] for array in ("messages", "statuses") for item in top.get(array, [])}


class Load:
    """Senders that go on over crashes: like a node, a webhook is repeated until it is answered 200."""

    def __init__(self, gateway: GatewayProcess, ledger: Ledger, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.ledger = ledger
        self.session = session
        self.numbers = itertools.count()
        self.is_over = False

    async def post_webhooks(self) -> None:
        while not self.is_over:
            number = next(self.numbers)
            body = webhook_body(str(number), number)
            while not await self._try("/webhook", body, 200):
                await asyncio.sleep(POLL_S)
            for event in events_of(body):
                await self.ledger.enter(self.ledger.acked_webhooks, event)

    async def push(self) -> None:
        pushed: list[tuple[str, str]] = []
        while not self.is_over:
            number = next(self.numbers)
            name = f"push-{number}"
            # One recipient gets one at a time: with few of them the end would take long.
            body = json.dumps(
                {"to": f"15550{number % 997:03}", "type": "text", "text": {"body": name}}
            ).encode()
            accepted = await self._try("/v1/messages", body, 202)
            if accepted:
                await self.ledger.enter(self.ledger.acked_pushes, name)
                pushed.append((name, json.loads(accepted)["messages"][0]["id"]))
            else:
                await asyncio.sleep(POLL_S)
            if pushed and await self._is_sent(*pushed[0]):
                del pushed[0]

    async def _is_sent(self, name: str, send_id: str) -> bool:
        """Once the gateway says that it was sent, that is on disk, and it must never be sent again."""
        state = await self._ask("GET", f"/v1/messages/{send_id}", b"", 200)
        if not state or json.loads(state)["state"] != "sent":
            return False
        self.ledger.known_sent[name] = self.ledger.at_node.count(name)
        return True

    async def _try(self, path: str, body: bytes, expected: int) -> bytes:
        return await self._ask("POST", path, body, expected)

    async def _ask(self, method: str, path: str, body: bytes, expected: int) -> bytes:
        """The answer's body; empty when the answer is another, or none."""
        url, headers = self.gateway.ingest + path, {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with self.session.request(method, url, data=body, headers=headers) as answer:
                said = await answer.read()
                return said if answer.status == expected else b""
        except (aiohttp.ClientError, OSError):
            return b""


async def crash_repeatedly(directory: Path, kills: int, seed: int) -> None:
    """Kill the gateway `kills` times while it works, then let it finish and compare with the ledger."""
    rng = random.Random(seed)
    ledger = Ledger()
    backend = RecordingBackend()
    async with (
        backend.serving(),
        recording_node(ledger) as node_port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        gateway = GatewayProcess(
            directory,
            TPS=NODE_TPS,
            TPS_COST=SEND_COSTS_ALONE,
            NODE_URL=f"http://127.0.0.1:{node_port}",
            MESSAGE_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/messages",
            EVENT_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/events",
            PUSH_TOKENS=TOKEN,
            QUEUE_SLOTS="16",
            RECEIPTS_DELIVERED="batch",
            BATCH_DELAY="20ms",
        )
        async with gateway:
            load = Load(gateway, ledger, session)
            async with asyncio.TaskGroup() as senders:
                for _ in range(SENDERS):
                    senders.create_task(load.post_webhooks())
                    senders.create_task(load.push())
                for number in range(kills):
                    await ledger.wait_changes(rng.randint(1, 1500))
                    if number % LIVES_PER_SENDING == 0:
                        await ledger.wait_sends(rng.randint(1, 300))
                    await gateway.kill()
                    await gateway.start()
                # On a busy machine no life may be long enough for a send: the last one is, before it ends too.
                while len(ledger.known_sent) <= KNOWN_MIN:
                    await ledger.wait_changes(100)
                await gateway.kill()
                await gateway.start()
                load.is_over = True
            await finish(gateway, ledger, backend)
            assert await gateway.terminate() == 0


async def waiting(gateway: GatewayProcess) -> float:
    """Items the gateway has accepted and not settled yet."""
    metrics = await gateway.metrics()
    return sum(value for name, value in metrics.items() if name.startswith("gateway_waiting"))


async def finish(gateway: GatewayProcess, ledger: Ledger, backend: RecordingBackend) -> None:
    """Everything acked arrives, and the books say the same."""
    arrived: set[str] = set()

    def all_arrived() -> bool:
        arrived.update(*(events_of(body) for body in backend.messages + backend.events))
        return ledger.acked_webhooks <= arrived

    try:
        async with asyncio.timeout(60):
            await backend.wait_for(all_arrived)
            while not ledger.acked_pushes <= set(ledger.at_node):
                await ledger.wait_changes(1)
            while await waiting(gateway):
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        lost = sorted(ledger.acked_webhooks - arrived) + sorted(ledger.acked_pushes - set(ledger.at_node))
        pytest.fail(f"{len(lost)} acked and lost: {lost[:20]}")
    m = await gateway.metrics()
    assert m["gateway_conservation_difference"] == 0
    assert m['gateway_accepted_total{kind="send"}'] >= len(ledger.acked_pushes)
    assert len(ledger.acked_webhooks) > 100, "the load was no load"
    assert len(ledger.acked_pushes) > 100, "the load was no load"
    assert any(len(events_of(body)) > 2 for body in backend.events), "no receipts were batched"
    assert len(ledger.known_sent) > KNOWN_MIN, f"{len(ledger.known_sent)} known to be sent"
    again = [name for name, times in ledger.known_sent.items() if ledger.at_node.count(name) != times]
    assert again == [], "known to be sent, and sent again"


@pytest.mark.timeout(240)
async def test_ten_kills_under_load_lose_nothing_acked(tmp_path: Path) -> None:
    await crash_repeatedly(tmp_path, kills=10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1500)
async def test_two_hundred_kills_under_load_lose_nothing_acked(tmp_path: Path) -> None:
    await crash_repeatedly(tmp_path, kills=200, seed=2)

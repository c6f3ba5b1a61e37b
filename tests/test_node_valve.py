"""The receipt valve never forgets what it has switched off at the node, whoever refuses, fails or is killed."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest
from builders import Disk, MemoryStore, turns
from conftest import PAYLOADS
from harness import RecordingBackend, running_gateway

from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock
from gateway.config import ConfigError, load
from gateway.dialects.onprem import OnPrem
from gateway.errors import NodeError, StoreError
from gateway.events import TpsKind
from gateway.http.client import HttpClient, Response
from gateway.node.client import NodeClient
from gateway.node.switches import ReceiptSwitches, Refused, Webhooks
from gateway.node.valve import NOTE, RETRY_MAX_NS, RETRY_MIN_NS, ReceiptValve
from gateway.node.valve_rule import (
    CLOSE_AFTER_NS,
    REST_NS,
)
from gateway.sim.node import SimNode
from gateway.sim.receipts import ReceiptModel
from gateway.store.protocol import Change

TICK_NS = 100 * NS_PER_MS
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# -- the switches


class FakeWebApp:
    """A WebApp with the answers a test gives it, by method; otherwise one that keeps what it is told."""

    def __init__(self, *, delivered: bool = True, read: bool = True) -> None:
        self.webhooks = {
            "url": "https://gateway.example.org/hook",
            "max_concurrent_requests": 24,
            "message": {"sent": True, "delivered": delivered, "read": read},
        }
        self.answers: dict[str, Response | NodeError] = {}
        self.is_patched_unheard = False
        """A PATCH is carried out and its answer lost."""
        self.calls: list[str] = []
        self.patches: list[dict[str, bool]] = []

    def message(self) -> dict[str, bool]:
        message = self.webhooks["message"]
        assert isinstance(message, dict)
        return message

    async def call(self, method: str, path: str, body: bytes = b"") -> Response:
        assert path == "/v1/settings/application"
        self.calls.append(method)
        await asyncio.sleep(0)
        answer = self.answers.get(method)
        if isinstance(answer, NodeError):
            raise answer
        if answer is not None:
            return answer
        if method == "GET":
            return Response(200, {}, orjson.dumps({"settings": {"application": {"webhooks": self.webhooks}}}))
        # Replaced, not merged: the hardest reading of what a PATCH does to a nested object.
        self.webhooks = orjson.loads(body)["webhooks"]
        self.patches.append(self.message())
        if self.is_patched_unheard:
            raise NodeError("timed out", was_sent=True)
        return Response(200, {}, b"{}")


def answer(status: int, body: bytes = b"{}") -> Response:
    return Response(status, {}, body)


async def test_the_published_settings_are_read() -> None:
    node = FakeWebApp()
    node.answers["GET"] = answer(200, (PAYLOADS / "api_onprem_settings_application.json").read_bytes())
    webhooks = await ReceiptSwitches(node).read()
    assert isinstance(webhooks, Webhooks)
    assert webhooks.on() == ["delivered"]


async def test_a_write_changes_the_named_receipts_and_nothing_else() -> None:
    node = FakeWebApp(read=False)
    switches = ReceiptSwitches(node)
    webhooks = await switches.read()
    assert isinstance(webhooks, Webhooks)
    assert await switches.write(webhooks, ["delivered"], is_on=False) is None
    assert node.webhooks == {
        "url": "https://gateway.example.org/hook",
        "max_concurrent_requests": 24,
        "message": {"sent": True, "delivered": False, "read": False},
    }


OLD = orjson.dumps(
    {"settings": {"application": {"webhooks": {"url": "https://x", "max_concurrent_requests": 6}}}}
)


@pytest.mark.parametrize(
    ("given_answer", "words"),
    [
        (answer(403), "HTTP 403, GATEWAY_NODE_USER must be an admin"),
        (answer(401), "HTTP 401, GATEWAY_NODE_USER must be an admin"),
        (answer(404), "HTTP 404"),
        (answer(200, OLD), "v2.41.2"),
        (answer(200, b'{"settings":{"application":{}}}'), "v2.41.2"),
        (answer(200, b'{"settings":{"application":{"webhooks":{"message":{"sent":true}}}}}'), "v2.41.2"),
        (answer(200, b'{"settings":{"application":{"webhooks":{"message":true}}}}'), "v2.41.2"),
    ],
)
async def test_what_asking_again_does_not_change_is_a_refusal(given_answer: Response, words: str) -> None:
    node = FakeWebApp()
    node.answers["GET"] = given_answer
    refused = await ReceiptSwitches(node).read()
    assert isinstance(refused, Refused)
    assert words in refused.reason


@pytest.mark.parametrize(
    "given_answer",
    [answer(s) for s in (302, 408, 429, 500, 503)]
    + [answer(200, b) for b in (b"", b"<html>", b"[]", b"\xff")],
)
async def test_what_passes_is_no_refusal(given_answer: Response) -> None:
    node = FakeWebApp()
    node.answers["GET"] = given_answer
    with pytest.raises(NodeError):
        await ReceiptSwitches(node).read()


# -- the valve


class Run:
    """Runs of a gateway, one after the other, on one disk and at one node."""

    def __init__(self, node: FakeWebApp | None = None) -> None:
        self.node = node or FakeWebApp()
        self.disk = Disk()
        self.clock = FakeClock()
        self.start()

    def start(self, *, is_enabled: bool = True) -> None:
        """A new process: all it knows is on the disk."""
        self.store = store = MemoryStore(self.clock, self.disk)
        self.valve = ReceiptValve(
            ReceiptSwitches(self.node),
            store.recovered.notes.get(NOTE, b""),
            lambda note: store.submit(Change(notes={NOTE: note})),
            self.clock,
            is_enabled=is_enabled,
        )

    def press(self, pressure: float, duration_ns: int) -> None:
        """Pressure for a while, without an act in between."""
        for _ in range(duration_ns // TICK_NS):
            self.clock.advance_ns(TICK_NS)
            self.valve.note(pressure, self.clock.now_ns())

    async def overrun(self) -> None:
        """Pressure until it is time to close, and the act."""
        self.press(1.0, CLOSE_AFTER_NS + TICK_NS)
        await self.valve.act()

    async def wait(self) -> None:
        """Let pass what the valve waits for, and act."""
        wait_ns = self.valve.wait_ns()
        assert wait_ns is not None, "the valve waits for nothing"
        self.clock.advance_ns(wait_ns)
        await self.valve.act()


@pytest.mark.parametrize(
    ("delivered", "read"), [(True, True), (True, False), (False, True)], ids=["both", "delivered", "read"]
)
async def test_closed_both_are_off_and_open_they_are_what_they_were(delivered: bool, read: bool) -> None:
    run = Run(FakeWebApp(delivered=delivered, read=read))
    await run.overrun()
    assert run.node.message() == {"sent": True, "delivered": False, "read": False}
    assert (run.valve.is_closed, run.valve.since_ms) == (True, run.clock.wall_ms())
    assert run.valve.changes == {"off": 1, "on": 0}
    await run.wait()
    assert run.node.message() == {"sent": True, "delivered": delivered, "read": read}
    assert (run.valve.is_closed, run.valve.since_ms) == (False, None)
    assert run.valve.changes == {"off": 1, "on": 1}
    assert len(run.node.patches) == 2
    assert run.disk.notes[NOTE] == b""


async def test_says_when_it_closes_and_for_how_long_it_was_closed(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    with caplog.at_level(logging.INFO, "gateway.node.valve"):
        await run.overrun()
        await run.wait()
    closed, opened = caplog.records
    assert (closed.levelname, closed.__dict__["receipts"]) == ("WARNING", ["delivered", "read"])
    assert (opened.levelname, opened.__dict__["closed_s"]) == ("INFO", REST_NS // NS_PER_S)


async def test_idle_it_asks_the_node_nothing_and_waits_for_nothing() -> None:
    run = Run()
    await run.valve.act()
    run.press(0.9, 600 * NS_PER_S)
    await run.valve.act()
    assert (run.node.calls, run.valve.wait_ns(), run.disk.notes) == ([], None, {})


async def test_it_is_on_disk_before_the_node_is_told() -> None:
    run = Run()
    run.store.holds_commits = True
    run.press(1.0, CLOSE_AFTER_NS + TICK_NS)
    acting = asyncio.create_task(run.valve.act())
    await turns()
    assert run.node.calls == ["GET"]
    run.store.commit()
    await acting
    assert run.node.calls == ["GET", "PATCH"]


async def test_a_store_that_fails_keeps_the_node_from_being_told() -> None:
    run = Run()
    run.store.fail()
    with pytest.raises(StoreError):
        await run.overrun()
    assert run.node.patches == []


@pytest.mark.parametrize("is_enabled", [True, False], ids=["enabled", "disabled"])
async def test_killed_between_node_and_restore_the_next_run_restores(is_enabled: bool) -> None:
    run = Run(FakeWebApp(read=False))
    await run.overrun()
    since_ms = run.valve.since_ms
    run.clock.advance_ns(40 * NS_PER_S)
    run.start(is_enabled=is_enabled)
    assert (run.valve.is_closed, run.valve.since_ms) == (True, since_ms)
    assert run.valve.wait_ns() == (REST_NS - 40 * NS_PER_S if is_enabled else 0)
    await run.wait()
    assert run.node.message() == {"sent": True, "delivered": True, "read": False}
    assert not run.valve.is_closed
    run.start()
    assert not run.valve.is_closed
    assert run.valve.wait_ns() is None


async def test_killed_between_disk_and_node_the_next_run_asks_and_changes_nothing() -> None:
    run = Run()
    run.node.answers["PATCH"] = NodeError("killed before it was sent", was_sent=False)
    await run.overrun()
    assert run.disk.notes[NOTE] != b""
    del run.node.answers["PATCH"]
    run.start()
    await run.wait()
    assert run.node.patches == []
    assert run.node.message() == {"sent": True, "delivered": True, "read": True}
    assert (run.valve.is_closed, run.disk.notes[NOTE]) == (False, b"")
    run.clock.advance_ns(REST_NS)
    await run.overrun()
    assert run.valve.is_closed, "and it can close again"


async def test_killed_between_restore_and_disk_the_next_run_finds_it_done() -> None:
    run = Run()
    await run.overrun()
    run.store.fail()
    with pytest.raises(StoreError):
        await run.wait()
    assert run.node.message()["delivered"]
    run.start(is_enabled=False)
    await run.wait()
    assert (run.valve.is_closed, len(run.node.patches)) == (False, 2)


async def test_an_answer_that_did_not_come_is_asked_for_again_later_and_later() -> None:
    run = Run()
    run.node.answers["PATCH"] = NodeError("timed out", was_sent=True)
    await run.overrun()
    waits = []
    for _ in range(8):
        waits.append(run.valve.wait_ns())
        run.press(1.0, (waits[-1] or 0) + TICK_NS)
        await run.valve.act()
    assert waits == [min(RETRY_MIN_NS << n, RETRY_MAX_NS) for n in range(8)]
    assert run.node.patches == []
    del run.node.answers["PATCH"]
    run.press(1.0, RETRY_MAX_NS)
    await run.valve.act()
    assert run.node.message() == {"sent": True, "delivered": False, "read": False}
    assert run.valve.changes == {"off": 1, "on": 0}
    assert run.valve.wait_ns() == REST_NS, "the rest counts from when it was done"
    run.node.answers["GET"] = answer(503)
    await run.wait()
    assert run.valve.wait_ns() == RETRY_MIN_NS, "after a success the waits begin anew"


async def test_before_its_time_it_is_not_asked_again() -> None:
    run = Run()
    run.node.answers["GET"] = answer(503)
    await run.overrun()
    run.clock.advance_ns(RETRY_MIN_NS - 1)
    await run.valve.act()
    assert run.node.calls == ["GET"]
    run.clock.advance_ns(1)
    await run.valve.act()
    assert run.node.calls == ["GET", "GET"]


async def test_what_may_have_been_switched_off_is_restored_when_the_overrun_is_over() -> None:
    """The node did it and its answer was lost, then it was away until the pressure was gone."""
    run = Run()
    run.node.is_patched_unheard = True
    await run.overrun()
    assert not run.node.message()["delivered"]
    run.node.is_patched_unheard = False
    run.node.answers["GET"] = NodeError("away", was_sent=False)
    for _ in range(20):
        await run.wait()
    del run.node.answers["GET"]
    await run.wait()
    assert run.node.message() == {"sent": True, "delivered": True, "read": True}
    assert not run.valve.is_closed


@pytest.mark.parametrize(
    "refusal", [answer(403), answer(404), answer(200, OLD)], ids=["no admin", "404", "old"]
)
async def test_a_node_that_refuses_is_logged_once_and_asked_no_more(
    refusal: Response, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    run.node.answers["GET"] = refusal
    for _ in range(5):
        await run.overrun()
        run.clock.advance_ns(2 * REST_NS)
    assert run.node.calls == ["GET"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert (run.valve.is_closed, run.valve.wait_ns(), run.disk.notes) == (False, None, {})
    run.start()
    await run.overrun()
    assert run.node.calls == ["GET", "GET"], "until a restart"


async def test_a_refused_change_is_no_longer_noted_once_the_node_says_that_nothing_changed() -> None:
    run = Run()
    run.node.answers["PATCH"] = answer(400)
    await run.overrun()
    assert run.valve.wait_ns() == 0
    await run.valve.act()
    assert (run.valve.is_closed, run.valve.wait_ns(), run.disk.notes) == (False, None, {NOTE: b""})


async def test_a_restore_that_is_refused_is_tried_at_every_rest_until_it_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its user was an admin when it closed; the customer must not stay without receipts for ever."""
    run = Run()
    await run.overrun()
    caplog.clear()
    run.node.answers["GET"] = answer(403)
    await run.wait()
    for _ in range(3):
        assert run.valve.wait_ns() == REST_NS
        await run.wait()
    assert len(caplog.records) == 1
    assert run.valve.is_closed
    del run.node.answers["GET"]
    await run.wait()
    assert run.node.message()["delivered"]
    assert (run.valve.is_closed, run.valve.wait_ns()) == (False, None)
    await run.overrun()
    assert not run.valve.is_closed, "it gave up until a restart"


async def test_receipts_that_are_off_already_are_not_ours_to_restore() -> None:
    run = Run(FakeWebApp(delivered=False, read=False))
    await run.overrun()
    assert (run.valve.is_closed, run.disk.notes, run.node.calls) == (False, {}, ["GET"])
    assert run.valve.wait_ns() == REST_NS
    run.clock.advance_ns(REST_NS)
    await run.valve.act()
    assert run.valve.wait_ns() is None
    assert run.node.patches == []


async def test_disabled_it_never_closes() -> None:
    run = Run()
    run.start(is_enabled=False)
    await run.overrun()
    assert (run.node.calls, run.valve.wait_ns()) == ([], None)


@asynccontextmanager
async def working(valve: ReceiptValve) -> AsyncIterator[None]:
    task = asyncio.create_task(valve.work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_task_acts_when_pressure_says_so_and_by_the_clock() -> None:
    run = Run()
    async with working(run.valve):
        await turns()
        run.press(1.0, CLOSE_AFTER_NS + TICK_NS)
        await turns()
        assert run.valve.is_closed
        run.clock.advance_ns(REST_NS)
        await turns()
        assert run.valve.is_closed, "its timer is not the fake clock's"
        run.valve.note(0.1, run.clock.now_ns())
        await turns()
        assert not run.valve.is_closed


class HastyClock(FakeClock):
    """Three minutes pass between any two looks at it: what is waited for is soon due, and the real timer short."""

    def now_ns(self) -> int:
        self.advance_ns(180 * NS_PER_S)
        return super().now_ns()


async def test_the_task_retries_and_opens_by_its_timer_alone() -> None:
    run = Run()
    await run.overrun()
    run.clock = HastyClock(run.clock.now_ns(), run.clock.wall_ms())
    run.start()
    run.node.answers["GET"] = answer(503)
    async with working(run.valve):
        while run.node.calls.count("GET") < 4:
            await asyncio.sleep(0)
        assert run.valve.is_closed
        del run.node.answers["GET"]
        while run.valve.is_closed:
            await asyncio.sleep(0)
    assert run.node.message()["delivered"]


async def test_the_task_ends_when_the_store_has_failed() -> None:
    run = Run()
    run.store.fail()
    run.press(1.0, CLOSE_AFTER_NS + TICK_NS)
    await run.valve.work()
    assert run.node.patches == []


# -- the simulated node, over HTTP

SURE = ReceiptModel(delivered_ratio=1.0, read_ratio=1.0, time_scale=0.001)


@asynccontextmanager
async def client_of(node: SimNode) -> AsyncIterator[NodeClient]:
    http = HttpClient(10_000, connections=4, tls=NO_TLS)
    client = NodeClient(http, node.url, "/v1/messages", OnPrem(), user="admin", password="secret-of-the-sim")
    try:
        yield client
    finally:
        await client.close()


def simulated(client: NodeClient) -> Run:
    run = Run()
    run.node = client  # type: ignore[assignment]
    run.start()
    return run


async def test_the_simulated_node_makes_no_receipts_while_the_valve_is_closed() -> None:
    async with SimNode(tps=100, receipts=SURE) as node, client_of(node) as client:
        run = simulated(client)
        await run.overrun()
        assert run.valve.is_closed
        text = b'{"to":"15550100111","type":"text","text":{"body":"hi"}}'
        assert (await client.send(text)).status == 201

        async def served(kind: TpsKind, count: int) -> None:
            while node.number.statistics().served[kind] < count:
                await asyncio.sleep(0.005)

        await served(TpsKind.SEND, 1)
        while node.number.statistics().scheduled:
            await asyncio.sleep(0.005)
        assert node.number.statistics().served[TpsKind.DELIVERED] == 0
        run.clock.advance_ns(REST_NS)
        await run.valve.act()
        assert not run.valve.is_closed
        assert (await client.send(text)).status == 201
        await served(TpsKind.READ, 1)
        assert node.number.statistics().served[TpsKind.DELIVERED] == 1


async def test_the_simulated_node_keeps_its_other_settings() -> None:
    async with SimNode(webhook_url="http://127.0.0.1:1/") as node, client_of(node) as client:
        before = orjson.dumps(node.settings.document)
        run = simulated(client)
        await run.overrun()
        assert not node.settings.is_reported("delivered")
        assert node.settings.is_reported("sent")
        await run.wait()
        assert orjson.dumps(node.settings.document) == before


@pytest.mark.parametrize("switch", ["is_admin", "has_receipt_switches"])
async def test_the_simulated_node_refuses(switch: str) -> None:
    async with SimNode() as node, client_of(node) as client:
        node.faults.set(switch, value=False)
        run = simulated(client)
        await run.overrun()
        assert (run.valve.is_closed, run.valve.wait_ns(), run.disk.notes) == (False, None, {})


async def test_an_expired_token_is_renewed_for_the_settings() -> None:
    async with SimNode() as node, client_of(node) as client:
        await client.login()
        node.expire_tokens()
        run = simulated(client)
        await run.overrun()
        assert (run.valve.is_closed, client.logins) == (True, 2)


# -- the gateway


async def test_a_gateway_restores_what_a_run_before_it_had_switched_off(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), SimNode(user="admin", password="a-password") as node:
        variables = {"NODE_URL": node.url, "NODE_USER": "admin", "NODE_PASSWORD": "a-password"}
        async with running_gateway(tmp_path, backend.port, **variables, NODE_RECEIPT_VALVE="true") as gateway:
            parts = gateway.gateway.parts
            assert parts.valve is not None
            assert (await gateway.metrics())["gateway_node_receipts_switched_off"] == 0
            # Five seconds of pressure, told at once and afterwards.
            now_ns = parts.clock.now_ns()
            for at_ns in range(now_ns - CLOSE_AFTER_NS, now_ns + 1, TICK_NS):
                parts.valve.note(1.0, at_ns)
            while not (await gateway.metrics())['gateway_node_receipts_switched_total{to="off"}']:
                await asyncio.sleep(0)
            assert (await gateway.metrics())["gateway_node_receipts_switched_off"] == 1
        assert not node.settings.is_reported("delivered")
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            while (await gateway.metrics())["gateway_node_receipts_switched_off"]:
                await asyncio.sleep(0)
            assert (await gateway.metrics())['gateway_node_receipts_switched_total{to="on"}'] == 1
        assert node.settings.is_reported("delivered")
        assert node.settings.is_reported("read")


def test_the_cloud_has_no_such_switch() -> None:
    variables = {"GATEWAY_DIALECT": "cloud", "GATEWAY_NODE_TOKEN": "t", "GATEWAY_NODE_PHONE_ID": "1"}
    assert not load(variables).node_receipt_valve
    with pytest.raises(
        ConfigError, match="GATEWAY_NODE_RECEIPT_VALVE=true: GATEWAY_DIALECT=cloud has no such"
    ):
        load(variables | {"GATEWAY_NODE_RECEIPT_VALVE": "true"})

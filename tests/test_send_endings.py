"""What the backend is told of its sends by a whole gateway: those that fail, and receipts before the answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from builders import onprem_body, push_body, status
from harness import Harness, RecordingBackend, running_gateway
from process import GatewayProcess

LOGIN = {"users": [{"token": "t", "expires_after": "2099-01-01 00:00:00+00:00"}]}
REFUSED = {"errors": [{"code": 1013, "title": "User is not valid"}]}
NO_DELIVERED = {"X-Gateway-Receipts": "failed"}
PARK = {"X-Gateway-Uncertain": "park"}


def taken(message_id: str = "gBGG1") -> web.Response:
    """The node's answer to a send that it takes."""
    return web.json_response({"messages": [{"id": message_id}]}, status=201)


def refused() -> web.Response:
    """The node's answer to a send that it refuses for good."""
    return web.json_response(REFUSED, status=400)


class Node:
    """A node whose answers to sends a test decides."""

    def __init__(self) -> None:
        self.sends: list[bytes] = []
        self.port = 0
        self.answer: Callable[[bytes], Awaitable[web.Response]] = self._take
        self.changed = asyncio.Condition()

    async def _take(self, _body: bytes) -> web.Response:
        return taken(f"gBGG{len(self.sends)}")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Node"]:
        """Serve on loopback."""
        app = web.Application()
        app.router.add_post("/v1/users/login", self._login)
        app.router.add_post("/v1/messages", self._send)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _login(self, _request: web.Request) -> web.Response:
        return web.json_response(LOGIN)

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.sends.append(body)
        async with self.changed:
            self.changed.notify_all()
        return await self.answer(body)

    async def wait_sends(self, count: int) -> None:
        """Wait until so many sends have come."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.sends) >= count)


@contextlib.asynccontextmanager
async def whole(directory: Path, **variables: str) -> AsyncIterator[tuple[Harness, Node, RecordingBackend]]:
    """A gateway between a node and a backend."""
    backend, node = RecordingBackend(), Node()
    async with backend.serving(), node.serving():
        variables = {"NODE_URL": f"http://127.0.0.1:{node.port}", "TPS": "1000", **variables}
        async with running_gateway(directory, backend.port, **variables) as gateway:
            yield gateway, node, backend


async def push(gateway: Harness, **headers: str) -> str:
    """Push a send; our id."""
    code, answer = await gateway.push(push_body(), **headers)
    assert code == 202, answer
    send_id: str = json.loads(answer)["messages"][0]["id"]
    return send_id


def statuses(backend: RecordingBackend) -> list[dict[str, Any]]:
    """All that the event webhook was told."""
    return [item for body in backend.events for item in json.loads(body)["statuses"]]


# -- what failed is told


async def test_a_send_that_fails_is_told_to_the_event_webhook_and_costs_no_tps(tmp_path: Path) -> None:
    async with whole(tmp_path) as (gateway, node, backend):

        async def refuse(_body: bytes) -> web.Response:
            return refused()

        node.answer = refuse
        send_id = await push(gateway)
        await backend.wait_for(lambda: len(backend.events) == 1)
        metrics = await gateway.settle()
    (told,) = statuses(backend)
    assert (told["id"], told["status"], told["errors"][0]["code"]) == (send_id, "failed", 1013)
    assert told["gateway"] == {
        "id": send_id,
        "outcome": "failed",
        "reason": "HTTP 400 (1013): User is not valid",
    }
    assert metrics['gateway_accepted_total{kind="failed"}'] == 1
    assert metrics['gateway_outcome_total{kind="failed",outcome="delivered"}'] == 1
    assert metrics['gateway_ended_sends_told_total{outcome="failed"}'] == 1
    assert metrics["gateway_conservation_difference"] == 0
    arrivals = ("receive", "delivered", "read")
    assert sum(metrics[f'gateway_tps_events_total{{kind="{kind}"}}'] for kind in arrivals) == 0


@pytest.mark.parametrize(
    ("headers", "variables"),
    [({"X-Gateway-Receipts": "none"}, {}), ({}, {"EVENT_WEBHOOK_URL": "off"})],
)
async def test_nobody_is_told_who_does_not_want_to_know(
    tmp_path: Path, headers: dict[str, str], variables: dict[str, str]
) -> None:
    async with whole(tmp_path, **variables) as (gateway, node, backend):

        async def refuse(_body: bytes) -> web.Response:
            return refused()

        node.answer = refuse
        await push(gateway, **headers)
        await node.wait_sends(1)
        metrics = await gateway.settle()
    assert backend.events == []
    assert metrics['gateway_outcome_total{kind="send",outcome="failed"}'] == 1
    assert metrics['gateway_accepted_total{kind="failed"}'] == 0


async def test_an_instant_reply_that_fails_is_told_too(tmp_path: Path) -> None:
    async with whole(tmp_path) as (gateway, node, backend):

        async def refuse(_body: bytes) -> web.Response:
            return refused()

        async def reply(body: bytes) -> web.Response:
            if b"messages" not in body:
                return web.Response()
            return web.json_response({"type": "text", "text": {"body": "hello"}})

        node.answer, backend.answer = refuse, reply
        item = {"from": "15550100111", "id": "m1", "type": "text", "text": {"body": "hi"}}
        assert await gateway.webhook(onprem_body([item])) == 200
        await backend.wait_for(lambda: len(backend.events) == 1)
        await gateway.settle()
    assert statuses(backend)[0]["recipient_id"] == "15550100111"


async def test_what_is_to_be_told_survives_a_restart(tmp_path: Path) -> None:
    async def refuse_sends(_body: bytes) -> web.Response:
        return refused()

    async def unavailable(_body: bytes) -> web.Response:
        return web.Response(status=503)

    async with whole(tmp_path) as (gateway, node, backend):
        node.answer, backend.answer = refuse_sends, unavailable
        send_id = await push(gateway)
        await node.wait_sends(1)
        while not (await gateway.metrics())['gateway_accepted_total{kind="failed"}']:
            await asyncio.sleep(0)
    async with whole(tmp_path) as (gateway, _, backend):
        await backend.wait_for(lambda: len(backend.events) == 1)
        metrics = await gateway.settle()
    assert [item["id"] for item in statuses(backend)] == [send_id]
    assert metrics["gateway_conservation_difference"] == 0


# -- nobody knows


async def test_killed_in_the_middle_a_send_that_must_not_go_twice_has_failed_and_is_told(
    tmp_path: Path,
) -> None:
    """Kill -9 while the node has the request: whether it took it nobody knows."""
    backend, node = RecordingBackend(), Node()

    async def hang(_body: bytes) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    node.answer = hang
    async with backend.serving(), node.serving():
        process = GatewayProcess(
            tmp_path,
            TPS="1000",
            NODE_URL=f"http://127.0.0.1:{node.port}",
            MESSAGE_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/messages",
            EVENT_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/events",
            PUSH_TOKENS="a-token-of-the-tests",
        )
        async with process:
            ids = {}
            for policy in ("park", "resend"):
                ids[policy] = await push_to(process, policy)
            await node.wait_sends(2)
            await process.kill()
            node.answer = node._take
            await process.start()
            await backend.wait_for(lambda: len(backend.events) == 1)
            await node.wait_sends(3)
            while (metrics := await process.metrics())['gateway_waiting{kind="send"}']:
                await asyncio.sleep(0)
            assert metrics["gateway_conservation_difference"] == 0
            assert metrics['gateway_outcome_total{kind="send",outcome="failed"}'] == 1
            assert metrics['gateway_outcome_total{kind="send",outcome="delivered"}'] == 1
            assert await process.terminate() == 0
    (told,) = statuses(backend)
    assert told["id"] == ids["park"]
    assert told["gateway"]["reason"].startswith("uncertain: ")
    assert [b"park" in body for body in node.sends].count(True) == 1, "not again"
    assert [b"resend" in body for body in node.sends].count(True) == 2


async def push_to(process: GatewayProcess, policy: str) -> str:
    """Push a send with a policy, which is also its text and makes its recipient; our id."""
    import aiohttp  # noqa: PLC0415

    headers = {"Authorization": "Bearer a-token-of-the-tests", "X-Gateway-Uncertain": policy}
    body = push_body(to=f"1555010{len(policy)}", text={"body": policy})
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{process.ingest}/v1/messages", data=body, headers=headers) as answer,
    ):
        assert answer.status == 202
        send_id: str = (await answer.json())["messages"][0]["id"]
        return send_id


@pytest.mark.parametrize(("default", "headers"), [("park", {}), ("resend", PARK)])
async def test_a_cut_connection_fails_a_send_that_must_not_go_twice(
    tmp_path: Path, default: str, headers: dict[str, str]
) -> None:
    async def cut(_body: bytes) -> web.Response:
        raise web.HTTPBadGateway

    async with whole(tmp_path, UNCERTAIN=default) as (gateway, node, backend):
        node.answer = cut
        send_id = await push(gateway, **headers)
        await backend.wait_for(lambda: len(backend.events) == 1)
        metrics = await gateway.settle()
    assert len(node.sends) == 1
    assert statuses(backend)[0]["gateway"] == {
        "id": send_id,
        "outcome": "failed",
        "reason": "uncertain: HTTP 502",
    }
    assert metrics["gateway_sends_uncertain_total"] == 1


async def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    async with whole(tmp_path) as (gateway, _, _):
        code, answer = await gateway.push(push_body(), **{"X-Gateway-Uncertain": "maybe"})
    assert code == 400
    assert b"X-Gateway-Uncertain must be one of resend, park, not 'maybe'" in answer


# -- receipts before the answer


async def test_a_receipt_before_the_answer_of_its_send_is_acked_and_held_until_its_mask_is_known(
    tmp_path: Path,
) -> None:
    may_answer = asyncio.Event()

    async def late(_body: bytes) -> web.Response:
        await may_answer.wait()
        return taken("gBGG-late")

    async with whole(tmp_path) as (gateway, node, backend):
        await push(gateway)
        await node.wait_sends(1)  # it is called gBGG1
        while not (await gateway.metrics())['gateway_outcome_total{kind="send",outcome="delivered"}']:
            await asyncio.sleep(0)
        node.answer = late
        send_id = await push(gateway, **NO_DELIVERED)
        await node.wait_sends(2)
        assert await gateway.webhook(onprem_body(statuses=[status("gBGG-late")])) == 200
        assert await gateway.webhook(onprem_body(statuses=[status("gBGG1", "read")])) == 200
        await backend.wait_for(lambda: len(backend.events) == 1)
        assert [item["id"] for item in statuses(backend)] == ["gBGG1"]
        metrics = await gateway.metrics()
        assert metrics["gateway_receipts_early"] == 1
        assert metrics['gateway_waiting{kind="delivered"}'] == 1
        may_answer.set()
        metrics = await gateway.settle()
        headers = {"Authorization": "Bearer a-token-of-the-tests"}
        async with gateway.session.get(f"{gateway.ingest}/v1/receipts/{send_id}", headers=headers) as answer:
            known = await answer.json()
    assert [item["id"] for item in statuses(backend)] == ["gBGG1"]
    assert metrics['gateway_outcome_total{kind="delivered",outcome="shed"}'] == 1
    assert metrics["gateway_receipts_early"] == 0
    assert metrics["gateway_conservation_difference"] == 0
    assert (known["id"], known["delivered"]["count"]) == ("gBGG-late", 1)


async def test_a_receipt_of_another_message_goes_on_once_the_send_has_its_answer(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def late(_body: bytes) -> web.Response:
        await may_answer.wait()
        return refused()

    async with whole(tmp_path) as (gateway, node, backend):
        node.answer = late
        await push(gateway, **NO_DELIVERED)
        await node.wait_sends(1)
        assert await gateway.webhook(onprem_body(statuses=[status("gBGG-old")])) == 200
        while not (await gateway.metrics())["gateway_receipts_early"]:
            await asyncio.sleep(0)
        assert backend.events == []
        may_answer.set()
        await backend.wait_for(lambda: len(backend.events) == 2)
        await gateway.settle()
    assert {item["status"] for item in statuses(backend)} == {"delivered", "failed"}


async def test_without_a_mask_a_receipt_goes_on_before_the_answer(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def late(_body: bytes) -> web.Response:
        await may_answer.wait()
        return taken("gBGG-late")

    async with whole(tmp_path) as (gateway, node, backend):
        node.answer = late
        await push(gateway)
        await node.wait_sends(1)
        assert await gateway.webhook(onprem_body(statuses=[status("gBGG-late")])) == 200
        await backend.wait_for(lambda: len(backend.events) == 1)
        may_answer.set()
        await gateway.settle()


@pytest.mark.parametrize(("retention", "ledger"), [("1h", "2h"), ("2h", "1h")])
async def test_our_id_leads_to_a_messages_receipts_as_long_as_there_are_any(
    tmp_path: Path, retention: str, ledger: str
) -> None:
    async with whole(tmp_path, SEND_RETENTION=retention, LEDGER_AGE=ledger) as (gateway, _, _):
        limits = gateway.gateway._memory_limits()
        now_ms = limits.seen_before_ms + gateway.gateway.parts.settings.dedupe_age_ms
        assert now_ms - limits.sent_before_ms == 2 * 3600 * 1000

"""The push API over HTTP, with a node behind it, over restarts and kills."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from harness import TOKEN, Harness, running_gateway
from process import GatewayProcess

from gateway.clock import SystemClock

ANSWER_HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Node:
    """A node that takes every send, once it may."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._changed = asyncio.Condition()
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Node"]:
        app = web.Application()
        app.router.add_post("/v1/users/login", self._login)
        app.router.add_post("/v1/messages", self._send)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _login(self, _request: web.Request) -> web.Response:
        return web.json_response({"users": [{"token": "t", "expires_after": "2099-01-01 00:00:00+00:00"}]})

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self.may_answer.wait()
        self.sent.append(body["text"]["body"])
        async with self._changed:
            self._changed.notify_all()
        answer = {"messages": [{"id": f"wa/{body['text']['body']}="}], "meta": {"version": "2.43"}}
        return web.json_response(answer, status=201)

    async def wait_for(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.sent) >= count)


def body(text: str, to: str = "15550100111") -> dict[str, Any]:
    return {"to": to, "type": "text", "text": {"body": text}}


def encoded(text: str, to: str = "15550100111") -> bytes:
    return json.dumps(body(text, to)).encode()


async def ended(gateway: Harness, send_id: str) -> dict[str, Any]:
    """What is told of a send once it has ended."""
    while True:
        status, answer = await gateway.ask("GET", f"/v1/messages/{send_id}")
        assert status == 200
        found: dict[str, Any] = json.loads(answer)
        if found["settled_ms"] is not None:
            return found
        await asyncio.sleep(0)


async def test_the_answer_of_the_node_comes_back_with_prefer_wait(tmp_path: Path) -> None:
    async with (
        Node().serving() as node,
        running_gateway(tmp_path, 1, NODE_URL=node.url, TPS="1000") as gateway,
    ):
        headers = {"Prefer": "wait=30", "X-Gateway-Receipts": "read"}
        status, answer = await gateway.push(encoded("a"), **headers)
        assert (status, json.loads(answer)) == (
            201, {"messages": [{"id": "wa/a="}], "meta": {"version": "2.43"}},
        )  # fmt: skip
        receipt = {"statuses": [{"id": "wa/a=", "status": "read", "recipient_id": "15550100111"}]}
        assert await gateway.webhook(json.dumps(receipt).encode()) == 200
        _, found = await gateway.ask("GET", "/v1/messages/wa/a=")
        told = json.loads(found)
        assert (told["state"], told["node_id"], told["receipts"]["status"]) == ("sent", "wa/a=", "read")
        assert told["receipts"]["read"]["count"] == 1


async def test_a_stop_answers_those_who_wait_for_the_node(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:  # there is no node
        pushing = asyncio.create_task(gateway.push(encoded("a"), Prefer="wait=60"))
        while not (await gateway.metrics())['gateway_waiting{kind="send"}']:
            await asyncio.sleep(0)
        gateway.gateway.stop()
        status, _ = await pushing
    assert status == 202


async def test_a_batch_is_pushed_asked_for_reclassed_and_cancelled(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:
        messages = {"messages": [body(str(n), f"1555{n}") for n in range(5)] + [{}]}
        headers = {"X-Gateway-Priority": "bulk"}
        status, answer = await gateway.ask(
            "POST", "/v1/messages/batch", json.dumps(messages).encode(), **headers
        )
        told = json.loads(answer)
        assert status == 202
        assert [message.get("position") for message in told["messages"]] == [0, 1, 2, 3, 4, None]
        path = f"/v1/batches/{told['batch_id']}"
        status, answer = await gateway.ask("PATCH", path, b"", **{"X-Gateway-Priority": "normal"})
        assert (status, json.loads(answer)["changed"]) == (200, 5)
        status, answer = await gateway.ask("GET", f"{path}?limit=2")
        page = json.loads(answer)
        assert (status, page["counts"], len(page["messages"])) == (200, {"queued": 5}, 2)
        assert {message["class"] for message in page["messages"]} == {"normal"}
        first = told["messages"][0]["id"]
        # As if it had met trouble: three such tell of an outage, and one that has ended must not be of them for ever.
        troubled = gateway.gateway.parts.sender._in_trouble
        troubled.add(int(first.rpartition("-")[2]))
        status, answer = await gateway.ask("DELETE", f"/v1/messages/{first}")
        assert (status, json.loads(answer)["state"]) == (200, "cancelled")
        assert troubled == set()
        status, answer = await gateway.ask("DELETE", path)
        assert (status, json.loads(answer)["cancelled"]) == (200, 4)
        metrics = await gateway.metrics()
        assert metrics['gateway_outcome_total{kind="send",outcome="cancelled"}'] == 5
        assert metrics['gateway_waiting{kind="send"}'] == 0
        assert metrics["gateway_conservation_difference"] == 0
        for method in ("GET", "PATCH", "DELETE"):
            assert (await gateway.ask(method, path, Authorization="Bearer no"))[0] == 401


async def test_an_expired_send_is_not_sent_and_a_scheduled_one_is_on_time(tmp_path: Path) -> None:
    async with Node().serving() as node, running_gateway(tmp_path, 1, NODE_URL=node.url) as gateway:
        # The first second grants nothing: what lives a millisecond can't go.
        _, answer = await gateway.push(encoded("short"), **{"X-Gateway-TTL": "1ms"})
        short = json.loads(answer)["messages"][0]["id"]
        at_ms = (SystemClock().wall_ms() // 1000 + 2) * 1000
        status, answer = await gateway.push(
            encoded("later"), **{"X-Gateway-Not-Before": str(at_ms // 1000), "X-Gateway-Priority": "high"}
        )
        assert (status, json.loads(answer)["gateway"]["position"]) == (202, None)
        later = json.loads(answer)["messages"][0]["id"]
        assert (await ended(gateway, short))["state"] == "expired"
        found = await ended(gateway, later)
        assert (found["state"], found["not_before_ms"]) == ("sent", at_ms)
        assert found["settled_ms"] >= at_ms
        metrics = await gateway.metrics()
        assert metrics['gateway_outcome_total{kind="send",outcome="expired"}'] == 1
        assert metrics["gateway_conservation_difference"] == 0
    assert node.sent == ["later"]


async def test_keys_cancels_and_schedules_survive_a_kill(tmp_path: Path) -> None:
    async with Node().serving() as node, aiohttp.ClientSession(headers=ANSWER_HEADERS) as session:
        gateway = GatewayProcess(tmp_path, NODE_URL=node.url, TPS="1000", PUSH_TOKENS=TOKEN)

        async def ask(
            method: str, path: str, data: bytes = b"", **headers: str
        ) -> tuple[int, dict[str, Any]]:
            url = f"{gateway.ingest}{path}"
            async with session.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.json()

        async with gateway:
            later = str(int(time.time()) + 3600)
            ids = []
            for number in range(20):
                status, told = await ask(
                    "POST", "/v1/messages", encoded(f"s{number}"),
                    **{"X-Gateway-Not-Before": later, "Idempotency-Key": f"key-{number}"},
                )  # fmt: skip
                assert status == 202
                ids.append(told["messages"][0]["id"])
                if number % 10 == 9:
                    assert (await ask("DELETE", f"/v1/messages/{ids[-1]}"))[0] == 200
                    await gateway.kill()
                    await gateway.start()
            batch = {"messages": [body(f"b{n}", f"1555{n}") for n in range(50)]}
            raw = json.dumps(batch).encode()
            status, first = await ask("POST", "/v1/messages/batch", raw, **{"Idempotency-Key": "batch"})
            assert status == 202
            await gateway.kill()
            await gateway.start()
            assert await ask("POST", "/v1/messages/batch", raw, **{"Idempotency-Key": "batch"}) == (
                202,
                first,
            )
            await node.wait_for(50)
            for number, send_id in enumerate(ids):
                status, told = await ask(
                    "POST", "/v1/messages", encoded(f"s{number}"),
                    **{"X-Gateway-Not-Before": later, "Idempotency-Key": f"key-{number}"},
                )  # fmt: skip
                assert (status, told["messages"][0]["id"]) == (202, send_id)
                _, found = await ask("GET", f"/v1/messages/{send_id}")
                assert found["state"] == ("cancelled" if number % 10 == 9 else "scheduled")
            status, _ = await ask("POST", "/v1/messages", encoded("other"), **{"Idempotency-Key": "key-1"})
            assert status == 409
            metrics = await gateway.metrics()
            assert metrics["gateway_conservation_difference"] == 0
            assert metrics['gateway_accepted_total{kind="send"}'] == 70
            assert metrics['gateway_outcome_total{kind="send",outcome="cancelled"}'] == 2
    assert set(node.sent) == {f"b{n}" for n in range(50)}

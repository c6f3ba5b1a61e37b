"""Receipts through the whole gateway with real sockets: webhook off, masks, policies, pressure, and the ledger's answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from builders import push_body
from harness import TOKEN, Harness, RecordingBackend, running_gateway

GROUP = "15550100999-1690000000"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def message(number: int, size: int = 1) -> bytes:
    item = {"from": "1", "id": f"in-{number}", "type": "text", "text": {"body": "x" * size}}
    return json.dumps({"messages": [item]}).encode()


def receipts(message_id: str, *words: str, who: str = "1", group: str = "") -> bytes:
    status = {"id": message_id, "recipient_id": who, "timestamp": "1700000000"}
    if group:
        status["group_id"] = group
    return json.dumps({"statuses": [{**status, "status": word} for word in words]}).encode()


def told(backend: RecordingBackend) -> list[tuple[str, str, str]]:
    """(message id, phone, status) of all that reached the event webhook one for one."""
    statuses = [status for body in backend.events for status in json.loads(body).get("statuses", ())]
    return [(status["id"], status["recipient_id"], status["status"]) for status in statuses]


async def ask(gateway: Harness, message_id: str) -> tuple[int, Any]:
    url = f"{gateway.ingest}/v1/receipts/{message_id}"
    async with gateway.session.get(url, headers=BEARER) as answer:
        return answer.status, await answer.json()


async def metrics_when(gateway: Harness, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """The metrics as soon as they are as they should be."""
    while not holds(metrics := await gateway.metrics()):
        await asyncio.sleep(0.01)
    return metrics


@contextlib.asynccontextmanager
async def serving_node() -> AsyncIterator[str]:
    """A node that takes every send and names it after its recipient; its URL."""

    async def login(_request: web.Request) -> web.Response:
        return web.json_response({"users": [{"token": "t", "expires_after": "2099-01-01 00:00:00+00:00"}]})

    async def send(request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"messages": [{"id": f"to/{body['to']}=="}]}, status=201)

    app = web.Application()
    app.router.add_post("/v1/users/login", login)
    app.router.add_post("/v1/messages", send)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def push(gateway: Harness, to: str, **headers: str) -> str:
    """Push and wait until the node has named it; our id."""
    status, body = await gateway.push(push_body(to), **headers)
    assert status == 202
    queue_id: str = json.loads(body)["messages"][0]["id"]
    await gateway.settle()
    return queue_id


# -- the event webhook is off


async def test_with_the_event_webhook_off_only_messages_go_and_the_ledger_knows_the_rest(
    tmp_path: Path,
) -> None:
    backend = RecordingBackend()
    async with (
        backend.serving(),
        running_gateway(tmp_path, backend.port, EVENT_WEBHOOK_URL="off") as gateway,
    ):
        assert await gateway.webhook(receipts("m1", "sent", "delivered", "failed")) == 200
        assert await gateway.webhook(message(1)) == 200
        metrics = await gateway.settle()
        status, known = await ask(gateway, "m1")
    assert backend.messages == [message(1)]
    assert backend.events == []
    dropped = "gateway_receipts_dropped_total"
    assert metrics[f'{dropped}{{class="sent",reason="off"}}'] == 1
    assert metrics[f'{dropped}{{class="delivered",reason="off"}}'] == 1
    assert metrics[f'{dropped}{{class="other",reason="off"}}'] == 1
    assert metrics['gateway_outcome_total{kind="failed",outcome="shed"}'] == 1
    assert metrics["gateway_conservation_difference"] == 0
    assert (status, known["status"], known["failed"]) == (200, "delivered", 1)


# -- masks


async def test_the_sender_chooses_receipts_and_that_outlives_a_restart(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), serving_node() as node:
        async with running_gateway(tmp_path, backend.port, NODE_URL=node) as gateway:
            masked = await push(gateway, "111", **{"X-Gateway-Receipts": "failed"})
            await push(gateway, "222")
            for to in ("111", "222"):
                assert await gateway.webhook(receipts(f"to/{to}==", "sent", "delivered", "failed")) == 200
            metrics = await gateway.settle()
        assert metrics['gateway_receipts_dropped_total{class="sent",reason="mask"}'] == 1
        async with running_gateway(tmp_path, backend.port, NODE_URL=node) as gateway:
            for to in ("111", "222"):
                assert await gateway.webhook(receipts(f"to/{to}==", "read")) == 200
            await gateway.settle()
            by_theirs, by_ours = await ask(gateway, "to/111=="), await ask(gateway, masked)
    assert sorted(told(backend)) == [
        ("to/111==", "1", "failed"),
        *(("to/222==", "1", word) for word in ("delivered", "failed", "read", "sent")),
    ]
    status, known = by_theirs
    assert (status, known["id"], known["status"], known["failed"]) == (200, "to/111==", "read", 1)
    assert by_ours == (200, {"queue_id": masked, **known})


@pytest.mark.parametrize("asked", ["everything", "", "read,failed"])
async def test_a_mask_that_is_none_is_refused(asked: str, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:
        status, body = await gateway.push(push_body("111"), **{"X-Gateway-Receipts": asked})
        assert status == 400
        assert b"X-Gateway-Receipts" in body


# -- policies


async def test_a_policy_drops_one_class_and_the_ledger_knows_it(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with (
        backend.serving(),
        running_gateway(tmp_path, backend.port, RECEIPTS_DELIVERED="drop") as gateway,
    ):
        assert await gateway.webhook(receipts("m1", "sent", "delivered", "read")) == 200
        assert await gateway.webhook(receipts("m2", "delivered", group=GROUP)) == 200
        metrics = await gateway.settle()
        assert (await ask(gateway, "m1"))[1]["delivered"]["count"] == 1
    assert sorted(told(backend)) == [("m1", "1", "read"), ("m1", "1", "sent"), ("m2", "1", "delivered")]
    assert metrics['gateway_receipts_dropped_total{class="delivered",reason="policy"}'] == 1
    assert metrics['gateway_outcome_total{kind="delivered",outcome="shed"}'] == 1


async def test_a_policy_batches_what_comes_together(tmp_path: Path) -> None:
    """The batch is full at five, and would else wait for a minute."""
    backend = RecordingBackend()
    variables = {"RECEIPTS_READ": "batch", "BATCH_RECEIPTS": "5", "BATCH_DELAY": "1m"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        for number in range(5):
            assert await gateway.webhook(receipts(f"m{number}", "read")) == 200
        await gateway.settle()
    assert len(backend.events) == 1
    assert told(backend) == [(f"m{number}", "1", "read") for number in range(5)]


async def test_a_policy_folds_what_is_overtaken(tmp_path: Path) -> None:
    backend = RecordingBackend()
    variables = {"RECEIPTS_DELIVERED": "fold", "BATCH_DELAY": "0s"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        assert await gateway.webhook(receipts("m1", "read")) == 200
        assert await gateway.webhook(receipts("m1", "delivered")) == 200
        metrics = await gateway.settle()
    assert told(backend) == [("m1", "1", "read")]
    assert metrics['gateway_receipts_dropped_total{class="delivered",reason="folded"}'] == 1


async def test_a_policy_digests_a_group_into_totals_that_only_grow(tmp_path: Path) -> None:
    backend = RecordingBackend()
    variables = {"RECEIPTS_GROUP": "digest", "BATCH_DELAY": "0s"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        for number in range(30):
            assert await gateway.webhook(receipts("m1", "delivered", who=str(number), group=GROUP)) == 200
        assert await gateway.webhook(receipts("m1", "read", who="0", group=GROUP)) == 200
        metrics = await gateway.settle()
    digests = [json.loads(body)["gateway"]["receipts"] for body in backend.events]
    assert all(len(digest) == 1 and digest[0]["id"] == "m1" for digest in digests)
    totals = [digest[0]["delivered"] for digest in digests]
    assert max(totals) == 30
    assert max(digest[0]["read"] for digest in digests) == 1
    assert {digest[0]["group_id"] for digest in digests} == {GROUP}
    assert metrics['gateway_receipts_dropped_total{class="group_delivered",reason="digested"}'] == 30
    assert metrics["gateway_conservation_difference"] == 0


# -- questions


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
async def test_who_may_not_push_may_not_ask(headers: dict[str, str], tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:
        assert await gateway.webhook(receipts("m1", "failed")) == 200
        url = f"{gateway.ingest}/v1/receipts"
        async with gateway.session.get(f"{url}/m1", headers=headers) as answer:
            assert answer.status == 401
            assert "m1" not in await answer.text()
        async with gateway.session.post(url, json={"ids": ["m1"]}, headers=headers) as answer:
            assert answer.status == 401


async def test_one_and_many_can_be_asked(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        odd = "wamid.HBg/+=="
        assert await gateway.webhook(receipts(odd, "read")) == 200
        assert (await ask(gateway, "wamid.HBg/%2B=="))[0] == 200
        assert (await ask(gateway, "nobody"))[0] == 404
        url = f"{gateway.ingest}/v1/receipts"
        async with gateway.session.post(url, json={"ids": ["nobody", odd]}, headers=BEARER) as answer:
            assert answer.status == 200
            nobody, known = (await answer.json())["receipts"]
        assert nobody is None
        assert (known["id"], known["read"]["count"]) == (odd, 1)
        async with gateway.session.post(url, json={"ids": []}, headers=BEARER) as answer:
            assert answer.status == 400


# -- pressure


async def fill_the_disk(gateway: Harness) -> None:
    """With messages that nobody takes, up to about nine tenths of 16 MiB."""
    for number in range(15):
        assert await gateway.webhook(message(number, 1_000_000)) == 200


async def fails_messages(body: bytes) -> web.Response:
    return web.Response(status=503 if b"messages" in body else 200)


def pressed(metrics: dict[str, float]) -> bool:
    return metrics["gateway_ladder_rung"] >= 4


async def test_a_full_disk_sheds_receipts_in_order_and_keeps_every_message(tmp_path: Path) -> None:
    backend = RecordingBackend()
    backend.answer = fails_messages
    async with (
        backend.serving(),
        running_gateway(tmp_path, backend.port, STORE_MAX_BYTES="16MiB") as gateway,
    ):
        await fill_the_disk(gateway)
        metrics = await metrics_when(gateway, pressed)
        assert metrics['gateway_pressure_cause{cause="disk"}'] == metrics["gateway_pressure"] > 0.5
        assert await gateway.webhook(receipts("g1", "read", group=GROUP)) == 200
        assert await gateway.webhook(receipts("m1", "failed")) == 200
        await backend.wait_for(lambda: len(backend.events) == 1)
        metrics = await gateway.metrics()
        assert metrics['gateway_receipts_dropped_total{class="group_read",reason="overload"}'] == 1
        assert (await ask(gateway, "g1"))[1]["read"]["count"] == 1
        assert metrics['gateway_waiting{kind="message"}'] == 15
        assert metrics["gateway_conservation_difference"] == 0
    assert told(backend) == [("m1", "1", "failed")]


async def test_a_dry_run_only_counts_what_it_would_have_shed(tmp_path: Path) -> None:
    backend = RecordingBackend()
    backend.answer = fails_messages
    variables = {"STORE_MAX_BYTES": "16MiB", "DRY_RUN": "batch,fold,digest,shed,refuse"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        await fill_the_disk(gateway)
        await metrics_when(gateway, pressed)
        assert await gateway.webhook(receipts("g1", "read", group=GROUP)) == 200
        await backend.wait_for(lambda: len(backend.events) == 1)
        metrics = await gateway.metrics()
    assert told(backend) == [("g1", "1", "read")]
    would_have = "gateway_limiter_would_have_total"
    for limiter, count in {"batch": 1, "fold": 0, "digest": 1, "shed": 1, "age": 0, "backend_tps": 0}.items():
        assert metrics[f'{would_have}{{limiter="{limiter}"}}'] == count
    assert not any(name.startswith("gateway_receipts_dropped_total") for name in metrics)


async def test_the_page_shows_pressure_ladder_ledger_and_gates(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1, LEDGER_MESSAGES="1000") as gateway:
        assert await gateway.webhook(receipts("m1", "read")) == 200
        metrics = await gateway.metrics()
    assert metrics["gateway_pressure"] == 0
    assert metrics["gateway_ladder_rung"] == 0
    assert metrics["gateway_ladder_climbs_total"] == 0
    causes = {"receipt_wait", "message_wait", "store_lag", "loop_lag", "queue", "disk", "memory"}
    assert {name for name in metrics if name.startswith("gateway_pressure_cause")} == {
        f'gateway_pressure_cause{{cause="{cause}"}}' for cause in causes
    }
    assert metrics["gateway_ledger_messages"] == 1
    assert metrics["gateway_ledger_bytes"] > 40_000
    assert metrics["gateway_ledger_evicted_total"] == 0
    for destination in ("message", "event"):
        labels = f'{{destination="{destination}"}}'
        highest = {"message": 48, "event": 16}[destination]
        assert 1 <= metrics[f"gateway_backend_limit{labels}"] <= highest
        assert metrics[f"gateway_backend_limit_max{labels}"] == highest
        assert metrics[f"gateway_backend_limit_lowered_total{labels}"] >= 0
        assert metrics[f"gateway_backend_rate_waiting{labels}"] == 0
        assert f"gateway_backend_in_flight{labels}" in metrics

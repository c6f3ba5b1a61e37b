"""The whole gateway in this process, with real sockets: what a node and a backend see of it."""

import asyncio
import hashlib
import hmac
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from conftest import PAYLOADS
from harness import TOKEN, Harness, RecordingBackend, running_gateway
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import StoreBusyError

MESSAGE = (PAYLOADS / "onprem_text.json").read_bytes()


def message(number: int, sender: str = "15550100111") -> bytes:
    """A webhook with one text message."""
    item = {"from": sender, "id": f"m{number}", "type": "text", "text": {"body": str(number)}}
    return json.dumps({"messages": [item]}).encode()


def receipt(number: int) -> bytes:
    """A webhook with one delivery receipt."""
    return json.dumps(
        {"statuses": [{"id": f"s{number}", "status": "delivered", "recipient_id": "1"}]}
    ).encode()


async def test_ack_does_not_wait_for_the_backend(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(_body: bytes) -> web.Response:
        await release.wait()
        return web.Response()

    backend = RecordingBackend()
    backend.answer = slow
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        for number in range(100):
            assert await gateway.webhook(message(number)) == 200
        assert backend.messages == []
        release.set()
        await backend.wait_for(lambda: len(backend.messages) == 100)
        await gateway.settle()


async def test_backend_that_is_down_gets_everything_once_it_is_up(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving():
        port = backend.port
    async with running_gateway(tmp_path, port) as gateway:
        for number in range(50):
            assert await gateway.webhook(message(number)) == 200
        async with backend.serving(port):
            await backend.wait_for(lambda: len(backend.messages) >= 50)
            metrics = await gateway.settle()
    assert {json.loads(body)["messages"][0]["id"] for body in backend.messages} == {
        f"m{n}" for n in range(50)
    }
    assert metrics['gateway_outcome_total{kind="message",outcome="delivered"}'] == 50


async def test_dead_event_webhook_does_not_touch_messages(tmp_path: Path) -> None:
    async def refuse_receipts(body: bytes) -> web.Response:
        return web.Response(status=500 if b"statuses" in body else 200)

    backend = RecordingBackend()
    backend.answer = refuse_receipts
    async with (
        backend.serving(),
        running_gateway(tmp_path, backend.port, BACKEND_CONCURRENCY="2") as gateway,
    ):
        for number in range(40):
            assert await gateway.webhook(receipt(number)) == 200
        for number in range(40):
            assert await gateway.webhook(message(number)) == 200
        await backend.wait_for(lambda: len(backend.messages) == 40)
        metrics = await gateway.metrics()
        assert metrics['gateway_waiting{kind="delivered"}'] == 40
        assert metrics["gateway_conservation_difference"] == 0


async def test_overflow_stays_on_disk_and_comes_back_in_order(tmp_path: Path) -> None:
    is_up = asyncio.Event()

    async def until_up(_body: bytes) -> web.Response:
        await is_up.wait()
        return web.Response()

    backend = RecordingBackend()
    backend.answer = until_up
    variables = {"QUEUE_SLOTS": "16", "BACKEND_CONCURRENCY": "1"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        for number in range(200):
            assert await gateway.webhook(message(number)) == 200
        metrics = await gateway.metrics()
        labels = 'side="inbound",class="message"'
        assert metrics[f"gateway_queue_depth{{{labels}}}"] == 16
        assert metrics[f"gateway_queue_on_disk{{{labels}}}"] == 200 - 16 - 1
        is_up.set()
        await gateway.settle()
    assert [json.loads(body)["messages"][0]["id"] for body in backend.messages] == [
        f"m{n}" for n in range(200)
    ]


async def test_what_waits_survives_a_restart_and_duplicates_stay_known(tmp_path: Path) -> None:
    async def refuse(_body: bytes) -> web.Response:
        return web.Response(status=503)

    backend = RecordingBackend()
    backend.answer = refuse
    async with backend.serving():
        async with running_gateway(tmp_path, backend.port) as gateway:
            for number in range(20):
                assert await gateway.webhook(message(number)) == 200
        backend.answer = RecordingBackend().answer
        async with running_gateway(tmp_path, backend.port) as gateway:
            await backend.wait_for(lambda: len(backend.messages) == 20)
            assert await gateway.webhook(message(3)) == 200
            metrics = await gateway.settle()
    assert len(backend.messages) == 20
    assert metrics['gateway_duplicates_total{kind="message"}'] == 1
    assert metrics['gateway_accepted_total{kind="message"}'] == 20
    assert metrics["gateway_conservation_difference"] == 0


async def test_second_gateway_on_one_store_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:
        with pytest.raises(StoreBusyError, match="in use by another process"):
            async with running_gateway(tmp_path, 1):
                pass
        assert await gateway.webhook(message(1)) == 200


async def test_instant_reply_is_sent_to_the_chat_before_pushes(tmp_path: Path) -> None:
    sent: list[dict[str, object]] = []
    all_sent = asyncio.Event()

    async def login(_request: web.Request) -> web.Response:
        return web.json_response({"users": [{"token": "t"}]})

    async def send(request: web.Request) -> web.Response:
        sent.append(await request.json())
        if len(sent) == 3:
            all_sent.set()
        return web.json_response({"messages": [{"id": f"wa{len(sent)}"}]}, status=201)

    app = web.Application()
    app.router.add_post("/v1/users/login", login)
    app.router.add_post("/v1/messages", send)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node_url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def reply(_body: bytes) -> web.Response:
        return web.json_response({"type": "text", "text": {"body": "hi back"}})

    backend = RecordingBackend()
    backend.answer = reply
    push = json.dumps({"to": "15550100999", "type": "text", "text": {"body": "news"}}).encode()
    async with backend.serving(), running_gateway(tmp_path, backend.port, NODE_URL=node_url) as gateway:
        # All within the first second, in which the budget grants nothing: then priority decides.
        ids = []
        for _ in range(2):
            status, answer = await gateway.push(push, **{"X-Gateway-Priority": "bulk"})
            assert status == 202
            ids.append(json.loads(answer)["messages"][0]["id"])
        assert await gateway.webhook(MESSAGE) == 200
        await all_sent.wait()
        metrics = await gateway.settle()
        headers = {"Authorization": "Bearer a-token-of-the-tests"}
        async with gateway.session.get(f"{gateway.ingest}/v1/messages/{ids[0]}", headers=headers) as found:
            status_of_send = await found.json()
    await runner.cleanup()
    assert sent[0] == {"to": "15550100111", "type": "text", "text": {"body": "hi back"}}
    assert [body["to"] for body in sent[1:]] == ["15550100999", "15550100999"]
    assert metrics["gateway_tps_window_max"] <= 10
    assert (status_of_send["state"], status_of_send["node_id"]) == ("sent", "wa2")


async def test_a_group_send_is_sized_tracked_and_cleared_by_its_receipts(tmp_path: Path) -> None:
    """The second message to a large group waits for the receipts of the first one, a single chat does not."""
    group, sent = "15550100999-1690000000", []
    asked: list[str] = []
    single_sent = asyncio.Event()

    async def login(_request: web.Request) -> web.Response:
        return web.json_response({"users": [{"token": "t"}]})

    async def info(request: web.Request) -> web.Response:
        asked.append(request.match_info["id"])
        participants = [str(member) for member in range(41)]
        return web.json_response({"groups": [{"creator": "0", "participants": participants}]})

    async def send(request: web.Request) -> web.Response:
        sent.append((await request.json())["to"])
        if sent[-1] != group:
            single_sent.set()
        return web.json_response({"messages": [{"id": f"wa{len(sent)}"}]}, status=201)

    app = web.Application()
    app.router.add_post("/v1/users/login", login)
    app.router.add_get("/v1/groups/{id}", info)
    app.router.add_post("/v1/messages", send)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port, NODE_URL=node_url) as gateway:
        for to in (group, group, "15550100111"):
            extra = {"recipient_type": "group"} if to == group else {}
            body = {"to": to, "type": "text", "text": {"body": "news"}, **extra}
            assert (await gateway.push(json.dumps(body).encode()))[0] == 202
        await single_sent.wait()
        # The second one is behind the first in its lane until the end of that is on disk; then it is held.
        while not (metrics := await gateway.metrics())["gateway_fanout_held"]:
            await asyncio.sleep(0)
        assert (asked, sent) == ([group], [group, "15550100111"])
        assert metrics["gateway_fanout_outstanding"] == 38
        assert metrics["gateway_fanout_held"] == 1
        assert metrics["gateway_group_sizes_known"] == 1
        receipts = [
            {"id": "wa1", "status": "delivered", "recipient_id": str(member), "group_id": group}
            for member in range(1, 39)
        ]
        assert await gateway.webhook(json.dumps({"statuses": receipts}).encode()) == 200
        metrics = await gateway.metrics()
        assert metrics["gateway_fanout_outstanding"] == 0
    await runner.cleanup()


async def test_metrics_page_is_what_prometheus_reads(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        assert await gateway.webhook(MESSAGE) == 200
        await gateway.settle()
        async with gateway.session.get(f"{gateway.admin}/metrics") as answer:
            page = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert {sample.labels["kind"] for sample in families["gateway_tps_used"].samples} == {
        "receive",
        "send",
        "delivered",
        "read",
    }
    assert sum(len(family.samples) for family in families.values()) < 500, "labels come from closed sets"


async def test_readiness_names_what_is_wrong(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, 1) as gateway:
        async with gateway.session.get(f"{gateway.admin}/readyz") as answer:
            assert answer.status == 200
            checks = (await answer.json())["checks"]
        assert set(checks) == {"started", "not_draining", "store", "store_has_room"}
        assert all(checks.values())


async def test_cloud_verification_and_signature(tmp_path: Path) -> None:
    backend = RecordingBackend()
    body = (PAYLOADS / "cloud_text_unicode.json").read_bytes()
    variables = {
        "DIALECT": "cloud",
        "NODE_PHONE_ID": "900000000000200",
        "NODE_TOKEN": "x" * 20,
        "WEBHOOK_APP_SECRET": "app-secret-of-the-tests",
        "WEBHOOK_VERIFY_TOKEN": "verify-token",
    }
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        url = f"{gateway.ingest}/webhook"
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "verify-token"}
        async with gateway.session.get(url, params=query) as answer:
            assert (answer.status, await answer.text()) == (200, "1158201444")
        async with gateway.session.get(url, params={**query, "hub.verify_token": "wrong"}) as answer:
            assert answer.status == 403
        assert await gateway.webhook(body) == 401
        signature = hmac.new(b"app-secret-of-the-tests", body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={signature}"}
        async with gateway.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200
        await gateway.settle()
    assert backend.messages == [body]


@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 413)])
async def test_webhook_body_limit_is_exact(size: int, status: int, tmp_path: Path) -> None:
    body = message(1)
    body = body[:-1] + b" " * (size - len(body)) + b"}"
    backend = RecordingBackend()
    async with (
        backend.serving(),
        running_gateway(tmp_path, backend.port, WEBHOOK_BODY_MAX="1KiB") as gateway,
    ):
        assert await gateway.webhook(body) == status


async def refuses_new_work(gateway: Harness) -> bool:
    """Whether the door is closed: at first with 503, then no connection is taken at all."""
    for number in range(100, 200):
        try:
            async with (
                aiohttp.ClientSession() as fresh,
                fresh.post(f"{gateway.ingest}/webhook", data=message(number)) as answer,
            ):
                assert answer.status == 503
        except aiohttp.ClientError:
            return True
    return False


async def test_drain_finishes_what_is_under_way_and_keeps_the_rest(tmp_path: Path) -> None:
    under_way = asyncio.Event()
    release = asyncio.Event()

    async def slow(_body: bytes) -> web.Response:
        under_way.set()
        await release.wait()
        return web.Response()

    backend = RecordingBackend()
    backend.answer = slow
    async with backend.serving():
        async with running_gateway(tmp_path, backend.port, BACKEND_CONCURRENCY="1") as gateway:
            assert await gateway.webhook(message(1)) == 200
            assert await gateway.webhook(message(2)) == 200
            await under_way.wait()
            gateway.gateway.stop()
            assert await refuses_new_work(gateway)
            release.set()
        assert [json.loads(body)["messages"][0]["id"] for body in backend.messages] == ["m1"]
        async with running_gateway(tmp_path, backend.port):
            await backend.wait_for(lambda: len(backend.messages) == 2)


async def test_requests_that_are_turned_away_are_counted_by_reason(tmp_path: Path) -> None:
    variables = {"WEBHOOK_APP_SECRET": "app-secret-of-the-tests", "WEBHOOK_BODY_MAX": "1KiB"}
    async with running_gateway(tmp_path, 1, **variables) as gateway:
        assert await gateway.webhook(message(1)) == 401
        assert await gateway.webhook(b" " * 1025) == 413
        metrics = await gateway.metrics()
    assert metrics['gateway_requests_refused_total{reason="signature"}'] == 1
    assert metrics['gateway_requests_refused_total{reason="body_large"}'] == 1


async def test_answer_that_breaks_off_after_its_status_counts_as_given(tmp_path: Path) -> None:
    """The backend has the message: asking again would make it handle it twice."""
    requests = 0
    all_in = asyncio.Event()

    async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        all_in.set()

    server = await asyncio.start_server(cut_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_gateway(tmp_path, port) as gateway:
        assert await gateway.webhook(message(1)) == 200
        await all_in.wait()
        metrics = await gateway.settle()
    assert requests == 1
    assert metrics['gateway_outcome_total{kind="message",outcome="delivered"}'] == 1


async def test_cloud_path_of_another_number_is_not_found(tmp_path: Path) -> None:
    variables = {"DIALECT": "cloud", "NODE_PHONE_ID": "900000000000200", "NODE_TOKEN": "x" * 20}
    body = json.dumps({"to": "1", "type": "text", "text": {"body": "x"}}).encode()
    headers = {"Authorization": "Bearer a-token-of-the-tests"}
    async with running_gateway(tmp_path, 1, **variables) as gateway:
        for phone_id, expected in (("900000000000200", 202), ("900000000000999", 404)):
            url = f"{gateway.ingest}/v23.0/{phone_id}/messages"
            async with gateway.session.post(url, data=body, headers=headers) as answer:
                assert answer.status == expected


async def test_a_send_that_waits_for_the_node_can_be_given_another_class(tmp_path: Path) -> None:
    """The pacer has it in hand already, but nothing was sent: nobody answers as the node."""
    body = json.dumps({"to": "1", "type": "text", "text": {"body": "x"}}).encode()
    async with running_gateway(tmp_path, 1) as gateway:
        pushed = json.loads((await gateway.push(body))[1])["messages"][0]["id"]
        while not gateway.gateway.parts.sends.taken():
            await asyncio.sleep(0)
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Gateway-Priority": "reply"}
        url = f"{gateway.ingest}/v1/messages/{pushed}"
        async with gateway.session.patch(url, headers=headers) as answer:
            assert (answer.status, (await answer.json())["class"]) == (200, "reply")


async def test_address_in_use_is_said_as_it_is(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "first", 1) as gateway:
        taken = f"127.0.0.1:{gateway.gateway.ingest_port}"
        with pytest.raises(OSError, match="address already in use"):
            async with running_gateway(tmp_path / "second", 1, LISTEN=taken):
                pass

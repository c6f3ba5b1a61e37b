"""Isolated, suspended, draining, and a webhook that is gone: by call and by command, over restarts too."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from builders import message, onprem_body, push_body
from harness import TOKEN, Harness, Operator, RecordingBackend, ok, running_gateway
from process import GatewayProcess, free_port

from gateway.sim.node import SimNode

RUNNING = {"state": ["running"], "isolated": False, "suspended": False, "draining": False, "gone": []}


def node_variables(node: SimNode) -> dict[str, str]:
    return {"NODE_URL": node.url, "NODE_USER": "admin", "NODE_PASSWORD": "secret-of-the-sim", "TPS": "1000"}


async def readiness(gateway: Harness) -> tuple[int, Any]:
    async with gateway.session.get(f"{gateway.admin}/readyz") as answer:
        return answer.status, json.loads(await answer.read())


def text(message_id: str) -> bytes:
    return onprem_body([message(message_id)])


async def sent(gateway: Harness) -> float:
    return (await gateway.metrics())['gateway_outcome_total{kind="send",outcome="delivered"}']


async def until_sent(gateway: Harness, count: int) -> None:
    """Until so many sends are at the node; it has no event of ours to wait for."""
    while await sent(gateway) < count:
        await asyncio.sleep(0.01)


async def test_isolated_stores_and_answers_and_forwards_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        assert await operator.ask("GET", "/v1/state") == (200, RUNNING)
        status, state = await operator.ask("POST", "/v1/state", {"state": "isolated"})
        assert (status, state) == (200, {**RUNNING, "state": ["isolated"], "isolated": True})
        assert await gateway.webhook(text("m1")) == 200
        assert (await readiness(gateway))[0] == 200, "work is taken"
        assert (await readiness(gateway))[1]["state"] == ["isolated"]
        metrics = await gateway.metrics()
        assert metrics['gateway_state{state="isolated"}'] == 1
        assert metrics['gateway_state{state="suspended"}'] == 0
        assert metrics['gateway_waiting{kind="message"}'] == 1
    assert backend.messages == []
    # It is as it was after a restart.
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        assert (await operator.ask("GET", "/v1/state"))[1]["isolated"]
        assert await gateway.webhook(text("m2")) == 200
        assert backend.messages == []
        assert await operator.ask("POST", "/v1/state", {"state": "running"}) == (200, RUNNING)
        await gateway.settle()
        assert backend.messages == [text("m1"), text("m2")]
        assert (await gateway.metrics())['gateway_state{state="isolated"}'] == 0


async def test_suspended_takes_pushes_and_sends_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), SimNode(tps=1000) as node:
        variables = node_variables(node)
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            assert (await gateway.push(push_body()))[0] == 202
            await until_sent(gateway, 1)
            operator = Operator(gateway)
            assert (await operator.ask("POST", "/v1/state", {"state": "suspended"}))[0] == 200
            assert (await gateway.push(push_body()))[0] == 202
            assert await gateway.webhook(text("m1")) == 200
            await backend.wait_for(lambda: backend.messages == [text("m1")])
            assert (await gateway.metrics())['gateway_state{state="suspended"}'] == 1
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            operator = Operator(gateway)
            assert (await operator.ask("GET", "/v1/state"))[1]["state"] == ["suspended"]
            assert await sent(gateway) == 1
            assert await operator.ask("POST", "/v1/state", {"state": "running"}) == (200, RUNNING)
            async with asyncio.timeout(20):
                await until_sent(gateway, 2)


async def test_both_combine_and_each_is_resumed_for_itself(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        await operator.ask("POST", "/v1/state", {"state": "suspended"})
        _, state = await operator.ask("POST", "/v1/state", {"state": "isolated"})
        assert state["state"] == ["isolated", "suspended"]
        _, state = await operator.ask("POST", "/v1/state", {"state": "running", "only": "suspended"})
        assert state["state"] == ["isolated"]
        _, state = await operator.ask("POST", "/v1/state", {"state": "running", "only": "isolated"})
        assert state == RUNNING


@pytest.mark.parametrize(
    "body", [{}, {"state": "off"}, {"state": "isolated", "for": 1}, {"state": "isolated", "only": "gone"}, []]
)
async def test_another_state_is_refused_and_changes_nothing(body: Any, tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        status, answer = await Operator(gateway).ask("POST", "/v1/state", body)
        assert status == 400
        assert isinstance(answer["error"], str)
        assert await Operator(gateway).ask("GET", "/v1/state") == (200, RUNNING)


async def test_without_a_token_or_as_a_page_in_a_browser_nothing_is_changed(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        assert (await operator.ask("POST", "/v1/state", {"state": "isolated"}, token=""))[0] == 401
        assert (await operator.ask("POST", "/v1/state", {"state": "isolated"}, token="another-token-of-16"))[
            0
        ] == 401
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
        url = f"{gateway.admin}/v1/state"
        async with gateway.session.post(url, data=b'{"state":"isolated"}', headers=headers) as answer:
            assert answer.status == 415
        assert await operator.ask("GET", "/v1/state", token="") == (200, RUNNING)


async def test_draining_by_call_ends_the_gateway_and_asking_twice_does_not_hurry(tmp_path: Path) -> None:
    """What is under way at the backend is finished although it was asked for again meanwhile."""
    backend = RecordingBackend()
    called, released = asyncio.Event(), asyncio.Event()

    async def hold(_body: bytes) -> web.Response:
        called.set()
        await released.wait()
        return web.Response()

    backend.answer = hold
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        assert await gateway.webhook(text("m1")) == 200
        await called.wait()
        operator = Operator(gateway)
        for _ in range(2):
            status, state = await operator.ask("POST", "/v1/state", {"state": "draining"})
            assert (status, state["state"]) == (200, ["draining"])
        status, ready = await readiness(gateway)
        assert (status, ready["checks"]["not_draining"], ready["state"]) == (503, False, ["draining"])
        released.set()
        await backend.wait_for(lambda: bool(backend.messages))
    assert backend.messages == [text("m1")]
    async with running_gateway(tmp_path, backend.port) as gateway:
        assert await Operator(gateway).ask("GET", "/v1/state") == (200, RUNNING), "it is not kept"
        assert (await gateway.metrics())['gateway_waiting{kind="message"}'] == 0


# -- a webhook that is gone


async def test_a_410_pauses_its_webhook_over_restarts_until_it_is_resumed(tmp_path: Path) -> None:
    backend = RecordingBackend()
    gone: list[bytes] = []

    async def answer(body: bytes) -> web.Response:
        gone.append(body)
        return web.Response(status=410)

    backend.answer = answer
    receipt = onprem_body(statuses=[{"id": "s1", "status": "read", "recipient_id": "1"}])
    async with backend.serving():
        async with running_gateway(tmp_path, backend.port) as gateway:
            assert await gateway.webhook(text("m1")) == 200
            async with asyncio.timeout(10):
                while not (await gateway.metrics())['gateway_destination_gone{destination="message"}']:
                    await asyncio.sleep(0.01)
            assert (await readiness(gateway))[1]["state"] == ["message webhook gone"]
            assert (await gateway.metrics())['gateway_destination_gone{destination="event"}'] == 0
            backend.answer = ok
            assert await gateway.webhook(receipt) == 200
            await backend.wait_for(lambda: bool(backend.events))
        backend_port = backend.port
        async with running_gateway(tmp_path, backend_port) as gateway:
            operator = Operator(gateway)
            assert await gateway.webhook(text("m2")) == 200
            assert (await operator.ask("GET", "/v1/state"))[1]["gone"] == ["message"]
            assert (gone, backend.messages) == ([text("m1")], [])
            await operator.ask("POST", "/v1/state", {"state": "running", "only": "gone"})
            await gateway.settle()
            assert backend.messages == [text("m1"), text("m2")]
        async with running_gateway(tmp_path, backend_port) as gateway:
            assert await Operator(gateway).ask("GET", "/v1/state") == (200, RUNNING)


async def test_a_webhook_with_another_url_is_not_gone_any_more(tmp_path: Path) -> None:
    backend = RecordingBackend()

    async def answer(_body: bytes) -> web.Response:
        return web.Response(status=410)

    backend.answer = answer
    async with backend.serving():
        async with running_gateway(tmp_path, backend.port) as gateway:
            assert await gateway.webhook(text("m1")) == 200
            async with asyncio.timeout(10):
                while (await Operator(gateway).ask("GET", "/v1/state"))[1]["gone"] != ["message"]:
                    await asyncio.sleep(0.01)
        backend.answer = ok
        url = f"http://127.0.0.1:{backend.port}/messages?v=2"
        async with running_gateway(tmp_path, backend.port, MESSAGE_WEBHOOK_URL=url) as gateway:
            await gateway.settle()
            assert backend.messages == [text("m1")]


# -- the commands


async def test_commands_switch_and_say_what_is_off(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        run = Operator(gateway).run
        assert await run("isolate") == (0, "State: isolated\n", "")
        assert await run("suspend") == (0, "State: isolated, suspended\n", "")
        assert await run("resume", "isolated") == (0, "State: suspended\n", "")
        status, out, _ = await run("resume", "--json")
        assert (status, json.loads(out)) == (0, RUNNING)


async def test_a_command_without_a_token_says_where_it_looks_for_one(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        status, out, err = await Operator(gateway).run("isolate", token="")
        assert (status, out) == (1, "")
        assert err == (
            "isolate: the gateway wants a push token; set GATEWAY_PUSH_TOKENS or GATEWAY_PUSH_TOKENS_FILE as it has it\n"
        )
        status, _, err = await Operator(gateway).run("isolate", token="another-token-of-16")
        assert status == 1
        assert err.startswith("isolate: refused (401): ")
        assert await Operator(gateway).ask("GET", "/v1/state") == (200, RUNNING)


async def test_drain_by_command_ends_the_process_with_0(tmp_path: Path) -> None:
    variables = {
        "PUSH_TOKENS": TOKEN,
        "MESSAGE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/",
        "NODE_URL": "http://127.0.0.1:1",
    }
    async with GatewayProcess(tmp_path, **variables) as process:
        assert await process.command("drain") == (0, "State: draining\n", "")
        assert await process.wait() == 0
        status, out, err = await process.command("drain")
        assert (status, out) == (1, "")
        assert err.startswith("drain: no gateway answers at 127.0.0.1:")

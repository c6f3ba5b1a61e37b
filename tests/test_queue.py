"""`GET /v1/queue` and `wa-gateway queue`: what waits, and each of the reasons for it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web
from builders import CONTACT, message, onprem_body, push_body
from harness import Harness, Operator, RecordingBackend, running_gateway
from process import free_port, run_command

from gateway.clock import NS_PER_S
from gateway.ops.queue_command import _WHY, _text


async def queues(gateway: Harness) -> dict[str, Any]:
    """The queues by destination, as anyone may see them."""
    status, report = await Operator(gateway).ask("GET", "/v1/queue", token="")
    assert status == 200
    return {queue["destination"]: queue for queue in report["queues"]}


def reasons(queue: dict[str, Any]) -> dict[str, tuple[int | None, int | None]]:
    return {why["reason"]: (why["ends_in_ms"], why["records"]) for why in queue["why"]}


async def test_nothing_waits_and_there_is_no_reason(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        found = await queues(gateway)
        assert list(found) == ["message", "event", "node"]
        assert [queue["why"] for queue in found.values()] == [[], [], []]
        assert [row["class"] for row in found["node"]["classes"]] == ["reply", "high", "normal", "bulk"]
        assert all(row["waiting"] == 0 and row["oldest_age_ms"] is None for row in found["node"]["classes"])


async def test_what_waits_is_counted_by_class_and_the_operators_switches_are_reasons(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        for state in ("isolated", "suspended"):
            await operator.ask("POST", "/v1/state", {"state": state})
        for number in range(3):
            assert await gateway.webhook(onprem_body([message(f"m{number}")])) == 200
        assert (await gateway.push(push_body(), **{"X-Gateway-Priority": "bulk"}))[0] == 202
        found = await queues(gateway)
        (row,) = found["message"]["classes"]
        assert (row["waiting"], row["in_memory"], row["on_disk"]) == (3, 3, 0)
        assert 0 <= row["oldest_age_ms"] < 60_000
        assert reasons(found["message"]) == {"isolated": (None, None)}
        assert reasons(found["event"]) == {}, "nothing waits there"
        assert {row["class"]: row["waiting"] for row in found["node"]["classes"]}["bulk"] == 1
        assert reasons(found["node"])["suspended"] == (None, None)
        assert CONTACT not in json.dumps(found)


async def test_a_dead_backend_and_its_breaker_are_reasons(tmp_path: Path) -> None:
    variables = {"BACKEND_BACKOFF_MIN": "1m", "BACKEND_BACKOFF_MAX": "1h"}
    async with running_gateway(tmp_path, free_port(), **variables) as gateway:
        for number in range(4):
            contact = f"1555010{number:04}"
            assert await gateway.webhook(onprem_body([message(f"m{number}", contact)])) == 200
        async with asyncio.timeout(20):
            while "breaker_open" not in (why := reasons((await queues(gateway))["message"])):
                await asyncio.sleep(0.01)
        ends_in_ms, _ = why["breaker_open"]
        assert ends_in_ms is not None
        assert 0 < ends_in_ms <= 5_000
        assert "retry" in why


async def test_a_full_backend_and_a_busy_contact_are_reasons(tmp_path: Path) -> None:
    backend = RecordingBackend()
    called, released = asyncio.Event(), asyncio.Event()

    async def hold(_body: bytes) -> web.Response:
        called.set()
        await released.wait()
        return web.Response()

    backend.answer = hold
    async with backend.serving(), running_gateway(tmp_path, backend.port, BACKEND_CONCURRENCY="1") as gateway:
        for number in range(3):
            assert await gateway.webhook(onprem_body([message(f"m{number}")])) == 200
        await called.wait()
        found = (await queues(gateway))["message"]
        assert found["under_way"] >= 1
        assert reasons(found)["backend_limit"] == (None, 1)
        released.set()
        await gateway.settle()


async def test_the_node_and_the_budget_are_reasons(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        parts = gateway.gateway.parts
        assert (await gateway.push(push_body()))[0] == 202
        assert "no_login" in reasons((await queues(gateway))["node"])
        parts.pacer.pause_all(30)
        parts.pacer.pause_bulk()
        parts.pacer.free_at_ns = parts.clock.now_ns() + 7 * NS_PER_S
        assert (await gateway.push(push_body(), **{"X-Gateway-Priority": "bulk"}))[0] == 202
        why = reasons((await queues(gateway))["node"])
        for reason, longest_ms in (("node_pause", 60_000), ("bulk_pause", 87_000_000), ("budget", 7_000)):
            ends_in_ms, _ = why[reason]
            assert ends_in_ms is not None
            assert 0 < ends_in_ms <= longest_ms
        assert why["bulk_pause"][1] == 1


async def test_the_command_says_it_in_words(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        operator = Operator(gateway)
        await operator.ask("POST", "/v1/state", {"state": "isolated"})
        assert await gateway.webhook(onprem_body([message("m1")])) == 200
        status, out, err = await operator.run("queue", token="")
        assert (status, err) == (0, "")
        lines = out.splitlines()
        assert lines[:3] == ["State: isolated", "", "To the message webhook, 0 under way"]
        assert lines[3].split()[:3] == ["message", "1", "waiting"]
        assert lines[4] == "  why: isolated: wa-gateway resume isolated"
        assert "To the node, 0 under way" in lines
        status, out, _ = await operator.run("queue", "--json")
        assert (status, json.loads(out)["state"]) == (0, ["isolated"])


async def test_the_command_without_a_gateway_ends_with_1() -> None:
    address = f"127.0.0.1:{free_port()}"
    status, out, err = await run_command({"GATEWAY_ADMIN_LISTEN": address}, "queue")
    assert (status, out) == (1, "")
    assert err.startswith(f"queue: no gateway answers at {address} (Connection refused); is it running")


def test_every_reason_has_words_and_a_time_where_it_has_one() -> None:
    why = [{"reason": reason, "ends_in_ms": 250_000, "records": 12} for reason in _WHY]
    queue = {"side": "outbound", "destination": "node", "under_way": 0, "classes": [], "why": why}
    text = _text({"state": ["running"], "queues": [queue]})
    said = [line for line in text.splitlines() if line.startswith("  why: ")]
    assert len(said) == len(_WHY)
    assert "{" not in text
    assert "  why: the number's TPS: the next send goes in 4 min 10 s" in said
    assert "  why: 12 wait for the time they were scheduled for" in said

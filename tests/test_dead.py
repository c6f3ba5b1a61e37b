"""Dead letters of a gateway that runs: listed, shown, accepted anew and discarded, by call and by command."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from builders import CONTACT, WALL_MS, inbound, message, onprem_body, push_body
from harness import Harness, Operator, RecordingBackend, ok, running_gateway

from gateway.cli import main
from gateway.sim.node import SimNode
from gateway.store.protocol import Change, Parked

OTHER = "4915112345678"


def text(message_id: str, sender: str = CONTACT) -> bytes:
    return onprem_body([message(message_id, sender)])


async def refuse(body: bytes) -> web.Response:
    return web.Response(status=422, text=f"no: {CONTACT}")


async def until(gateway: Harness, is_reached: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    async with asyncio.timeout(20):
        while not is_reached(metrics := await gateway.metrics()):
            await asyncio.sleep(0.01)
    return metrics


def dead(side: str) -> str:
    return f'gateway_dead_letters{{side="{side}"}}'


@pytest.fixture
async def refusing(tmp_path: Path) -> AsyncIterator[tuple[Harness, RecordingBackend]]:
    """A gateway whose backend has refused three messages, the second from another contact."""
    backend = RecordingBackend()
    backend.answer = refuse
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        for message_id, sender in (("m1", CONTACT), ("m2", OTHER), ("m3", CONTACT)):
            assert await gateway.webhook(text(message_id, sender)) == 200
            await gateway.settle()
        yield gateway, backend


async def test_the_list_says_what_happened_and_hides_whom_it_is_about(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, _ = refusing
    status, page = await Operator(gateway).ask("GET", "/v1/dead")
    assert status == 200
    first, second, third = page["dead"]
    assert {name: first[name] for name in ("side", "class", "reason", "attempts", "size_bytes")} == {
        "side": "inbound", "class": "message", "reason": "HTTP 422", "attempts": 1, "size_bytes": len(text("m1")),
    }  # fmt: skip
    assert [letter["contact"] for letter in (first, second, third)] == ["…", "49151…5678", "…"]
    assert (page["next"], page["total"]) == (None, {"inbound": 3, "outbound": 0})
    shown = json.dumps(page)
    assert CONTACT not in shown
    assert OTHER not in shown
    metrics = await gateway.metrics()
    assert metrics[dead("inbound")] == 3
    assert metrics['gateway_dead_letters_oldest_seconds{side="inbound"}'] >= 0
    assert metrics['gateway_outcome_total{kind="message",outcome="failed"}'] == 3


async def test_a_number_in_a_reason_is_hidden_too(refusing: tuple[Harness, RecordingBackend]) -> None:
    gateway, _ = refusing
    store = gateway.gateway.parts.store
    await store.submit(Change(parked=[Parked(inbound(store.next_seq()), f"no user {OTHER}", b"", WALL_MS)]))
    operator = Operator(gateway)
    _, page = await operator.ask("GET", "/v1/dead?reason=no+user")
    assert [letter["reason"] for letter in page["dead"]] == ["no user 49151…5678"]
    _, page = await operator.ask("GET", "/v1/dead?reason=no+user&content=true")
    assert [letter["reason"] for letter in page["dead"]] == [f"no user {OTHER}"]


async def test_content_is_shown_where_it_is_asked_for(refusing: tuple[Harness, RecordingBackend]) -> None:
    gateway, _ = refusing
    operator = Operator(gateway)
    _, page = await operator.ask("GET", "/v1/dead?content=true&limit=1")
    (letter,) = page["dead"]
    assert (letter["contact"], letter["body"], letter["answer"]) == (
        CONTACT,
        text("m1").decode(),
        f"no: {CONTACT}",
    )
    assert page["next"] == letter["id"]
    assert await operator.ask("GET", f"/v1/dead/{letter['id']}?content=true") == (200, letter)
    _, masked = await operator.ask("GET", f"/v1/dead/{letter['id']}")
    assert "body" not in masked
    assert CONTACT not in json.dumps(masked)


async def test_pages_follow_each_other(refusing: tuple[Harness, RecordingBackend]) -> None:
    gateway, _ = refusing
    operator = Operator(gateway)
    found, after = [], ""
    while after is not None:
        _, page = await operator.ask("GET", f"/v1/dead?limit=2{after and f'&after={after}'}")
        found += [letter["id"] for letter in page["dead"]]
        after = page["next"]
    assert len(found) == len(set(found)) == 3


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("side=inbound", 3),
        ("side=outbound", 0),
        (f"contact={OTHER}", 1),
        ("reason=422", 3),
        ("reason=500", 0),
        ("older_than_ms=3600000", 0),
        ("newer_than_ms=3600000", 3),
        (f"contact={CONTACT}&newer_than_ms=3600000&reason=http", 2),
    ],
)
async def test_the_list_is_of_those_asked_for(
    query: str, count: int, refusing: tuple[Harness, RecordingBackend]
) -> None:
    gateway, _ = refusing
    _, page = await Operator(gateway).ask("GET", f"/v1/dead?{query}")
    assert len(page["dead"]) == count


async def test_a_retry_brings_them_in_order_and_the_books_count_them_anew(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, backend = refusing
    backend.answer = ok
    operator = Operator(gateway)
    assert await operator.ask("POST", "/v1/dead/retry", {"everything": True}) == (200, {"retried": 3})
    metrics = await gateway.settle()
    assert sorted(backend.messages) == [text("m1"), text("m2", OTHER), text("m3")]
    of_contact = [body for body in backend.messages if body != text("m2", OTHER)]
    assert of_contact == [text("m1"), text("m3")]
    assert metrics[dead("inbound")] == 0
    assert metrics['gateway_accepted_total{kind="message"}'] == 6
    assert metrics['gateway_outcome_total{kind="message",outcome="failed"}'] == 3
    assert metrics['gateway_outcome_total{kind="message",outcome="delivered"}'] == 3
    assert metrics["gateway_conservation_difference"] == 0


async def test_what_fails_again_is_a_dead_letter_again_and_tried_once(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, _ = refusing
    operator = Operator(gateway)
    _, before = await operator.ask("GET", "/v1/dead")
    assert await operator.ask("POST", "/v1/dead/retry", {"reason": "HTTP 422"}) == (200, {"retried": 3})
    metrics = await gateway.settle()
    assert metrics[dead("inbound")] == 3
    _, after = await operator.ask("GET", "/v1/dead")
    ids = [{letter["id"] for letter in page["dead"]} for page in (before, after)]
    assert not ids[0] & ids[1]
    assert metrics["gateway_conservation_difference"] == 0


async def test_one_is_retried_by_its_id_and_the_answer_has_the_new_one(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, backend = refusing
    backend.answer = ok
    operator = Operator(gateway)
    _, page = await operator.ask("GET", "/v1/dead")
    second = page["dead"][1]["id"]
    status, answer = await operator.ask("POST", "/v1/dead/retry", {"ids": [second]})
    assert (status, answer["retried"], list(answer["new_ids"])) == (200, 1, [second])
    await gateway.settle()
    assert backend.messages == [text("m2", OTHER)]
    assert await operator.ask("POST", "/v1/dead/retry", {"ids": [second]}) == (
        200,
        {"retried": 0, "new_ids": {}},
    )


async def test_discarded_is_gone(refusing: tuple[Harness, RecordingBackend]) -> None:
    gateway, backend = refusing
    operator = Operator(gateway)
    _, page = await operator.ask("GET", "/v1/dead")
    first, *_ = (letter["id"] for letter in page["dead"])
    assert await operator.ask("DELETE", f"/v1/dead/{first}") == (200, {"discarded": 1})
    assert (await operator.ask("DELETE", f"/v1/dead/{first}"))[0] == 404
    assert (await operator.ask("GET", f"/v1/dead/{first}"))[0] == 404
    assert await operator.ask("POST", "/v1/dead/discard", {"contact": OTHER}) == (200, {"discarded": 1})
    metrics = await gateway.metrics()
    assert metrics[dead("inbound")] == 1
    assert metrics["gateway_conservation_difference"] == 0
    assert backend.messages == []


async def test_a_limit_takes_the_oldest(refusing: tuple[Harness, RecordingBackend]) -> None:
    gateway, backend = refusing
    backend.answer = ok
    operator = Operator(gateway)
    assert await operator.ask("POST", "/v1/dead/retry", {"side": "inbound", "limit": 1}) == (
        200,
        {"retried": 1},
    )
    await gateway.settle()
    assert backend.messages == [text("m1")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": ["gw-0badcafe-1"]},
        {"ids": ["1"]},
        {"everything": True, "side": "inbound"},
        {"side": "both"},
        {"older_than_ms": -1},
        {"older_than_ms": 10**25},  # what the store can not take must not end the process
        {"everything": True, "limit": 0},
        {"all": True},
        [],
    ],
)
async def test_a_request_that_is_not_clear_changes_nothing(
    body: Any, refusing: tuple[Harness, RecordingBackend]
) -> None:
    gateway, _ = refusing
    for path in ("/v1/dead/retry", "/v1/dead/discard"):
        status, answer = await Operator(gateway).ask("POST", path, body)
        assert status == 400
        assert isinstance(answer["error"], str)
    assert (await gateway.metrics())[dead("inbound")] == 3


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "side=up", "after=1", "content=yes", "x=1"]
)
async def test_a_query_that_is_wrong_is_refused(
    query: str, refusing: tuple[Harness, RecordingBackend]
) -> None:
    gateway, _ = refusing
    assert (await Operator(gateway).ask("GET", f"/v1/dead?{query}"))[0] == 400


async def test_nobody_sees_or_changes_them_without_a_token(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, _ = refusing
    operator = Operator(gateway)
    for method, path in (
        ("GET", "/v1/dead"),
        ("GET", "/v1/dead/gw-1-1"),
        ("POST", "/v1/dead/retry"),
        ("POST", "/v1/dead/discard"),
        ("DELETE", "/v1/dead/gw-1-1"),
    ):
        status, _ = await operator.ask(method, path, {"everything": True}, token="")
        assert status == 401
    assert (await gateway.metrics())[dead("inbound")] == 3


async def test_a_failed_send_is_kept_over_a_restart_and_sent_again(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), SimNode(tps=1000) as node:
        variables = {
            "NODE_URL": node.url, "NODE_USER": "admin", "NODE_PASSWORD": "secret-of-the-sim", "TPS": "1000",
            "SEND_ATTEMPTS": "1",
        }  # fmt: skip
        node.faults.set("error_ratio", 1.0)
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            headers = {"X-Gateway-Priority": "high"}
            assert (await gateway.push(push_body(OTHER, text={"body": "again"}), **headers))[0] == 202
            await until(gateway, lambda metrics: metrics[dead("outbound")] == 1)
        node.faults.set("error_ratio", 0.0)
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            operator = Operator(gateway)
            _, page = await operator.ask("GET", "/v1/dead?content=true")
            (letter,) = page["dead"]
            assert (letter["side"], letter["class"], letter["contact"]) == ("outbound", "high", OTHER)
            assert letter["body"] == push_body(OTHER, text={"body": "again"}).decode()
            assert "1000" in letter["reason"]
            _, answer = await operator.ask("POST", "/v1/dead/retry", {"ids": [letter["id"]]})
            new_id = answer["new_ids"][letter["id"]]
            sent = 'gateway_outcome_total{kind="send",outcome="delivered"}'
            metrics = await until(gateway, lambda metrics: metrics[sent] == 1)
            assert metrics[dead("outbound")] == 0
            assert metrics['gateway_accepted_total{kind="send"}'] == 2
            assert metrics["gateway_conservation_difference"] == 0
            headers = {"Authorization": "Bearer a-token-of-the-tests"}
            for send_id, state in ((letter["id"], "failed"), (new_id, "sent")):
                url = f"{gateway.ingest}/v1/messages/{send_id}"
                async with gateway.session.get(url, headers=headers) as found:
                    assert (await found.json())["state"] == state


async def test_more_than_a_page_are_retried_in_order(tmp_path: Path) -> None:
    """Over a restart and over the places in memory: what waits on disk keeps its order too."""
    backend = RecordingBackend()
    backend.answer = refuse
    bodies = [text(f"m{number}") for number in range(300)]
    async with backend.serving():
        async with running_gateway(tmp_path, backend.port) as gateway:
            for body in bodies:
                assert await gateway.webhook(body) == 200
            await gateway.settle()
        backend.answer = ok
        async with running_gateway(tmp_path, backend.port, QUEUE_SLOTS="16") as gateway:
            answer = await Operator(gateway).ask("POST", "/v1/dead/retry", {"everything": True})
            assert answer == (200, {"retried": 300})
            await gateway.settle()
        assert backend.messages == bodies
        async with running_gateway(tmp_path, backend.port) as gateway:
            metrics = await gateway.metrics()
    assert metrics['gateway_accepted_total{kind="message"}'] == 600
    assert metrics["gateway_conservation_difference"] == 0, "by the books on disk too"


# -- the command


async def test_the_command_lists_shows_retries_and_discards(
    refusing: tuple[Harness, RecordingBackend],
) -> None:
    gateway, backend = refusing
    run = Operator(gateway).run
    status, out, err = await run("dead", "list")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "SIDE", "CLASS", "GIVEN", "UP", "TRIES", "CONTACT", "REASON"]
    assert [line.split()[1:3] for line in lines[1:4]] == [["inbound", "message"]] * 3
    assert lines[2].endswith("49151…5678  HTTP 422")
    assert lines[4:] == ["3 inbound and 0 outbound dead letters in all"]
    assert OTHER not in out
    first, second, _ = (line.split()[0] for line in lines[1:4])
    _, out, _ = await run("dead", "list", "--limit", "1", "--content")
    assert text("m1").decode() in out
    assert out.endswith(f"more: --after {first}\n")
    _, out, _ = await run("dead", "list", "--contact", OTHER, "--json")
    assert [letter["id"] for letter in json.loads(out)["dead"]] == [second]
    _, out, _ = await run("dead", "show", second)
    assert f"Body      {len(text('m2', OTHER))} bytes; --content shows them\n" in out
    _, out, _ = await run("dead", "show", second, "--content")
    assert f"Contact   {OTHER}\n" in out
    assert f"Answer    no: {CONTACT}\n" in out
    assert await run("dead", "discard", first) == (0, "1 dead letters discarded\n", "")
    assert (await run("dead", "discard", first))[0] == 1
    backend.answer = ok
    status, out, _ = await run("dead", "retry", second)
    assert status == 0
    assert out.startswith(f"{second} is gw-")
    assert out.endswith("\n1 dead letters accepted anew\n")
    assert await run("dead", "retry", "--older-than", "1h") == (0, "0 dead letters accepted anew\n", "")
    assert await run("dead", "retry", "--all") == (0, "1 dead letters accepted anew\n", "")
    await gateway.settle()
    assert sorted(backend.messages) == [text("m2", OTHER), text("m3")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dead"], "usage: wa-gateway dead"),
        (["dead", "retry"], "dead retry: expected ids, or options that say which, or --all"),
        (
            ["dead", "discard", "gw-1-1", "--all"],
            "dead discard: expected ids, or options that say which, or --all",
        ),
        (["dead", "retry", "--older-than", "5"], "'5': expected a duration (30m, 24h, 7d)"),
        (["dead", "list", "--limit", "1001"], "'1001': expected a whole number from 1 to 1000"),
        (["dead", "list", "--side", "up"], "invalid choice: 'up'"),
    ],
)
def test_wrong_arguments_end_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    assert said in capsys.readouterr().err

"""The sample backend: what it answers, what it remembers, how it fails."""

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.events import Kind
from gateway.sim.backend import Mode, ReplyForm, SimBackend, events_of
from gateway.sim.serving import Server

MESSAGE = {
    "from": "15550100111",
    "id": "ABGG1",
    "timestamp": "1700000000",
    "type": "text",
    "text": {"body": "?"},
}
REPLY = {"type": "text", "text": {"body": "reply to ABGG1"}}


async def post(url: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return response.status, await response.json() if response.status == 200 else None


@pytest.mark.parametrize(
    ("form", "expected"),
    [("messages", {"messages": [REPLY]}), ("object", REPLY), ("list", [REPLY])],
)
async def test_answers_a_message_by_instant_reply_in_each_form(form: ReplyForm, expected: Any) -> None:
    backend = SimBackend(reply_form=form)
    async with backend.running():
        assert await post(backend.message_url, {"messages": [MESSAGE]}) == (200, expected)
    assert backend.ledger.replies == ["reply to ABGG1"]


async def test_names_the_chat_where_the_body_has_several_messages_or_a_group() -> None:
    backend = SimBackend()
    async with backend.running():
        _, answer = await post(backend.message_url, {"messages": [MESSAGE, MESSAGE | {"id": "ABGG2"}]})
        assert [reply["to"] for reply in answer["messages"]] == ["15550100111"] * 2
        _, answer = await post(backend.message_url, {"messages": [MESSAGE | {"group_id": "1-2"}]})
        assert (answer["messages"][0]["to"], answer["messages"][0]["recipient_type"]) == ("1-2", "group")


@pytest.mark.parametrize("mode", ["push", "silent"])
async def test_gives_no_instant_reply_in_the_other_modes(mode: Mode) -> None:
    backend = SimBackend(mode=mode)
    async with backend.running():
        assert await post(backend.message_url, {"messages": [MESSAGE]}) == (200, {})
    assert backend.ledger.replies == []


async def test_keeps_every_event_it_received_with_its_webhook() -> None:
    backend = SimBackend()
    status = {"id": "gBEG1", "recipient_id": "15550100111", "status": "read", "timestamp": "1700000000"}
    async with backend.running():
        await post(backend.event_url, {"statuses": [status, status | {"status": "delivered"}]})
    assert [(event.kind, event.id, event.webhook) for event in backend.ledger.received] == [
        (Kind.READ, "gBEG1", "events"),
        (Kind.DELIVERED, "gBEG1", "events"),
    ]


def test_counts_errors_and_unknown_statuses_too() -> None:
    body = {"statuses": [{"id": "a", "status": "deleted"}], "errors": [{"code": 1014}]}
    assert events_of(body) == [(Kind.OTHER, "a", ""), (Kind.ERROR, "1014", "")]


async def test_an_error_is_answered_and_nothing_is_received() -> None:
    backend = SimBackend(error_ratio=1.0)
    async with backend.running():
        assert (await post(backend.message_url, {"messages": [MESSAGE]}))[0] == 500
    assert backend.ledger.received == []
    assert backend.ledger.refused == 1


async def test_a_refusing_outage_answers_503_until_it_ends() -> None:
    backend = SimBackend()
    async with backend.running():
        await backend.begin_outage("refuse")
        assert (await post(backend.message_url, {"messages": [MESSAGE]}))[0] == 503
        await backend.end_outage()
        assert (await post(backend.message_url, {"messages": [MESSAGE]}))[0] == 200


async def test_a_closing_outage_takes_no_connection_and_comes_back_at_the_same_port() -> None:
    backend = SimBackend()
    async with backend.running():
        url = backend.message_url
        await backend.begin_outage("close")
        with pytest.raises(aiohttp.ClientError):
            await post(url, {"messages": [MESSAGE]})
        await backend.end_outage()
        assert (await post(url, {"messages": [MESSAGE]}))[0] == 200


class FakeGateway:
    """Answers pushes as the gateway does, or with an error."""

    def __init__(self, status: int = 202) -> None:
        self.status = status
        self.seen: list[tuple[str, str, Any]] = []
        self.server = Server(self._make_app)

    def _make_app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/v1/messages", self._take)])
        return app

    async def _take(self, request: web.Request) -> web.Response:
        headers = request.headers
        self.seen.append((headers["Authorization"], headers["X-Gateway-Priority"], await request.json()))
        return web.json_response({"messages": [{"id": "gw1"}]}, status=self.status)


async def test_pushes_with_token_and_class_and_keeps_the_answer() -> None:
    gateway = FakeGateway()
    await gateway.server.start()
    backend = SimBackend(gateway_url=gateway.server.url, push_token="t")
    async with backend.running():
        pushed = await backend.push("1-2", "mark 1", priority="bulk", is_group=True)
    await gateway.server.stop()
    assert (pushed.is_accepted, pushed.id) == (True, "gw1")
    ((authorization, priority, body),) = gateway.seen
    assert (authorization, priority) == ("Bearer t", "bulk")
    assert body == {"to": "1-2", "type": "text", "text": {"body": "mark 1"}, "recipient_type": "group"}


async def test_a_refused_push_and_a_dead_gateway_are_remembered() -> None:
    gateway = FakeGateway(status=429)
    await gateway.server.start()
    backend = SimBackend(gateway_url=gateway.server.url)
    async with backend.running():
        assert not (await backend.push("1", "mark 1")).is_accepted
        await gateway.server.stop()
        assert (await backend.push("1", "mark 2")).status == 0
    assert [pushed.status for pushed in backend.ledger.pushes] == [429, 0]

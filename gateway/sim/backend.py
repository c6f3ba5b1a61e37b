"""The sample backend: a bot that takes webhooks and answers, well or badly, as it is told.

`/messages` takes the message webhook, `/events` the event webhook. It answers each customer message by
instant reply (in the 200's body), by push through the gateway, or not at all.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import aiohttp
import orjson
from aiohttp import web

from gateway.clock import Clock, SystemClock
from gateway.events import Kind
from gateway.sim.ledger import Ledger, Pushed, Received
from gateway.sim.serving import Server

Mode = Literal["instant", "push", "silent"]
ReplyForm = Literal["messages", "object", "list"]
Outage = Literal["refuse", "close"]

BODY_MAX: Final = 3 << 20
"""Bytes; the largest webhook the platform makes."""
REPLIES_WAITING_MAX: Final = 10_000
"""Replies by push that have not been pushed yet; a bot that is further behind forgets."""
PUSH_WORKERS: Final = 8

_STATUS: Final = {kind.label: kind for kind in (Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.FAILED)}


class SimBackend:
    """A bot on loopback, run with `async with backend.running():`; what it saw is in `ledger`."""

    def __init__(
        self,
        *,
        seed: int = 0,
        mode: Mode = "instant",
        reply_form: ReplyForm = "messages",
        gateway_url: str = "",
        push_token: str = "",
        latency_s: float = 0.0,
        error_ratio: float = 0.0,
        clock: Clock | None = None,
        port: int = 0,
    ) -> None:
        """`error_ratio` is the share of requests answered 500; `latency_s` passes before every answer."""
        self._clock = clock or SystemClock()
        self._rng = random.Random(f"{seed} backend")
        self.mode: Mode = mode
        self.reply_form: ReplyForm = reply_form
        self.gateway_url = gateway_url
        self.push_token = push_token
        self.latency_s = latency_s
        self.error_ratio = error_ratio
        self.ledger = Ledger()
        self._outage: Outage | None = None
        self._server = Server(self._make_app, port=port)
        self._replies: asyncio.Queue[tuple[str, str]] = asyncio.Queue(REPLIES_WAITING_MAX)
        self._session: aiohttp.ClientSession | None = None

    @property
    def message_url(self) -> str:
        return self._server.url + "/messages"

    @property
    def event_url(self) -> str:
        return self._server.url + "/events"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            self._session = session
            await self._server.start()
            try:
                async with asyncio.TaskGroup() as tasks:
                    workers = [
                        tasks.create_task(self._push_replies(), name="sim backend replies")
                        for _ in range(PUSH_WORKERS)
                    ]
                    yield
                    for worker in workers:
                        worker.cancel()
            finally:
                await self._server.stop()

    async def begin_outage(self, outage: Outage) -> None:
        """From now on refuse with 503, or really close the socket and every connection."""
        assert self._outage is None, "one outage at a time"
        self._outage = outage
        if outage == "close":
            await self._server.stop()

    async def end_outage(self) -> None:
        """Back at the same port."""
        outage, self._outage = self._outage, None
        if outage == "close":
            await self._server.start()

    async def push(self, to: str, text: str, *, priority: str = "normal", is_group: bool = False) -> Pushed:
        """Push one text through the gateway; never raises for what the gateway answers or doesn't."""
        assert self._session is not None, "push before running"
        pushed = Pushed(self._clock.now_ns(), text)
        self.ledger.pushes.append(pushed)
        headers = {"Authorization": f"Bearer {self.push_token}", "X-Gateway-Priority": priority}
        body: dict[str, Any] = {"to": to, "type": "text", "text": {"body": text}}
        if is_group:
            body["recipient_type"] = "group"
        try:
            async with self._session.post(
                self.gateway_url + "/v1/messages", json=body, headers=headers
            ) as response:
                answer = await response.read()
                pushed.status = response.status
                if pushed.is_accepted:
                    pushed.id = str(orjson.loads(answer)["messages"][0]["id"])
        except (TimeoutError, aiohttp.ClientError):
            pushed.status = 0
        return pushed

    def _make_app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_MAX)
        app.add_routes([web.post("/messages", self._take), web.post("/events", self._take)])
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        if self.latency_s > 0:
            await asyncio.sleep(self.latency_s)
        if self._outage is not None:
            self.ledger.refused += 1
            return web.Response(status=503)
        if self.error_ratio > 0 and self._rng.random() < self.error_ratio:
            self.ledger.refused += 1
            return web.Response(status=500)
        at_ns = self._clock.now_ns()
        webhook = request.path.removeprefix("/")
        self.ledger.received += [Received(at_ns, *event, webhook) for event in events_of(body)]
        return self._answer([message for message in body.get("messages", ()) if "from" in message])

    def _answer(self, messages: list[dict[str, Any]]) -> web.Response:
        replies = []
        for message in messages:
            text = f"reply to {message['id']}"
            if self.mode == "instant":
                self.ledger.replies.append(text)
                replies.append(_reply(message, text, is_alone=len(messages) == 1))
            elif self.mode == "push" and not self._replies.full():
                self._replies.put_nowait((message["from"], text))
        if not replies:
            return web.json_response({})
        if self.reply_form == "object" and len(replies) == 1:
            return web.json_response(replies[0])
        return web.json_response({"messages": replies} if self.reply_form == "messages" else replies)

    async def _push_replies(self) -> None:
        while True:
            to, text = await self._replies.get()
            await self.push(to, text, priority="reply")


def events_of(body: dict[str, Any]) -> list[tuple[Kind, str, str]]:
    """Every event of a webhook body as (kind, id, participant); `errors` and unknown statuses too."""
    events = [(Kind.MESSAGE, str(m.get("id", "")), str(m.get("from", ""))) for m in body.get("messages", ())]
    for status in body.get("statuses", ()):
        kind = _STATUS.get(status.get("status"), Kind.OTHER)
        events.append((kind, str(status.get("id", "")), str(status.get("recipient_id", ""))))
    events += [(Kind.ERROR, str(error.get("code", "")), "") for error in body.get("errors", ())]
    return events


def _reply(message: dict[str, Any], text: str, *, is_alone: bool) -> dict[str, Any]:
    """A reply to the chat the message came from; `to` is left out where the gateway can tell."""
    reply: dict[str, Any] = {"type": "text", "text": {"body": text}}
    if "group_id" in message:
        return reply | {"to": message["group_id"], "recipient_type": "group"}
    return reply if is_alone else reply | {"to": message["from"]}

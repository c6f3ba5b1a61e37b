"""The ingest listener: the webhook's routes, and the push API's. Decisions are made by what is handed in."""

import asyncio
import hmac
import re
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway._fast.front_connection import Door
from gateway._fast.http_head import HeadScanner
from gateway.clock import Clock
from gateway.http.app_secret import SIGNATURE_HEADER, SIGNATURE_WRONG, is_signed
from gateway.http.bodies import BODY_TIMEOUT_S, BodyProblem, BodyReader
from gateway.http.front import Front
from gateway.http.front_answers import RETRY_AFTER_S, Answers, Reception
from gateway.http.front_handoff import watched
from gateway.http.front_table import Connections
from gateway.http.front_unusual import Unusual
from gateway.http.push_routes import PushApi, PushRoutes, ReceiptQueries

_JSON: Final = "application/json"


class Webhooks(Protocol):
    """Who takes webhooks."""

    async def receive(self, body: bytes) -> Reception: ...
    def take(self, body: bytes, answer: Callable[[Reception], None]) -> None: ...


class Ingest:
    """The routes of the ingest listener."""

    def __init__(
        self,
        webhooks: Webhooks,
        push_api: PushApi,
        receipts: ReceiptQueries,
        *,
        webhook_path: str,
        webhook_body_max: int,
        push_body_max: int,
        app_secret: str = "",
        verify_token: str = "",
        phone_id: str = "",
    ) -> None:
        """`app_secret`: webhooks must carry Meta's signature; `verify_token`: answers Meta's verification.

        `phone_id`: the number of the Cloud path; empty closes that path.
        """
        self._webhooks = webhooks
        self._webhook_path = webhook_path
        self._webhook_body_max = webhook_body_max
        self._push_body_max = push_body_max
        self._app_secret = app_secret.encode()
        self._verify_token = verify_token.encode()
        self._bodies = BodyReader()
        self._push_routes = PushRoutes(
            push_api, receipts, push_body_max, phone_id, self._bodies, self._refuse
        )
        self._push_routes.draining = lambda: self._draining() if self.is_draining else None
        self.connections: Connections
        self.is_draining = False
        self.refused: dict[str, int] = {}
        """Requests that did not get as far as being looked at, by reason."""

    def application(self) -> web.Application:
        """An aiohttp application with these routes."""
        app = web.Application(
            middlewares=[watched], client_max_size=max(self._webhook_body_max, self._push_body_max)
        )
        app.router.add_post(self._webhook_path, self._webhook)
        app.router.add_get(self._webhook_path, self._verify)
        self._push_routes.add_to(app.router)
        return app

    def front(self, handler: Callable[[], RequestHandler], connections_max: int, clock: Clock) -> Front:
        """What serves this listener; `handler` makes aiohttp's for the application above."""
        loop = asyncio.get_running_loop()
        self.connections = Connections(connections_max, loop)
        answers = Answers(clock)
        door = Door(
            self._webhooks.take,
            HeadScanner(self._webhook_path.encode(), self._webhook_body_max),
            partial(is_signed, self._app_secret) if self._app_secret else None,
            answers,
            Unusual(self._count_refusal, handler, answers, self.connections),
            self._bodies,
            BODY_TIMEOUT_S,
            self.connections,
            loop,
        )
        return Front(door, self.connections)

    @property
    def reading_bytes(self) -> int:
        """What the bodies being read may come to."""
        return self._bodies.reading_bytes

    async def _webhook(self, request: web.Request) -> web.Response:
        if self.is_draining:
            return self._draining()
        body = await self._bodies.read(request, self._webhook_body_max)
        if isinstance(body, BodyProblem):
            return self._refuse(body.status, body.reason, f"{body.value}\n")
        signature = request.headers.get(SIGNATURE_HEADER, "").encode(errors="surrogateescape")
        if self._app_secret and not is_signed(self._app_secret, body, signature):
            return self._refuse(401, "signature", SIGNATURE_WRONG)
        reception = await self._webhooks.receive(body)
        if reception.status == 200:
            return web.Response(body=b"{}", content_type=_JSON)
        headers = {"Retry-After": RETRY_AFTER_S} if reception.status == 503 else None
        return web.Response(status=reception.status, text=f"{reception.reason}\n", headers=headers)

    async def _verify(self, request: web.Request) -> web.Response:
        """Meta's verification of a new webhook URL."""
        query = request.query
        token = query.get("hub.verify_token", "").encode(errors="surrogatepass")
        challenge = query.get("hub.challenge", "")
        is_ours = bool(self._verify_token) and hmac.compare_digest(token, self._verify_token)
        if (
            query.get("hub.mode") != "subscribe"
            or not is_ours
            or not re.fullmatch(r"[\w-]{1,256}", challenge)
        ):
            return web.Response(status=403, text="verification refused\n")
        return web.Response(text=challenge)

    def _draining(self) -> web.Response:
        response = self._refuse(503, "draining", "stopping\n")
        response.force_close()
        return response

    def _refuse(self, status: int, reason: str, text: str) -> web.Response:
        self._count_refusal(reason)
        headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else None
        return web.Response(status=status, text=text, headers=headers)

    def _count_refusal(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

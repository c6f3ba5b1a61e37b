"""The ingest listener: the webhook's routes, and the push API's. Decisions are made by what is handed in."""

import hashlib
import hmac
import re
from typing import Final, Protocol

from aiohttp import web

from gateway.http.bodies import BodyProblem, BodyReader
from gateway.http.push_routes import PushApi, PushRoutes, ReceiptQueries

_JSON: Final = "application/json"
RETRY_AFTER_S: Final = "1"


class Reception(Protocol):
    """How a webhook is answered."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Webhooks(Protocol):
    """Who takes webhooks."""

    async def receive(self, body: bytes) -> Reception: ...


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
        self.is_draining = False
        self.refused: dict[str, int] = {}
        """Requests that did not get as far as being looked at, by reason."""

    def application(self) -> web.Application:
        """An aiohttp application with these routes."""
        app = web.Application(client_max_size=max(self._webhook_body_max, self._push_body_max))
        app.router.add_post(self._webhook_path, self._webhook)
        app.router.add_get(self._webhook_path, self._verify)
        self._push_routes.add_to(app.router)
        return app

    async def _webhook(self, request: web.Request) -> web.Response:
        if self.is_draining:
            return self._draining()
        body = await self._bodies.read(request, self._webhook_body_max)
        if isinstance(body, BodyProblem):
            return self._refuse(body.status, body.reason, f"{body.value}\n")
        if self._app_secret and not self._is_signed(request, body):
            return self._refuse(401, "signature", "X-Hub-Signature-256 does not match\n")
        reception = await self._webhooks.receive(body)
        if reception.status == 200:
            return web.Response(body=b"{}", content_type=_JSON)
        headers = {"Retry-After": RETRY_AFTER_S} if reception.status == 503 else None
        return web.Response(status=reception.status, text=f"{reception.reason}\n", headers=headers)

    def _is_signed(self, request: web.Request, body: bytes) -> bool:
        # Over the bytes as they came: Meta signs an escaped form that re-encoding would not give back.
        expected = "sha256=" + hmac.new(self._app_secret, body, hashlib.sha256).hexdigest()
        given = request.headers.get("X-Hub-Signature-256", "")
        return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))

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
        self.refused[reason] = self.refused.get(reason, 0) + 1
        headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else None
        return web.Response(status=status, text=text, headers=headers)

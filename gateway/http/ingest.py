"""The ingest listener: the webhook, and the push API. Routes only; decisions are made by what is handed in."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import web

from gateway.http.bodies import BodyProblem, BodyReader

PRIORITY_HEADER: Final = "X-Gateway-Priority"
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


class Answer(Protocol):
    """How a push request is answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Pushes(Protocol):
    """Who takes sends."""

    def authorise(self, authorization: str | None) -> Answer | None: ...
    async def accept(self, body: bytes, headers: Mapping[str, str]) -> Answer: ...
    async def find(self, send_id: str) -> Answer: ...
    async def reclass(self, send_id: str, priority: str | None) -> Answer: ...
    def refuse_large(self, limit_bytes: int) -> Answer: ...


class ReceiptQueries(Protocol):
    """Who knows what became of messages."""

    async def find(self, message_id: str) -> Answer: ...
    async def find_many(self, body: bytes) -> Answer: ...


class Ingest:
    """The routes of the ingest listener."""

    def __init__(
        self,
        webhooks: Webhooks,
        pushes: Pushes,
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
        self._pushes = pushes
        self._receipts = receipts
        self._webhook_path = webhook_path
        self._webhook_body_max = webhook_body_max
        self._push_body_max = push_body_max
        self._app_secret = app_secret.encode()
        self._verify_token = verify_token.encode()
        self._phone_id = phone_id
        self._bodies = BodyReader()
        self.is_draining = False
        self.refused: dict[str, int] = {}
        """Requests that did not get as far as being looked at, by reason."""

    def application(self) -> web.Application:
        """An aiohttp application with these routes."""
        app = web.Application(client_max_size=max(self._webhook_body_max, self._push_body_max))
        app.router.add_post(self._webhook_path, self._webhook)
        app.router.add_get(self._webhook_path, self._verify)
        app.router.add_post("/v1/messages", self._push)
        app.router.add_get("/v1/messages/{id}", self._find)
        app.router.add_patch("/v1/messages/{id}", self._reclass)
        app.router.add_get("/v1/receipts/{id}", self._find_receipts)
        app.router.add_post("/v1/receipts", self._find_many_receipts)
        if self._phone_id:
            # Another number's path is not found, or its messages would go out from ours.
            app.router.add_post(rf"/{{version:v\d+\.\d+}}/{self._phone_id}/messages", self._push)
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

    async def _push(self, request: web.Request) -> web.Response:
        if self.is_draining:
            return self._draining()
        refusal = self._pushes.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _answer(refusal)
        body = await self._bodies.read(request, self._push_body_max)
        if body is BodyProblem.LARGE:
            return _answer(self._pushes.refuse_large(self._push_body_max))
        if isinstance(body, BodyProblem):
            return self._refuse(body.status, body.reason, f"{body.value}\n")
        return _answer(await self._pushes.accept(body, request.headers))

    async def _find(self, request: web.Request) -> web.Response:
        refusal = self._pushes.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _answer(refusal)
        return _answer(await self._pushes.find(request.match_info["id"]))

    async def _reclass(self, request: web.Request) -> web.Response:
        refusal = self._pushes.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _answer(refusal)
        priority = request.headers.get(PRIORITY_HEADER)
        return _answer(await self._pushes.reclass(request.match_info["id"], priority))

    async def _find_receipts(self, request: web.Request) -> web.Response:
        refusal = self._pushes.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _answer(refusal)
        return _answer(await self._receipts.find(request.match_info["id"]))

    async def _find_many_receipts(self, request: web.Request) -> web.Response:
        refusal = self._pushes.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _answer(refusal)
        body = await self._bodies.read(request, self._push_body_max)
        if isinstance(body, BodyProblem):
            return self._refuse(body.status, body.reason, f"{body.value}\n")
        return _answer(await self._receipts.find_many(body))

    def _draining(self) -> web.Response:
        response = self._refuse(503, "draining", "stopping\n")
        response.force_close()
        return response

    def _refuse(self, status: int, reason: str, text: str) -> web.Response:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else None
        return web.Response(status=status, text=text, headers=headers)


def _answer(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, content_type=_JSON, headers=dict(answer.headers)
    )

"""The routes of the push API: sends one by one and in batches, and what is asked and changed of them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from aiohttp import web

from gateway.http.bodies import BodyProblem, BodyReader

PRIORITY_HEADER: Final = "X-Gateway-Priority"
_JSON: Final = "application/json"


class Answer(Protocol):
    """How a request is answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Takes(Protocol):
    """Who takes a body of sends."""

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> Answer: ...


class Queries(Protocol):
    """Who knows what became of sends."""

    async def find(self, send_id: str) -> Answer: ...
    async def find_batch(self, batch_id: str, query: Mapping[str, str]) -> Answer: ...


class Changes(Protocol):
    """Who changes sends that wait."""

    async def cancel(self, send_id: str) -> Answer: ...
    async def cancel_batch(self, batch_id: str) -> Answer: ...
    async def reclass(self, send_id: str, priority: str | None) -> Answer: ...
    async def reclass_batch(self, batch_id: str, priority: str | None) -> Answer: ...


class PushApi(Protocol):
    """The push API behind its routes."""

    @property
    def pushes(self) -> Takes: ...
    @property
    def batches(self) -> Takes: ...
    @property
    def queries(self) -> Queries: ...
    @property
    def changes(self) -> Changes: ...
    def authorise(self, authorization: str | None) -> Answer | None: ...
    def refuse_large(self, limit_bytes: int) -> Answer: ...


class ReceiptQueries(Protocol):
    """Who knows the receipts of messages."""

    async def find(self, message_id: str) -> Answer: ...
    async def find_many(self, body: bytes) -> Answer: ...


class PushRoutes:
    """Every route asks for a token first; `refuse` answers what does not get as far as being looked at."""

    def __init__(
        self,
        api: PushApi,
        receipts: ReceiptQueries,
        body_max: int,
        phone_id: str,
        bodies: BodyReader,
        refuse: Callable[[int, str, str], web.Response],
    ) -> None:
        """`phone_id`: the number of the Cloud path; empty closes that path."""
        self._api = api
        self._receipts = receipts
        self._body_max = body_max
        self._phone_id = phone_id
        self._bodies = bodies
        self._refuse = refuse
        self.draining: Callable[[], web.Response | None] = lambda: None
        """The answer to whoever pushes while we stop; None: we don't."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes. WhatsApp's ids are base64, which has slashes."""
        router.add_post("/v1/messages", self._push)
        router.add_post("/v1/messages/batch", self._push_batch)
        router.add_get("/v1/messages/{id:.+}", self._find)
        router.add_patch("/v1/messages/{id:.+}", self._reclass)
        router.add_delete("/v1/messages/{id:.+}", self._cancel)
        router.add_get("/v1/batches/{id}", self._find_batch)
        router.add_patch("/v1/batches/{id}", self._reclass_batch)
        router.add_delete("/v1/batches/{id}", self._cancel_batch)
        router.add_get("/v1/receipts/{id:.+}", self._find_receipts)
        router.add_post("/v1/receipts", self._find_many_receipts)
        if self._phone_id:
            # Another number's path is not found, or its messages would go out from ours.
            router.add_post(rf"/{{version:v\d+\.\d+}}/{self._phone_id}/messages", self._push)

    async def _push(self, request: web.Request) -> web.Response:
        return self.draining() or await self._take(
            request, lambda body: self._api.pushes.accept(body, request.headers)
        )

    async def _push_batch(self, request: web.Request) -> web.Response:
        return self.draining() or await self._take(
            request, lambda body: self._api.batches.accept(body, request.headers)
        )

    async def _find(self, request: web.Request) -> web.Response:
        return await self._ask(request, self._api.queries.find)

    async def _reclass(self, request: web.Request) -> web.Response:
        priority = request.headers.get(PRIORITY_HEADER)
        return await self._ask(request, lambda send_id: self._api.changes.reclass(send_id, priority))

    async def _cancel(self, request: web.Request) -> web.Response:
        return await self._ask(request, self._api.changes.cancel)

    async def _find_batch(self, request: web.Request) -> web.Response:
        return await self._ask(request, lambda batch: self._api.queries.find_batch(batch, request.query))

    async def _reclass_batch(self, request: web.Request) -> web.Response:
        priority = request.headers.get(PRIORITY_HEADER)
        return await self._ask(request, lambda batch: self._api.changes.reclass_batch(batch, priority))

    async def _cancel_batch(self, request: web.Request) -> web.Response:
        return await self._ask(request, self._api.changes.cancel_batch)

    async def _find_receipts(self, request: web.Request) -> web.Response:
        return await self._ask(request, self._receipts.find)

    async def _find_many_receipts(self, request: web.Request) -> web.Response:
        return await self._take(request, self._receipts.find_many)

    async def _ask(self, request: web.Request, answer_of: Callable[[str], Awaitable[Answer]]) -> web.Response:
        refusal = self._api.authorise(request.headers.get("Authorization"))
        return _response(refusal or await answer_of(request.match_info["id"]))

    async def _take(
        self, request: web.Request, answer_of: Callable[[bytes], Awaitable[Answer]]
    ) -> web.Response:
        refusal = self._api.authorise(request.headers.get("Authorization"))
        if refusal is not None:
            return _response(refusal)
        body = await self._bodies.read(request, self._body_max)
        if body is BodyProblem.LARGE:
            return _response(self._api.refuse_large(self._body_max))
        if isinstance(body, BodyProblem):
            return self._refuse(body.status, body.reason, f"{body.value}\n")
        return _response(await answer_of(body))


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, content_type=_JSON, headers=dict(answer.headers)
    )

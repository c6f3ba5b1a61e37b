"""What an operator may ask of the admin listener beside health and metrics: a method, a path, and who answers.

GET never changes anything. What changes something, or shows whom somebody wrote to and what, needs a push token; what
changes something by a body needs the type JSON, which a page in a browser can't send without asking first.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from aiohttp import web

_JSON: Final = "application/json"


class Call(NamedTuple):
    """One request."""

    path: Mapping[str, str]
    """The parts of the path that have a name."""
    query: Mapping[str, str]
    body: bytes


class Operation(NamedTuple):
    """One route; `run` gives HTTP status and JSON."""

    method: str
    path: str
    run: Callable[[Call], Awaitable[tuple[int, bytes]]]
    is_open: bool = False
    """Whether anyone who reaches the listener may ask."""


class Refusal(Protocol):
    """How somebody without a token is answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


Authorise = Callable[[str | None], Refusal | None]
"""Given the Authorization header: None for whoever may."""


def add_operations(app: web.Application, operations: Iterable[Operation], authorise: Authorise) -> None:
    """Serve `operations`."""
    for operation in operations:
        app.router.add_route(operation.method, operation.path, _handler(operation, authorise))


def _handler(
    operation: Operation, authorise: Authorise
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if operation.method in ("POST", "PUT") and request.content_type != _JSON:
            return web.Response(status=415, text=f"expected {_JSON}\n")
        if not operation.is_open:
            refusal = authorise(request.headers.get("Authorization"))
            if refusal is not None:
                return web.Response(status=refusal.status, body=refusal.body, content_type=_JSON)
        call = Call(request.match_info, request.query, await request.read())
        status, body = await operation.run(call)
        return web.Response(status=status, body=body, content_type=_JSON)

    return handle

"""The WebApp: REST of the client, with its login and its rate limit in front of every endpoint."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.clock import Clock
from gateway.sim import bodies
from gateway.sim.faults import Faults
from gateway.sim.messages import MessagesEndpoint
from gateway.sim.operations import Operations
from gateway.sim.ratelimit import RateLimit
from gateway.sim.resources import Resources
from gateway.sim.tokens import Tokens

BODY_MAX: Final = 64 << 20
"""Bytes; the published limit of a media upload in older clients."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebApp:
    """Builds the aiohttp application; the state lives in the parts it is given."""

    def __init__(
        self,
        clock: Clock,
        tokens: Tokens,
        faults: Faults,
        messages: MessagesEndpoint,
        resources: Resources,
        operations: Operations,
    ) -> None:
        self._clock = clock
        self._tokens = tokens
        self._faults = faults
        self._messages = messages
        self._resources = resources
        self._operations = operations
        self._limits: dict[str, RateLimit] = {}

    def make_app(self) -> web.Application:
        """A fresh application over the same state."""
        app = web.Application(client_max_size=BODY_MAX, middlewares=[self._limit, self._authenticate])
        app.add_routes(
            [
                web.post("/v1/users/login", self.login),
                web.post("/v1/users/logout", self.logout),
                web.post("/v1/messages", self._messages.post),
                web.put("/v1/messages/{id}", self._messages.put),
                *self._resources.routes(),
                *self._operations.routes(),
            ]
        )
        return app

    async def login(self, request: web.Request) -> web.Response:
        """Basic in, a token for seven days out."""
        granted = self._tokens.login(request.headers.get("Authorization", ""), self._clock.wall_ms())
        if granted is None:
            return _denied()
        return web.json_response(bodies.login(*granted))

    async def logout(self, request: web.Request) -> web.Response:
        self._tokens.logout(request.headers.get("Authorization", ""))
        return web.json_response({"meta": bodies.META})

    @web.middleware
    async def _limit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """429 with 1015 beyond the endpoint's rate; refused requests cost nothing and are not read."""
        if not self._faults.is_rate_limited or self._limit_of(request.path).try_take(self._clock.now_ns()):
            return await handler(request)
        if _endpoint(request.path) == "messages":
            return self._messages.refuse((429, bodies.error(1015)))
        return web.json_response(bodies.error(1015), status=429)

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/v1/users/login":
            return await handler(request)
        if self._tokens.is_valid(request.headers.get("Authorization", ""), self._clock.wall_ms()):
            return await handler(request)
        return _denied()

    def _limit_of(self, path: str) -> RateLimit:
        endpoint = _endpoint(path)
        limit = self._limits.get(endpoint)
        if limit is None:
            limit = RateLimit(50, 150) if endpoint == "messages" else RateLimit(20, 60)
            # Unknown paths share one bucket, so that the table stays as small as the list of endpoints.
            self._limits[endpoint] = limit
        return limit


_ENDPOINTS: Final = frozenset(
    {"users", "messages", "contacts", "media", "groups", "health", "settings", "stats"}
)


def _endpoint(path: str) -> str:
    """`messages` of `/v1/messages/x`; `other` for what we do not serve."""
    name = path.removeprefix("/v1/").partition("/")[0]
    return name if name in _ENDPOINTS else "other"


def _denied() -> web.Response:
    return web.json_response(bodies.error(1005, "Invalid credentials."), status=401)

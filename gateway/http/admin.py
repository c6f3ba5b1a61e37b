"""The admin listener: health, readiness, metrics, the budget, operations. GET never changes anything."""

from collections.abc import Callable, Mapping, Sequence

import orjson
from aiohttp import web

from gateway.http.operations import Authorise, Operation, add_operations


class Admin:
    """The routes of the admin listener."""

    def __init__(
        self,
        checks: Callable[[], Mapping[str, bool]],
        metrics: Callable[[], bytes],
        budget: Callable[[], bytes],
        change_plan: Callable[[str | None, bytes], tuple[int, bytes]],
        state: Callable[[], Sequence[str]],
        operations: Sequence[Operation],
        authorise: Authorise,
    ) -> None:
        """`checks` names what must be true to take work; `metrics` renders the exposition, `budget` the report's JSON.

        `change_plan` is given the Authorization header and the body of a PUT, and says how it is answered.
        `state` names what is switched off though work is taken; `operations` are for those whom `authorise` lets in.
        """
        self._checks = checks
        self._metrics = metrics
        self._budget = budget
        self._change_plan = change_plan
        self._state = state
        self._operations = operations
        self._authorise = authorise

    def application(self) -> web.Application:
        """An aiohttp application with these routes."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        app.router.add_get("/v1/budget", self._budget_report)
        app.router.add_put("/v1/budget", self._budget_change)
        add_operations(app, self._operations, self._authorise)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        """The loop turns: that is what being here shows."""
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        checks = self._checks()
        is_ready = all(checks.values())
        body = orjson.dumps(
            {
                "status": "ready" if is_ready else "not ready",
                "checks": dict(checks),
                "state": list(self._state()) or ["running"],
            }
        )
        return web.Response(status=200 if is_ready else 503, body=body, content_type="application/json")

    async def _exposition(self, _request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics(), headers=headers)

    async def _budget_report(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._budget(), content_type="application/json")

    async def _budget_change(self, request: web.Request) -> web.Response:
        # A page in a browser can't send this type without asking first, and nobody answers it.
        if request.content_type != "application/json":
            return web.Response(status=415, text="expected application/json\n")
        status, body = self._change_plan(request.headers.get("Authorization"), await request.read())
        return web.Response(status=status, body=body, content_type="application/json")

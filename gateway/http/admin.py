"""The admin listener: health, readiness, metrics. Read-only."""

from collections.abc import Callable, Mapping

import orjson
from aiohttp import web


class Admin:
    """The routes of the admin listener."""

    def __init__(self, checks: Callable[[], Mapping[str, bool]], metrics: Callable[[], bytes]) -> None:
        """`checks` names what must be true to take work; `metrics` renders the exposition."""
        self._checks = checks
        self._metrics = metrics

    def application(self) -> web.Application:
        """An aiohttp application with these routes."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        """The loop turns: that is what being here shows."""
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        checks = self._checks()
        is_ready = all(checks.values())
        body = orjson.dumps({"status": "ready" if is_ready else "not ready", "checks": dict(checks)})
        return web.Response(status=200 if is_ready else 503, body=body, content_type="application/json")

    async def _exposition(self, _request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics(), headers=headers)

"""Health, settings and statistics of the WebApp."""

from aiohttp import web

from gateway.sim import bodies
from gateway.sim.coreapp import CoreApp
from gateway.sim.faults import Faults
from gateway.sim.journal import Journal
from gateway.sim.number import Number
from gateway.sim.settings import Settings


class Operations:
    """Handlers that show and change how the node works."""

    def __init__(
        self, faults: Faults, settings: Settings, journal: Journal, coreapp: CoreApp, number: Number
    ) -> None:
        self._faults = faults
        self._settings = settings
        self._journal = journal
        self._coreapp = coreapp
        self._number = number

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/health", self.health),
            web.get("/v1/settings/application", self.settings),
            web.patch("/v1/settings/application", self.change),
            web.delete("/v1/settings/application", self.reset),
            web.get("/v1/stats/app", self.stats),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response(bodies.health(self._faults.gateway_status))

    async def settings(self, _request: web.Request) -> web.Response:
        if not self._faults.is_admin:
            return _not_admin()
        document = self._settings.document
        if not self._faults.has_receipt_switches:
            webhooks = {name: value for name, value in document["webhooks"].items() if name != "message"}
            document = document | {"webhooks": webhooks}
        return web.json_response({"settings": {"application": document}, "meta": bodies.META})

    async def change(self, request: web.Request) -> web.Response:
        """Only the fields present change; 400 with 1009 names a bad one and changes nothing."""
        if not self._faults.is_admin:
            return _not_admin()
        try:
            problem = self._settings.patch(await request.json())
        except ValueError:
            problem = "the body is not JSON"
        if problem:
            return web.json_response(bodies.error(1009, problem), status=400)
        self._coreapp.notify()
        return web.json_response({"meta": bodies.META})

    async def reset(self, _request: web.Request) -> web.Response:
        if not self._faults.is_admin:
            return _not_admin()
        self._settings.reset()
        self._coreapp.notify()
        return web.json_response({"meta": bodies.META})

    async def stats(self, _request: web.Request) -> web.Response:
        """The published metric names that we have live values for."""
        metric = bodies.metric
        number, coreapp = self._number.statistics(), self._coreapp
        requests = [
            ({"result": result, "type": type_}, float(count))
            for (result, type_), count in sorted(coreapp.results.items())
        ]
        app = {
            "callback_queue_size": metric("Current callback queue size", "gauge", ({}, len(coreapp.queue))),
            "pending_callbacks": metric("Callback requests in flight", "gauge", ({}, coreapp.in_flight)),
            "pending_messages": metric("Events that wait at the number", "gauge", ({}, number.backlog)),
            "callback_requests": metric("Total number of callback requests made", "counter", *requests),
            "callback_requests_duration_ms_count": metric("", "counter", ({}, coreapp.results.total())),
            "callback_requests_duration_ms_sum": metric("", "counter", ({}, round(coreapp.duration_ms))),
            "out_message_persisted": metric("Messages taken", "counter", ({}, len(self._journal.sends))),
        }
        return web.json_response({"stats": {"app": app}, "meta": bodies.META})


def _not_admin() -> web.Response:
    return web.json_response(bodies.error(1005, "Only an admin may."), status=403)

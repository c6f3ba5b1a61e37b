"""The `/v1/messages` endpoint of the WebApp, with the faults a send can meet."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web

from gateway.sim import bodies, sending
from gateway.sim.faults import Faults
from gateway.sim.journal import Journal, SendEntry

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

TrySend = Callable[[str, bool, str], SendEntry | str]
"""Takes (to, is_group, text); answers the journal's entry, or the name of what stands against it."""


class MessagesEndpoint:
    """Decides in the client's order: faults of the whole node, then the body, then the recipient."""

    def __init__(
        self,
        rng: random.Random,
        faults: Faults,
        journal: Journal,
        known_contacts: set[str],
        try_send: TrySend,
    ) -> None:
        self._rng = rng
        self._faults = faults
        self._journal = journal
        self._known_contacts = known_contacts
        self._try_send = try_send

    async def post(self, request: web.Request) -> web.StreamResponse:
        """201 with the id, or an error body; or no answer at all, as the faults say."""
        raw = await request.read()
        if self._faults.answer_delay_s > 0:
            await asyncio.sleep(self._faults.answer_delay_s)
        if self._happens(self._faults.reset_ratio):
            return self._reset(request)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self.refuse((400, bodies.error(1009, "The body is not JSON")))
        refusal = self._standing_fault() or sending.check_body(body) or self._contact_fault(body)
        if refusal:
            return self.refuse(refusal)
        return await self._take(request, body)

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Mark an incoming message as read."""
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or body.get("status") != "read":
            return web.json_response(bodies.error(1009, "Parameter 'status' must be read"), status=400)
        self._journal.reads_marked.append(request.match_info["id"])
        return web.json_response({"meta": bodies.META})

    def refuse(self, answer: sending.Answer) -> web.Response:
        """Answer an error and count it."""
        status, body = answer
        self._journal.refusals[f"{status}/{body['errors'][0]['code']}"] += 1
        return web.json_response(body, status=status)

    async def _take(self, request: web.Request, body: bodies.Json) -> web.StreamResponse:
        is_group = body.get("recipient_type") == "group"
        entry = self._try_send(body["to"], is_group, sending.text_of(body))
        if isinstance(entry, str):
            if entry == "group":
                return self.refuse((404, bodies.error(1006, "unknown group")))
            return self.refuse((503, bodies.error(1016, entry)))
        if self._happens(self._faults.lost_answer_ratio):
            entry.is_answered = False
            return self._reset(request)
        if self._happens(self._faults.hang_ratio):
            entry.is_answered = False
            await asyncio.Event().wait()  # The server cancels the handler when the caller hangs up.
        return web.json_response(bodies.sent_answer(entry.id, body["to"]), status=201)

    def _standing_fault(self) -> sending.Answer | None:
        faults = self._faults
        if faults.is_throttled:
            return 429, bodies.error(1015)
        if faults.is_overloaded:
            return 503, bodies.error(1016)
        if faults.is_spam_restricted:
            # The HTTP status beside 471 was never published; the code is what counts.
            return 403, bodies.error(471)
        if self._happens(faults.error_ratio):
            return 500, bodies.error(1000)
        return None

    def _contact_fault(self, body: bodies.Json) -> sending.Answer | None:
        is_individual = body.get("recipient_type", "individual") == "individual"
        if self._faults.is_contact_check_needed and is_individual and body["to"] not in self._known_contacts:
            return 404, bodies.error(1006, "unknown contact")
        return None

    def _happens(self, ratio: float) -> bool:
        return ratio > 0.0 and self._rng.random() < ratio

    def _reset(self, request: web.Request) -> web.StreamResponse:
        """Close with a TCP reset, as a peer does that died."""
        transport = request.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
            transport.abort()
        return web.Response()

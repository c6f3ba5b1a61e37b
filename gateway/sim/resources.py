"""Contacts, media and groups of the WebApp."""

import random
import uuid
from typing import Final

import orjson
from aiohttp import web

from gateway.clock import Clock
from gateway.sim import bodies
from gateway.sim.groups import Groups

MEDIA_MAX: Final = 100
"""Files kept in memory; the oldest goes. A test that needs more than that tests something else."""
CONTACTS_MAX: Final = 1_000_000


class Resources:
    """Handlers over three small tables."""

    def __init__(self, clock: Clock, rng: random.Random, groups: Groups, known_contacts: set[str]) -> None:
        self._clock = clock
        self._rng = rng
        self._groups = groups
        self._known_contacts = known_contacts
        self._media: dict[str, tuple[bytes, str]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/contacts", self.check_contacts),
            web.post("/v1/media", self.upload),
            web.get("/v1/media/{id}", self.download),
            web.delete("/v1/media/{id}", self.delete),
            web.get("/v1/groups", self.list_groups),
            web.post("/v1/groups", self.create_group),
            web.get("/v1/groups/{id}", self.group_info),
        ]

    async def check_contacts(self, request: web.Request) -> web.Response:
        """Every contact is valid, as since 2.43; whom we were asked for is known to `/v1/messages`."""
        body = await _json(request)
        contacts = body.get("contacts")
        if not isinstance(contacts, list):
            return web.json_response(bodies.error(1008, "Parameter 'contacts' is required"), status=400)
        answers = []
        for given in contacts:
            wa_id = "".join(char for char in str(given) if char.isdecimal())
            if len(self._known_contacts) < CONTACTS_MAX:
                self._known_contacts.add(wa_id)
            answers.append({"input": given, "status": "valid", "wa_id": wa_id})
        return web.json_response({"contacts": answers, "meta": bodies.META})

    async def upload(self, request: web.Request) -> web.Response:
        """201 with an id; the bytes are kept as they came."""
        id_ = str(uuid.UUID(bytes=self._rng.randbytes(16), version=4))
        if len(self._media) >= MEDIA_MAX:
            del self._media[next(iter(self._media))]
        self._media[id_] = (await request.read(), request.content_type)
        return web.json_response({"media": [{"id": id_}], "meta": bodies.META}, status=201)

    async def download(self, request: web.Request) -> web.Response:
        """The bytes; an unknown id answers 404 without a body."""
        found = self._media.get(request.match_info["id"])
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found[0], content_type=found[1])

    async def delete(self, request: web.Request) -> web.Response:
        if self._media.pop(request.match_info["id"], None) is None:
            return web.Response(status=404)
        return web.json_response({"meta": bodies.META})

    async def list_groups(self, _request: web.Request) -> web.Response:
        return web.json_response({"groups": self._groups.ids(), "meta": bodies.META})

    async def create_group(self, request: web.Request) -> web.Response:
        """A group with a subject.

        `wa_ids` beside it are its members, a short cut: the real client makes an empty group and people
        join by its invite link.
        """
        body = await _json(request)
        if not isinstance(body.get("subject"), str):
            return web.json_response(bodies.error(1008, "Parameter 'subject' is required"), status=400)
        members = tuple(str(member) for member in body.get("wa_ids", ()))
        id_ = self._groups.create(members, self._clock.wall_ms(), body["subject"])
        return web.json_response({"groups": [self._groups.created(id_)], "meta": bodies.META}, status=201)

    async def group_info(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if self._groups.members(id_) is None:
            return web.json_response(bodies.error(1006, "unknown group"), status=404)
        return web.json_response({"groups": [self._groups.info(id_)], "meta": bodies.META})


async def _json(request: web.Request) -> bodies.Json:
    """The body as an object; anything else counts as an empty one."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}

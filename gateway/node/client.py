"""The node as its clients see it: login, sends, contacts. One class for both dialects' ways of getting in."""

import asyncio
import base64
import logging
import math
from typing import Final
from urllib.parse import quote

import msgspec
import orjson

from gateway.dialects.dialect import Answer, Dialect
from gateway.errors import NodeError
from gateway.http.client import HttpClient, Response

log = logging.getLogger(__name__)

RETRY_AFTER_MAX_S: Final = 3600.0
"""Of a node's Retry-After that is believed."""


class _User(msgspec.Struct):
    token: str = ""
    expires_after: str = ""


class _LoginBody(msgspec.Struct):
    users: list[_User] = []


class _Group(msgspec.Struct):
    participants: list[str] | None = None
    creator: str = ""


class _GroupsBody(msgspec.Struct):
    groups: list[_Group] = []


class _Sample(msgspec.Struct):
    value: float = 0


class _Metric(msgspec.Struct):
    data: list[_Sample] = []


class _AppStats(msgspec.Struct):
    callback_queue_size: _Metric = msgspec.field(default_factory=_Metric)


class _Stats(msgspec.Struct):
    app: _AppStats = msgspec.field(default_factory=_AppStats)


class _StatsBody(msgspec.Struct):
    stats: _Stats = msgspec.field(default_factory=_Stats)


class NodeClient:
    """Calls one node. Its token is shared by all senders and renewed by one of them at a time."""

    def __init__(
        self,
        http: HttpClient,
        base_url: str,
        messages_path: str,
        dialect: Dialect,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
    ) -> None:
        """On-prem: `user` and `password`, the token comes from a login. Cloud: a fixed `token`, no login."""
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._messages_path = messages_path
        self._dialect = dialect
        self._user = user
        self._password = password
        self._token = token
        self._has_login = not token
        self._login_lock = asyncio.Lock()
        self.logins = 0

    @property
    def has_token(self) -> bool:
        """Whether a request can go without a login first."""
        return bool(self._token)

    async def send(self, body: bytes) -> Answer:
        """POST a send request with the token we have, logging in first when there is none.

        Raises NodeError when no answer came.
        """
        if not self._token:
            await self.login()
        response = await self._call("POST", self._messages_path, body)
        assert response.status is not None
        answer = self._dialect.read_answer(response.status, response.body, _retry_after_s(response))
        return msgspec.structs.replace(answer, body=response.body)

    async def login(self) -> None:
        """Get a new token (7 days on-prem). Callers that come while one logs in share its result.

        Raises NodeError when the node refuses or does not answer.
        """
        if not self._has_login:
            raise NodeError(
                "the access token is no longer accepted, and only the operator can give another",
                was_sent=False,
            )
        stale = self._token
        async with self._login_lock:
            if self._token and self._token != stale:
                return
            self._token = ""
            secret = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            response = await self._http.request(
                "POST",
                f"{self._base_url}/v1/users/login",
                headers={"Authorization": f"Basic {secret}", "Content-Type": "application/json"},
            )
            if response.status is None:
                raise NodeError(f"login: {response.error}", was_sent=False)
            self._token = _token(response)
            self.logins += 1
            log.info("logged in to the node", extra={"logins": self.logins})

    async def check_contact(self, to: str) -> None:
        """Make the node look a contact up (POST /v1/contacts), as clients before v2.39 need.

        Raises NodeError when no answer came.
        """
        digits = to.lstrip("+")
        request = {"blocking": "wait", "contacts": [f"+{digits}"], "force_check": False}
        await self._call("POST", "/v1/contacts", orjson.dumps(request))

    async def group_members(self, group_id: str) -> int | None:
        """Members of a group without ourselves (GET /v1/groups/{id}, on-prem); None when the node does not say.

        Only we can have created it, and the creator is among its participants.
        Raises NodeError when no answer came.
        """
        if not self._token:
            await self.login()
        response = await self._call("GET", f"/v1/groups/{quote(group_id, safe='')}", b"")
        return _members(response)

    async def callback_queue(self) -> int | None:
        """Callbacks waiting at the node (GET /v1/stats/app, on-prem); None when it does not say. Never raises."""
        if not self._token:
            return None
        try:
            response = await self._call("GET", "/v1/stats/app", b"")
        except NodeError:
            return None
        return _callback_queue(response)

    async def call(self, method: str, path: str, body: bytes = b"") -> Response:
        """Make a request, logging in first when there is no token, and once more when ours is not accepted.

        Raises NodeError when no answer came.
        """
        if not self._token:
            await self.login()
        response = await self._call(method, path, body)
        if response.status != 401:
            return response
        await self.login()
        return await self._call(method, path, body)

    async def _call(self, method: str, path: str, body: bytes) -> Response:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        response = await self._http.request(method, self._base_url + path, body, headers)
        if response.status is None:
            raise NodeError(response.error, was_sent=response.was_sent)
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _token(response: Response) -> str:
    if response.status == 200:
        try:
            users = msgspec.json.decode(response.body, type=_LoginBody).users
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            users = []
        if users and users[0].token:
            return users[0].token
    raise NodeError(f"login refused: HTTP {response.status}", was_sent=False)


def _members(response: Response) -> int | None:
    if response.status != 200:
        return None
    try:
        groups = msgspec.json.decode(response.body, type=_GroupsBody).groups
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not groups or groups[0].participants is None:
        return None
    return len(set(groups[0].participants) - {groups[0].creator}) or None


def _callback_queue(response: Response) -> int | None:
    if response.status != 200:
        return None
    try:
        series = msgspec.json.decode(response.body, type=_StatsBody).stats.app.callback_queue_size.data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # In a cluster each CoreApp has a queue of its own.
    size = sum(sample.value for sample in series)
    return int(size) if series and math.isfinite(size) else None


def _retry_after_s(response: Response) -> float | None:
    value = response.headers.get("retry-after", "").strip()
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        return None
    return min(float(value), RETRY_AFTER_MAX_S)

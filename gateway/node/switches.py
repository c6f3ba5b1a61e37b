"""Which receipts the node makes: `webhooks.message.delivered` and `.read` of its application settings.

The client has them since v2.41.2, and only an admin may read or change settings. A receipt switched off is not made up
for later.
"""

from typing import Any, Final, Protocol

import msgspec
import orjson

from gateway.errors import NodeError
from gateway.http.client import Response

PATH: Final = "/v1/settings/application"
RECEIPTS: Final = ("delivered", "read")

_PASSING: Final = frozenset({408, 425, 429})
"""Of 4xx: those that speak of the moment, not of the request."""


class WebApp(Protocol):
    """The node as this part sees it."""

    async def call(self, method: str, path: str, body: bytes = b"") -> Response:
        """The answer to a request with our login. Raises NodeError when none came."""


class Refused(msgspec.Struct, frozen=True):
    """The node won't, and asking again does not help: its user is no admin, or the client is too old."""

    reason: str


class _Application(msgspec.Struct):
    webhooks: dict[str, Any] = {}


class _Settings(msgspec.Struct):
    application: _Application


class _SettingsBody(msgspec.Struct):
    settings: _Settings


class Webhooks(msgspec.Struct, frozen=True):
    """The object `webhooks` of the settings, as the node has it."""

    fields: dict[str, Any]

    def on(self) -> list[str]:
        """The receipts that are switched on."""
        return [name for name in RECEIPTS if self.fields["message"].get(name) is True]


class ReceiptSwitches:
    """Reads and writes them at one node. NodeError from both: no answer we can use, try again."""

    def __init__(self, node: WebApp) -> None:
        self._node = node

    async def read(self) -> Webhooks | Refused:
        """What is set now."""
        response = await self._node.call("GET", PATH)
        if (refused := _refused("GET", response)) is not None:
            return refused
        try:
            fields = msgspec.json.decode(response.body, type=_SettingsBody).settings.application.webhooks
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise NodeError(f"GET {PATH}: an answer we can't read", was_sent=True) from None
        message = fields.get("message")
        if not isinstance(message, dict) or not any(isinstance(message.get(name), bool) for name in RECEIPTS):
            return Refused("no webhooks.message in its settings: the client must be v2.41.2 or newer")
        return Webhooks(fields)

    async def write(self, webhooks: Webhooks, names: list[str], *, is_on: bool) -> Refused | None:
        """Switch the receipts of `names` on or off; `webhooks` is what was just read.

        The whole object goes back, not the fields that change: that a PATCH merges nested objects is documented
        for no field below the first level, and a node that does not would lose the URL of its webhook.
        """
        message = webhooks.fields["message"] | dict.fromkeys(names, is_on)
        change = {"webhooks": webhooks.fields | {"message": message}}
        return _refused("PATCH", await self._node.call("PATCH", PATH, orjson.dumps(change)))


def _refused(method: str, response: Response) -> Refused | None:
    """None: it was done. Raises NodeError for an answer that another attempt may change."""
    status = response.status
    assert status is not None
    if 200 <= status < 300:
        return None
    said = f"{method} {PATH}: HTTP {status}"
    if 400 <= status < 500 and status not in _PASSING:
        return Refused(f"{said}, GATEWAY_NODE_USER must be an admin" if status in {401, 403} else said)
    raise NodeError(said, was_sent=True)

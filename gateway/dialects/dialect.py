"""What a dialect knows of sends: requests in, requests out, and the node's answers.

Webhooks need no choice of dialect: `gateway.dialects.webhook` reads both.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import orjson


class Push(msgspec.Struct, frozen=True):
    """A send request whose shape is right."""

    to: str
    is_group: bool


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is refused: HTTP status, and code, title and details in the dialect's terms."""

    status: int
    code: int
    title: str
    details: str


class Answer(msgspec.Struct, frozen=True):
    """What the node said to a send."""

    status: int
    """HTTP status."""
    message_id: str = ""
    """WhatsApp's id, on success."""
    code: int | None = None
    """The first error's code, when the body names one."""
    title: str = ""
    retry_after_s: float | None = None


class Codes(msgspec.Struct, frozen=True):
    """The error codes a dialect uses for what we refuse."""

    missing: int
    invalid: int
    denied: int
    not_found: int
    busy: int


class Dialect(Protocol):
    """How one API generation spells what the gateway says and hears."""

    name: str
    codes: Codes

    def read_push(self, body: bytes) -> Push | Refusal:
        """Check the shape of a send request; what it says is the node's to judge."""

    def accepted_body(self, send_id: str) -> bytes:
        """The answer to a send that is stored and queued."""

    def refusal_body(self, refusal: Refusal) -> bytes:
        """The answer to a request that is refused."""

    def reply_body(self, message: Mapping[str, Any], to: str, is_group: bool) -> bytes:
        """A send request made of a message object in a backend's answer, `to` filled in where missing."""

    def read_answer(self, status: int, body: bytes, retry_after_s: float | None) -> Answer:
        """The node's answer to a send; never raises, whatever the body."""


def read_object(body: bytes) -> dict[str, Any] | None:
    """`body` as a JSON object; None when it is anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def read_recipient(body: bytes, codes: Codes) -> Push | Refusal:
    """The part of a send request both dialects share: `to` and `recipient_type`."""
    request = read_object(body)
    if request is None:
        return Refusal(400, codes.invalid, "Parameter value is not valid", "the body must be a JSON object")
    to = request.get("to")
    if not isinstance(to, str) or not to:
        return Refusal(400, codes.missing, "Required parameter is missing", "'to' must be a non-empty string")
    return Push(to, is_group=request.get("recipient_type") == "group")

"""What a dialect knows of sends: requests in, requests out, and the node's answers.

Webhooks need no choice of dialect: `gateway.dialects.webhook` reads both.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import orjson

from gateway.events import Outcome


class Push(msgspec.Struct, frozen=True):
    """A send request whose shape is right."""

    to: str
    is_group: bool
    ttl_ms: int = 0
    """How long the request itself lets it live; 0: it does not say."""


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
    body: bytes = b""
    """As it came."""


class Codes(msgspec.Struct, frozen=True):
    """The error codes a dialect uses for what we refuse."""

    missing: int
    invalid: int
    denied: int
    not_found: int
    busy: int
    failed: int
    """Of a send that failed for a reason that has no code."""
    ended: int
    """Of a send that expired or was cancelled."""


class Unsent(msgspec.Struct, frozen=True):
    """A send that ended, and that WhatsApp did not take as far as we know."""

    id: str
    """Our queue id."""
    to: str
    is_group: bool
    outcome: Outcome
    reason: str
    code: int | None
    """The node's, where it named one."""
    at_ms: int
    """When it ended (wall clock)."""


class Dialect(Protocol):
    """How one API generation spells what the gateway says and hears."""

    name: str
    codes: Codes

    def read_push(self, body: bytes) -> Push | Refusal:
        """Check the shape of a send request; what it says is the node's to judge."""

    def accepted_body(self, send_id: str, place: Mapping[str, object]) -> bytes:
        """The answer to a send that is stored and queued; `place` is where, in a field of ours, `gateway`."""

    def refusal_body(self, refusal: Refusal) -> bytes:
        """The answer to a request that is refused."""

    def reply_body(self, message: Mapping[str, Any], to: str, is_group: bool) -> bytes:
        """A send request made of a message object in a backend's answer, `to` filled in where missing."""

    def read_answer(self, status: int, body: bytes, retry_after_s: float | None) -> Answer:
        """The node's answer to a send; never raises, whatever the body."""

    def failed_status(self, unsent: Unsent) -> bytes:
        """The webhook body that tells of a send's end, as the API itself tells of a failed message."""


CODE_MAX: Final = 2**31 - 1


def known_code(code: int | None) -> int | None:
    """An error's code, unless it is a number that can be none: what we tell of it must fit into 64 bits."""
    return code if code is not None and 0 <= code <= CODE_MAX else None


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


_TITLES: Final = {
    Outcome.FAILED: "Message failed to send",
    Outcome.EXPIRED: "Message expired",
    Outcome.CANCELLED: "Message cancelled",
}


def failed_status(unsent: Unsent, codes: Codes, **details: Any) -> dict[str, Any]:
    """The part of such a status that both dialects share; `details` goes into its error.

    `gateway` marks it as ours: it tells our id again, and the outcome, which `failed` alone does not.
    """
    by_default = codes.failed if unsent.outcome is Outcome.FAILED else codes.ended
    code = by_default if unsent.code is None else unsent.code
    return {
        "id": unsent.id,
        # As WhatsApp writes it: a phone number has no plus there.
        "recipient_id": unsent.to if unsent.is_group else unsent.to.removeprefix("+"),
        "status": "failed",
        "timestamp": str(unsent.at_ms // 1000),
        "errors": [{"code": code, "title": _TITLES[unsent.outcome], **details}],
        "gateway": {"id": unsent.id, "outcome": unsent.outcome.label, "reason": unsent.reason},
    }

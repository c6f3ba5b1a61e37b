"""`POST /v1/messages` decided: is the body right, may it go now, and what the answer says. Pure."""

from typing import Any, Final

from gateway.sim import bodies

TEXT_MAX: Final = 4096
"""Characters of a text body; beyond it the client answers 1001."""

TYPES: Final = (
    "text", "template", "hsm", "image", "video", "document", "audio", "sticker",
    "location", "contacts", "interactive", "reaction",
)  # fmt: skip

Answer = tuple[int, bodies.Json]
"""An HTTP status and its body."""


def check_body(body: Any) -> Answer | None:
    """The refusal of a malformed send: 400 with 1008 (missing), 1009 (not valid) or 1001 (too long)."""
    if not isinstance(body, dict):
        return 400, bodies.error(1009, "The body must be a JSON object")
    if "to" not in body:
        return 400, bodies.error(1008, "Parameter 'to' is required")
    if not isinstance(body["to"], str) or not body["to"]:
        return 400, bodies.error(1009, "Parameter 'to' must be a phone number or a group id")
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        return 400, bodies.error(1009, "Parameter 'recipient_type' must be individual or group")
    kind = body.get("type", "text")
    if kind not in TYPES:
        return 400, bodies.error(1009, f"Parameter 'type' must be one of {', '.join(TYPES)}")
    if kind not in body:
        return 400, bodies.error(1008, f"Parameter '{kind}' is required")
    return _check_text(body["text"]) if kind == "text" else None


def _check_text(text: Any) -> Answer | None:
    if not isinstance(text, dict) or "body" not in text:
        return 400, bodies.error(1008, "Parameter 'text.body' is required")
    if not isinstance(text["body"], str) or not text["body"]:
        return 400, bodies.error(1009, "Parameter 'text.body' must be a string of 1 to 4096 characters")
    if len(text["body"]) > TEXT_MAX:
        return 400, bodies.error(1001, f"{len(text['body'])} characters, at most {TEXT_MAX}")
    return None


def text_of(body: bodies.Json) -> str:
    """The text of a text message, otherwise empty."""
    text = body.get("text")
    return str(text.get("body", "")) if isinstance(text, dict) else ""

"""The wire shapes of the On-Premises client: answers of the WebApp and items of Coreapp's callbacks.

Shapes as published; where nothing was published (receipts of group members) we use one status per member
with `recipient_id` = the member and `group_id` = the group.
"""

import base64
import random
from datetime import UTC, datetime
from typing import Any, Final

Json = dict[str, Any]

VERSION: Final = "2.57.2"
META: Final[Json] = {"api_status": "stable", "version": VERSION}

TITLES: Final = {
    471: "Spam rate limit hit",
    1000: "Generic error",
    1001: "Message too long",
    1005: "Access denied",
    1006: "Resource not found",
    1008: "Required parameter is missing",
    1009: "Parameter value is not valid",
    1015: "Too many requests",
    1016: "System overloaded",
}


def make_id(prefix: str, rng: random.Random) -> str:
    """An id in the client's style: `gBEG...` for what it sends, `ABGG...` for what it receives."""
    return prefix + base64.urlsafe_b64encode(rng.randbytes(18)).decode()


def error(code: int, details: str = "") -> Json:
    """The error body: `{"errors": [{"code", "title", "details"?}], "meta"}`."""
    item: Json = {"code": code, "title": TITLES[code]}
    if details:
        item["details"] = details
    return {"errors": [item], "meta": META}


def login(token: str, expires_ms: int) -> Json:
    """A new token; `expires_after` has a space where ISO 8601 has a T, as the client writes it."""
    expires = datetime.fromtimestamp(expires_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")
    return {"users": [{"token": token, "expires_after": expires}], "meta": META}


def sent_answer(id_: str, to: str) -> Json:
    """What a 201 says: the id, and the contact it resolved."""
    return {"messages": [{"id": id_}], "contacts": [{"input": to, "wa_id": to}], "meta": META}


def health(gateway_status: str) -> Json:
    """Single instance form."""
    return {"health": {"gateway_status": gateway_status}, "meta": META}


def text(body: str) -> Json:
    """The content of a text message."""
    return {"type": "text", "text": {"body": body}}


def message(id_: str, sender: str, content: Json, wall_ms: int, group: str = "") -> Json:
    """One item of `messages`: timestamps are epoch seconds in a string; `content` is `type` and its object."""
    item: Json = {"from": sender, "id": id_, "timestamp": str(wall_ms // 1000)}
    if group:
        item["group_id"] = group
    return item | content


def contact(wa_id: str) -> Json:
    """One item of `contacts`, beside the message it belongs to."""
    return {"profile": {"name": f"Customer {wa_id[-4:]}"}, "wa_id": wa_id}


def status(id_: str, recipient: str, name: str, wall_ms: int, group: str = "") -> Json:
    """One item of `statuses`: sent, delivered, read."""
    item: Json = {"id": id_, "recipient_id": recipient, "status": name, "timestamp": str(wall_ms // 1000)}
    if group:
        item["group_id"] = group
    return item


def failed_status(id_: str, recipient: str, wall_ms: int, group: str = "") -> Json:
    """A send that WhatsApp refused after the 201: the 24 hours since the customer's last message are over."""
    item = status(id_, recipient, "failed", wall_ms, group)
    item["errors"] = [{"code": 470, "title": "Re-engagement message", "details": "More than 24 hours passed"}]
    return item


def metric(help_: str, type_: str, *values: tuple[Json, float]) -> Json:
    """One metric of `/v1/stats/app`; each value with its labels (none: no `labels` key)."""
    rows = [{"labels": labels, "value": value} if labels else {"value": value} for labels, value in values]
    return {"data": rows, "help": help_, "type": type_}

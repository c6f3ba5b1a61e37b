"""Instant replies: the messages a backend puts into its answer to a message webhook.

The body is one message object, a list of them, or `{"messages": [...]}`; `to` defaults to the chat answered.
An empty body, or JSON of another shape such as `{"status": "ok"}`, is an answer without a reply.
"""

from typing import Any, Final

import msgspec
import orjson

from gateway.dialects.dialect import Dialect
from gateway.dialects.webhook import decode

REPLIES_MAX: Final = 16
"""Messages in one answer. WhatsApp shows them one by one: more than this is a mistake or an attack."""


class Reply(msgspec.Struct, frozen=True):
    """A message to send, in the node's dialect."""

    to: str
    is_group: bool
    body: bytes


class Replies(msgspec.Struct, frozen=True):
    """What was found in an answer, and what was wrong with the rest (empty when nothing was)."""

    replies: list[Reply]
    problem: str = ""


_NONE: Final = Replies([])


def read_replies(answer: bytes, webhook_body: bytes, lane: str, dialect: Dialect) -> Replies:
    """The replies in a backend's answer to `webhook_body`, whose chat is `lane`. Never raises."""
    if not answer.strip():
        return _NONE
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        if answer.lstrip()[:1] in (b"{", b"["):
            return Replies([], f"an answer looks like JSON and is none: {error}")
        return _NONE  # "OK" in plain text is what many backends say
    messages = _messages(value)
    if not messages:
        return _NONE
    if len(messages) > REPLIES_MAX:
        return Replies([], f"{len(messages)} replies in one answer, at most {REPLIES_MAX} are allowed")
    is_group_chat = _is_group(webhook_body)
    replies: list[Reply] = []
    for message in messages:
        if not isinstance(message, dict) or not _is_message(message):
            return Replies(replies, "a reply is not a message object with a 'type' or a 'text'")
        to = message.get("to", lane)
        if not isinstance(to, str) or not to:
            return Replies(replies, "a reply has no 'to', and the webhook names no chat to answer")
        is_group = message.get("recipient_type") == "group" if "to" in message else is_group_chat
        try:
            body = dialect.reply_body(message, to, is_group)
        except orjson.JSONEncodeError as error:  # it reads 1024 levels of nesting, and writes 254
            return Replies(replies, f"a reply can't be encoded: {error}")
        replies.append(Reply(to, is_group, body))
    return Replies(replies)


def _messages(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("messages"), list):
        return list(value["messages"])
    return [value] if _is_message(value) else []


def _is_message(value: dict[str, Any]) -> bool:
    kind = value.get("type", "text")
    return isinstance(kind, str) and isinstance(value.get(kind), list if kind == "contacts" else dict)


def _is_group(webhook_body: bytes) -> bool:
    """Whether the webhook's first message came from a group. Its lane is then the group's id."""
    return b'"group_id"' in webhook_body and any(event.is_group for event in decode(webhook_body).events)

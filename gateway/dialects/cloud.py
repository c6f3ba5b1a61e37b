"""Sends in the Cloud API's dialect: `messaging_product`, one `error` object, 200 on success."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from gateway.dialects.dialect import (
    Answer,
    Codes,
    Push,
    Refusal,
    Unsent,
    failed_status,
    known_code,
    read_recipient,
)
from gateway.dialects.webhook import CLOUD_OBJECT


class _Id(msgspec.Struct):
    id: str = ""


class _Error(msgspec.Struct):
    code: int | None = None
    message: str | None = None


class _AnswerBody(msgspec.Struct):
    messages: list[_Id] = []
    error: _Error | None = None


_decode_answer = msgspec.json.Decoder(_AnswerBody).decode


class Cloud:
    """The dialect of Meta's Cloud API."""

    name = "cloud"
    codes = Codes(
        missing=100, invalid=100, denied=190, not_found=100, busy=130429, failed=131000, ended=131000
    )

    def __init__(self, phone_id: str = "") -> None:
        """`phone_id` is the number's in the Graph API, for bodies of ours."""
        self._phone_id = phone_id

    def read_push(self, body: bytes) -> Push | Refusal:
        return read_recipient(body, self.codes)

    def accepted_body(self, send_id: str, place: Mapping[str, object]) -> bytes:
        answer = {"messaging_product": "whatsapp", "messages": [{"id": send_id}], "gateway": place}
        return orjson.dumps(answer)

    def refusal_body(self, refusal: Refusal) -> bytes:
        error = {
            "message": f"(#{refusal.code}) {refusal.title}",
            "type": "OAuthException",
            "code": refusal.code,
            "error_data": {"messaging_product": "whatsapp", "details": refusal.details},
        }
        return orjson.dumps({"error": error})

    def reply_body(self, message: Mapping[str, Any], to: str, is_group: bool) -> bytes:
        recipient_type = "group" if is_group else "individual"
        head = {"messaging_product": "whatsapp", "recipient_type": recipient_type, "to": to}
        return orjson.dumps({**head, **message})

    def read_answer(self, status: int, body: bytes, retry_after_s: float | None) -> Answer:
        try:
            parsed = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Answer(status, retry_after_s=retry_after_s)
        if parsed.error is not None:
            error = parsed.error
            return Answer(
                status, code=known_code(error.code), title=error.message or "", retry_after_s=retry_after_s
            )
        message_id = parsed.messages[0].id if parsed.messages else ""
        return Answer(status, message_id=message_id, retry_after_s=retry_after_s)

    def failed_status(self, unsent: Unsent) -> bytes:
        error_data = {"details": unsent.reason}
        status = failed_status(unsent, self.codes, message=unsent.reason, error_data=error_data)
        if unsent.is_group:
            status["recipient_type"] = "group"
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "", "phone_number_id": self._phone_id},
            "statuses": [status],
        }
        # Nobody told us the id of the business account; Meta's own test webhooks have 0 there.
        entry = {"id": "0", "changes": [{"field": "messages", "value": value}]}
        return orjson.dumps({"object": CLOUD_OBJECT, "entry": [entry]})

"""Sends in the On-Premises dialect: `errors` arrays, `recipient_type`, ids in `messages[0]`."""

import re
from collections.abc import Mapping
from typing import Any, Final

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


class _Id(msgspec.Struct):
    id: str = ""


class _Error(msgspec.Struct):
    code: int | None = None
    title: str | None = None
    details: str | None = None


class _ShortError(msgspec.Struct):
    errorcode: int | None = None


class _AnswerBody(msgspec.Struct):
    messages: list[_Id] = []
    errors: list[_Error] = []
    error: _ShortError | None = None
    """The second shape rate errors have been seen in: `{"error": {"errorcode": 429}}`."""


_decode_answer = msgspec.json.Decoder(_AnswerBody).decode


_DAY_MS: Final = 86_400_000
_TTL_DAYS_MAX: Final = 30


def _ttl_ms(ttl: Any) -> int:
    """A template's `ttl`, which clients from v2.21.3 to v2.35 take: days, from 1 to 30.

    As a number, `{"days": 1}` or `P1D`; what is anything else is for the node to judge.
    """
    days = ttl.get("days") if isinstance(ttl, dict) else ttl
    if isinstance(days, str) and (match := re.fullmatch("(?:P([0-9]{1,2})D|([0-9]{1,2}))", days)):
        days = int(match[1] or match[2])
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= _TTL_DAYS_MAX:
        return 0
    return days * _DAY_MS


class OnPrem:
    """The dialect of the WebApp's REST API."""

    name = "onprem"
    codes = Codes(missing=1008, invalid=1009, denied=1005, not_found=1006, busy=1015, failed=500, ended=410)

    def read_push(self, body: bytes) -> Push | Refusal:
        push = read_recipient(body, self.codes)
        if isinstance(push, Push) and b'"ttl"' in body:
            return msgspec.structs.replace(push, ttl_ms=_ttl_ms(orjson.loads(body).get("ttl")))
        return push

    def accepted_body(self, send_id: str, place: Mapping[str, object]) -> bytes:
        return orjson.dumps({"messages": [{"id": send_id}], "gateway": place})

    def refusal_body(self, refusal: Refusal) -> bytes:
        error = {"code": refusal.code, "title": refusal.title, "details": refusal.details}
        return orjson.dumps({"errors": [error]})

    def reply_body(self, message: Mapping[str, Any], to: str, is_group: bool) -> bytes:
        request = {"to": to, **({"recipient_type": "group"} if is_group else {}), **message}
        return orjson.dumps(request)

    def read_answer(self, status: int, body: bytes, retry_after_s: float | None) -> Answer:
        try:
            parsed = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Answer(status, retry_after_s=retry_after_s)
        if parsed.errors:
            error = parsed.errors[0]
            title = ": ".join(part for part in (error.title, error.details) if part)
            return Answer(status, code=known_code(error.code), title=title, retry_after_s=retry_after_s)
        if parsed.error is not None:
            return Answer(status, code=known_code(parsed.error.errorcode), retry_after_s=retry_after_s)
        message_id = parsed.messages[0].id if parsed.messages else ""
        return Answer(status, message_id=message_id, retry_after_s=retry_after_s)

    def failed_status(self, unsent: Unsent) -> bytes:
        return orjson.dumps({"statuses": [failed_status(unsent, self.codes, details=unsent.reason)]})

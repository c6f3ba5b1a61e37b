"""A log record as one line of JSON or text."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.ops.logs.redact import redact_field, redact_text

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

MESSAGE_CHARACTERS_MAX: Final = 4_096
EXCEPTION_CHARACTERS_MAX: Final = 16_384
"""A traceback beyond it keeps its end, where the error is. With both a line stays below the 48 KiB at which
journald cuts (LineMax=)."""

_PRIORITY: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Render = Callable[[logging.LogRecord], bytes]


def renderer(*, is_json: bool, has_priority: bool, shows_content: bool) -> Render:
    """A function from record to line, newline included.

    `has_priority` puts journald's `<N>` in front; without `shows_content` phone numbers are masked.
    """

    def render(record: logging.LogRecord) -> bytes:
        message, exception, fields = _parts(record)
        if not shows_content:
            message, exception = redact_text(message), redact_text(exception)
            fields = {name: redact_field(name, value) for name, value in fields.items()}
        line = (_json if is_json else _text)(record, message, exception, fields)
        prefix = b"<%d>" % _priority(record.levelno) if has_priority else b""
        return prefix + line + b"\n"

    return render


def _parts(record: logging.LogRecord) -> tuple[str, str, dict[str, Any]]:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        message = f"{record.msg} (its arguments do not fit: {record.args!r})"
    exception = ""
    if record.exc_info and record.exc_info[0] is not None:
        exception = logging.Formatter().formatException(record.exc_info)
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if len(message) > MESSAGE_CHARACTERS_MAX:
        message = f"{message[:MESSAGE_CHARACTERS_MAX]}…"
    if len(exception) > EXCEPTION_CHARACTERS_MAX:
        exception = f"…{exception[-EXCEPTION_CHARACTERS_MAX:]}"
    return message, exception, fields


def _json(record: logging.LogRecord, message: str, exception: str, fields: dict[str, Any]) -> bytes:
    line: dict[str, Any] = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
    }
    line |= {name: value for name, value in fields.items() if name not in line}
    if exception:
        line["exception"] = exception
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a number beyond 64 bits, half a surrogate pair, a loop
        return orjson.dumps({name: _encodable(str(value)) for name, value in line.items()})


def _text(record: logging.LogRecord, message: str, exception: str, fields: dict[str, Any]) -> bytes:
    words = [_time(record), f"{record.levelname:<7}", record.name, message]
    words += [f"{name}={value}" for name, value in fields.items()]
    if exception:
        words.append(exception)
    return _CONTROL.sub(_escape, _encodable(" ".join(words))).encode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITY if level >= least), 7)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _escape(match: re.Match[str]) -> str:
    # `\n`, `\x1b`: a message from outside neither starts a line nor commands a terminal.
    return match[0].encode("unicode_escape").decode()

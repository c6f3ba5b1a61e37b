"""Phone numbers out of log lines: masked by name where we know the field, and by shape everywhere as a net."""

import re
from typing import Any, Final

PHONE_FIELDS: Final = frozenset({"lane", "to", "contact", "phone", "recipient", "wa_id"})
"""Fields that hold a contact's number; what is in them is masked whatever its shape."""

_UNITS: Final = ("_ms", "_ns", "_us", "_s", "_bytes", "_total", "_max", "_min", "seq", "count")
"""Endings of whole numbers that are no phone numbers: our names carry their units."""

_SHOWN_HEAD: Final = 5  # country and network: enough to see where it goes
_SHOWN_TAIL: Final = 4  # enough to find the contact again when someone asks
_HIDDEN_MIN: Final = 3

# E.164 numbers have at most 15 digits, and hardly any has less than 8. Letters beside the digits are an id,
# which must stay searchable; a sign or bracket is not.
_PHONE: Final = re.compile(r"(?<![0-9A-Za-z])[0-9]{8,15}(?![0-9A-Za-z])")
_PHONE_MIN: Final = 10_000_000
_PHONE_MAX: Final = 10**15 - 1


def mask_phone(phone: str) -> str:
    """`4915112345678` as `49151…5678`; one too short to hide digits in that way as `…`."""
    if len(phone) < _SHOWN_HEAD + _HIDDEN_MIN + _SHOWN_TAIL:
        return "…"
    return f"{phone[:_SHOWN_HEAD]}…{phone[-_SHOWN_TAIL:]}"


def redact_text(text: str) -> str:
    """`text` with every run of 8 to 15 digits masked."""
    return _PHONE.sub(lambda match: mask_phone(match[0]), text)


def redact_field(name: str, value: Any) -> Any:
    """The value of the field `name`, masked; containers to any depth that JSON has."""
    if isinstance(value, str):
        return mask_phone(value) if value and name in PHONE_FIELDS else redact_text(value)
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        is_measure = name.endswith(_UNITS) and name not in PHONE_FIELDS
        is_phone = _PHONE_MIN <= value <= _PHONE_MAX and not is_measure
        return mask_phone(str(value)) if is_phone else value
    if isinstance(value, dict):
        return {redact_text(str(key)): redact_field(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_field(name, item) for item in value]
    return redact_text(str(value))

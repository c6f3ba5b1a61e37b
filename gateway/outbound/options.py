"""What a push may ask for in headers beside its body, read into values. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.config.values import DURATION_MS, parse_duration_ms
from gateway.events import OnUncertain, ReceiptMask, SendClass

PRIORITY: Final = "X-Gateway-Priority"
RECEIPTS: Final = "X-Gateway-Receipts"
UNCERTAIN: Final = "X-Gateway-Uncertain"
TTL: Final = "X-Gateway-TTL"
NOT_BEFORE: Final = "X-Gateway-Not-Before"
KEY: Final = "Idempotency-Key"
PREFER: Final = "Prefer"

TTL_MAX_MS: Final = 30 * DURATION_MS["d"]
AHEAD_MAX_MS: Final = 30 * DURATION_MS["d"]
"""How far ahead a send may be scheduled."""
KEY_CHARACTERS_MAX: Final = 255
WAIT_MAX_S: Final = 60
"""Longest wait for the node's answer; who asks for more gets this."""

_CLASSES: Final = {cls.label: cls for cls in SendClass}
_MASKS: Final = {"all": ReceiptMask.ALL} | {
    mask.name.lower(): mask for mask in ReceiptMask if mask is not ReceiptMask.ALL
}

UNCERTAIN_POLICIES: Final = {policy.name.lower(): policy for policy in OnUncertain}


class Options(msgspec.Struct, frozen=True):
    """How a send wants to be treated."""

    cls: SendClass = SendClass.NORMAL
    mask: ReceiptMask = ReceiptMask.ALL
    ttl_ms: int = 0
    """How long after its acceptance, or after `not_before_ms`, it may still be sent; 0: not said."""
    not_before_ms: int = 0
    """Wall clock, UTC milliseconds: it waits until then, if that has not passed; 0: it does not."""
    key: str = ""
    """Its idempotency key; empty: none."""
    wait_s: int | None = None
    """How long the answer may wait for the node's; None: not said."""
    on_uncertain: OnUncertain | None = None
    """What becomes of it when nobody knows whether the node took it; None: as GATEWAY_UNCERTAIN says."""


class _BadOptionError(ValueError):
    """What is wrong with an option, in words."""


def read_options(headers: Mapping[str, str], now_ms: int = 0) -> Options | str:
    """The options in `headers` (names as in aiohttp, whatever their case), or what is wrong with them, in words.

    `now_ms` is the wall clock. A Prefer (RFC 7240) that we can't read is no mistake: we just don't do it.
    """
    try:
        return Options(
            cls=_class(headers.get(PRIORITY, "normal")),
            mask=_mask(headers.get(RECEIPTS, "all")),
            ttl_ms=0 if (text := headers.get(TTL)) is None else _ttl_ms(text),
            not_before_ms=0 if (text := headers.get(NOT_BEFORE)) is None else _not_before_ms(text, now_ms),
            key="" if (text := headers.get(KEY)) is None else _key(text),
            wait_s=_wait_s(headers.get(PREFER, "")),
            on_uncertain=None if (text := headers.get(UNCERTAIN)) is None else _on_uncertain(text),
        )
    except _BadOptionError as error:
        return str(error)


def read_class(text: str | None) -> SendClass | str:
    """The class that `X-Gateway-Priority` names, or what is wrong with it."""
    try:
        return _class(text)
    except _BadOptionError as error:
        return str(error)


def _class(text: str | None) -> SendClass:
    cls = _CLASSES.get((text or "").strip().lower())
    if cls is None:
        raise _BadOptionError(f"{PRIORITY} must be one of {', '.join(_CLASSES)}, not {text!r}")
    return cls


def _mask(text: str) -> ReceiptMask:
    mask = _MASKS.get(text.strip().lower())
    if mask is None:
        raise _BadOptionError(f"{RECEIPTS} must be one of {', '.join(_MASKS)}, not {text!r}")
    return mask


def _on_uncertain(text: str) -> OnUncertain:
    policy = UNCERTAIN_POLICIES.get(text.strip().lower())
    if policy is None:
        raise _BadOptionError(f"{UNCERTAIN} must be one of {', '.join(UNCERTAIN_POLICIES)}, not {text!r}")
    return policy


def _ttl_ms(text: str) -> int:
    expected = f"{TTL} must be seconds or a duration (30s, 10m, 2h), up to 30d and not 0, not {text!r}"
    text = text.strip()
    is_plain = re.fullmatch("[0-9]{1,12}", text)
    try:
        ttl_ms = int(text) * 1000 if is_plain else parse_duration_ms(text)
    except ValueError:
        raise _BadOptionError(expected) from None
    if not 0 < ttl_ms <= TTL_MAX_MS:
        raise _BadOptionError(expected)
    return ttl_ms


def _not_before_ms(text: str, now_ms: int) -> int:
    expected = (
        f"{NOT_BEFORE} must be an RFC 3339 time or seconds since 1970, at most 30 days ahead, not {text!r}"
    )
    text = text.strip()
    if re.fullmatch("[0-9]{1,12}", text):
        at_ms = int(text) * 1000
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise _BadOptionError(expected) from None
        if at.tzinfo is None:  # whose midnight?
            raise _BadOptionError(f"{expected}; a time needs its offset, or Z")
        at_ms = round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if at_ms > now_ms + AHEAD_MAX_MS:
        raise _BadOptionError(expected)
    return max(0, at_ms)


def _key(text: str) -> str:
    if not re.fullmatch(f"[!-~]{{1,{KEY_CHARACTERS_MAX}}}", text):
        raise _BadOptionError(f"{KEY} must be 1 to {KEY_CHARACTERS_MAX} visible ASCII characters")
    return text


def _wait_s(text: str) -> int | None:
    for preference in text.split(","):
        # Parameters of a preference come after a semicolon, and `wait` has none.
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and re.fullmatch("[0-9]{1,9}", value):
            return min(int(value), WAIT_MAX_S)
    return None

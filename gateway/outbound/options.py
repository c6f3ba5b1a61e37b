"""What a push may ask for in headers beside its body, read into values. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.events import ReceiptMask, SendClass

PRIORITY: Final = "X-Gateway-Priority"
RECEIPTS: Final = "X-Gateway-Receipts"

_CLASSES: Final = {cls.label: cls for cls in SendClass}
_MASKS: Final = {"all": ReceiptMask.ALL} | {
    mask.name.lower(): mask for mask in ReceiptMask if mask is not ReceiptMask.ALL
}


class Options(msgspec.Struct, frozen=True):
    """How a send wants to be treated."""

    cls: SendClass = SendClass.NORMAL
    mask: ReceiptMask = ReceiptMask.ALL


def read_options(headers: Mapping[str, str]) -> Options | str:
    """The options in `headers` (names as in aiohttp, whatever their case), or what is wrong with them, in words."""
    cls, mask = SendClass.NORMAL, ReceiptMask.ALL
    if (text := headers.get(PRIORITY)) is not None:
        found = read_class(text)
        if isinstance(found, str):
            return found
        cls = found
    if (text := headers.get(RECEIPTS)) is not None:
        if text.strip().lower() not in _MASKS:
            return f"{RECEIPTS} must be one of {', '.join(_MASKS)}, not {text!r}"
        mask = _MASKS[text.strip().lower()]
    return Options(cls, mask)


def read_class(text: str | None) -> SendClass | str:
    """The class that `X-Gateway-Priority` names, or what is wrong with it."""
    cls = _CLASSES.get((text or "").strip().lower())
    return f"{PRIORITY} must be one of {', '.join(_CLASSES)}, not {text!r}" if cls is None else cls

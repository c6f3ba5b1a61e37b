"""The forms a variable's text can take: how each is read, shown, and named in a message or a table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config.secret import MASK, Secret
from gateway.config.values import (
    parse_address,
    parse_bool,
    parse_count,
    parse_duration_ms,
    parse_list,
    parse_percent,
    parse_signing_key,
    parse_size_bytes,
    parse_url,
    parse_url_or_off,
    show_bool,
    show_duration,
    show_size,
)


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of text is read, shown and named."""

    words: str
    """What is expected, as the end of the sentence "expected …"."""
    short: str
    """The same in a word or two, for a column of the table."""
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    suffix: str = ""
    """The unit at the end of the field's name, which the variable's name leaves to its value."""
    is_secret: bool = False


TOKEN_CHARACTERS_MIN: Final = 16
"""64 bits if the token is hex: out of reach of guessing over a network."""


SIGNING_KEYS_MAX: Final = 2
"""The one that is used, and the one it is replaced by."""


def _parse_secret(text: str) -> Secret:
    if not text.isprintable():
        raise ValueError("it has a control character in it")
    return Secret(text)


def _parse_tokens(text: str) -> tuple[Secret, ...]:
    tokens = parse_list(text)
    for number, token in enumerate(tokens, start=1):
        if len(token) < TOKEN_CHARACTERS_MIN:
            raise ValueError(f"token {number} has {len(token)} characters")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError(f"token {number} has a space or a non-ASCII character in it")
    return tuple(Secret(token) for token in dict.fromkeys(tokens))


def _parse_signing_keys(text: str) -> tuple[Secret, ...]:
    keys = parse_list(text)
    if not 1 <= len(keys) <= SIGNING_KEYS_MAX:
        raise ValueError(f"there are {len(keys)}")
    for number, key in enumerate(keys, start=1):
        try:
            parse_signing_key(key)
        except ValueError as error:
            raise ValueError(f"key {number} {error}") from None
    return tuple(Secret(key) for key in dict.fromkeys(keys))


def _parse_path(text: str) -> Path:
    if not text.isprintable():
        raise ValueError("it has a control character in it")
    return Path(text)


def _show_path(path: Path | None) -> str:
    return "" if path is None else str(path)


def _parse_pairs(text: str) -> dict[str, int]:
    pairs: dict[str, int] = {}
    for item in parse_list(text):
        key, equals, count = (part.strip() for part in item.partition("="))
        if not equals or key in pairs:
            raise ValueError(f"{item!r} is {'given twice' if equals else 'no key=number'}")
        pairs[key] = parse_count(count)
    return pairs


def _show_pairs(pairs: msgspec.Struct) -> str:
    return ",".join(f"{key}={value}" for key, value in msgspec.structs.asdict(pairs).items())


def _mask(secret: object) -> str:
    return MASK if secret else ""


COUNT: Final = Form(words="a whole number", short="number", parse=parse_count)
DURATION: Final = Form(
    words="a duration (250ms, 30s, 5m, 24h, 7d)",
    short="duration",
    parse=parse_duration_ms,
    show=show_duration,
    suffix="_ms",
)
SIZE: Final = Form(
    words="a size (512KiB, 64MiB, 2GiB)",
    short="size",
    parse=parse_size_bytes,
    show=show_size,
    suffix="_bytes",
)
PERCENT: Final = Form(
    words="whole percents",
    short="percent",
    parse=parse_percent,
    show="{}%".format,
    suffix="_percent",
)
SWITCH: Final = Form(words="true or false", short="`true` or `false`", parse=parse_bool, show=show_bool)
ADDRESS: Final = Form(words="host:port or [IPv6]:port", short="host:port", parse=parse_address)
URL: Final = Form(words="an http://, https:// or http+unix:// URL", short="URL", parse=parse_url)
URL_OR_OFF: Final = Form(
    words="an http://, https:// or http+unix:// URL, or off", short="URL or off", parse=parse_url_or_off
)
PATH: Final = Form(words="a path", short="path", parse=_parse_path, show=_show_path)
SECRET: Final = Form(
    words="a text", short="secret, or `…_FILE`", parse=_parse_secret, show=_mask, is_secret=True
)
TOKENS: Final = Form(
    words=f"tokens of at least {TOKEN_CHARACTERS_MIN} characters, separated by commas",
    short=f"secrets, or `…_FILE`: a list, each of {TOKEN_CHARACTERS_MIN} characters or more",
    parse=_parse_tokens,
    show=_mask,
    is_secret=True,
)
SIGNING_KEYS: Final = Form(
    words="one or two keys, each 24 to 64 bytes in base64, whsec_ before it or not",
    short="secrets, or `…_FILE`: `whsec_…`, or two with a comma between",
    parse=_parse_signing_keys,
    show=_mask,
    is_secret=True,
)
CHOICE: Final = Form(words="one of the choices", short="word", parse=str)
CHOICES: Final = Form(
    words="some of the choices", short="words", parse=parse_list, show=lambda words: ",".join(sorted(words))
)
TEXT: Final = Form(words="a text", short="text", parse=str, show=lambda value: value or "")
PAIRS: Final = Form(words="key=number pairs", short="pairs", parse=_parse_pairs, show=_show_pairs)

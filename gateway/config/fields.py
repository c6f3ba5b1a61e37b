"""Builders that describe one field of `Settings`: its form, range and meaning.

Each returns the `msgspec.Meta` of the field: range and meaning where msgspec keeps them, our `Form` in
`extra`. So msgspec checks the range, and the same numbers stand in messages, table and environment file.
"""

import re
from typing import Any

import msgspec

from gateway.config.forms import (
    ADDRESS,
    CHOICE,
    CHOICES,
    COUNT,
    DURATION,
    PAIRS,
    PATH,
    PERCENT,
    SECRET,
    SIGNING_KEYS,
    SIZE,
    SWITCH,
    TEXT,
    TOKENS,
    URL,
    URL_OR_OFF,
    Form,
)
from gateway.config.values import parse_duration_ms, parse_size_bytes


def _meta(
    form: Form, meaning: str, low: int | None = None, high: int | None = None, **extra: Any
) -> msgspec.Meta:
    return msgspec.Meta(ge=low, le=high, description=meaning, extra={"form": form, **extra})


def count(low: int, high: int, meaning: str) -> msgspec.Meta:
    return _meta(COUNT, meaning, low, high)


def duration(low: str, high: str, meaning: str) -> msgspec.Meta:
    return _meta(DURATION, meaning, parse_duration_ms(low), parse_duration_ms(high))


def size(low: str, high: str, meaning: str, variable: str | None = None) -> msgspec.Meta:
    return _meta(SIZE, meaning, parse_size_bytes(low), parse_size_bytes(high), variable=variable)


def percent(low: int, high: int, meaning: str, default_words: str | None = None) -> msgspec.Meta:
    extra = {} if default_words is None else {"default_words": default_words}
    return _meta(PERCENT, meaning, low, high, **extra)


def switch(meaning: str) -> msgspec.Meta:
    return _meta(SWITCH, meaning)


def address(meaning: str) -> msgspec.Meta:
    return _meta(ADDRESS, meaning)


def url(meaning: str, default_words: str | None = None) -> msgspec.Meta:
    return _meta(URL, meaning, default_words=default_words)


def url_or_off(meaning: str, default_words: str | None = None) -> msgspec.Meta:
    """A URL, or `off` for nowhere."""
    return _meta(URL_OR_OFF, meaning, default_words=default_words)


def path(meaning: str, default_words: str | None = None) -> msgspec.Meta:
    return _meta(PATH, meaning, default_words=default_words)


def secret(meaning: str) -> msgspec.Meta:
    return _meta(SECRET, meaning)


def tokens(meaning: str) -> msgspec.Meta:
    return _meta(TOKENS, meaning)


def signing_keys(meaning: str) -> msgspec.Meta:
    return _meta(SIGNING_KEYS, meaning)


def choice(meaning: str) -> msgspec.Meta:
    """One word of the field's Literal."""
    return _meta(CHOICE, meaning)


def choices(meaning: str) -> msgspec.Meta:
    """Any of the words of the field's Literal, in a frozenset."""
    return _meta(CHOICES, meaning)


def text(pattern: str, words: str, meaning: str) -> msgspec.Meta:
    """A text that matches `pattern` as a whole; `words` end the sentence "expected …"."""

    def parse(text: str) -> str:
        # msgspec's own `pattern` does not go with `str | None`.
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return _meta(msgspec.structs.replace(TEXT, words=words, short=words, parse=parse), meaning)


def pairs(words: str, short: str, meaning: str) -> msgspec.Meta:
    """A small Struct of counts, written `key=number,key=number`."""
    return _meta(msgspec.structs.replace(PAIRS, words=words, short=short), meaning)

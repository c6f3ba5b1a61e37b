"""The fields of `Settings` as the variables an operator sees: what loader, table and files work from."""

from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import inspect

from gateway.config.forms import CHOICE, CHOICES, Form
from gateway.config.settings import CLOUD_PRESET, SECTIONS, Settings

PREFIX: Final = "GATEWAY_"


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """One variable: the name operators set, and the field it fills."""

    name: str
    """With its prefix: `GATEWAY_NODE_TIMEOUT`."""
    field: str
    form: Form
    type: Any
    """What msgspec converts to, ranges included."""
    default_text: str
    """The default as the operator would write it; empty where it depends on other values."""
    default_words: str
    """The default with what it depends on, for a reader."""
    low: int | None
    high: int | None
    meaning: str
    section: str | None
    """The title that starts with this variable."""

    @property
    def file_name(self) -> str:
        """The variable that names a file with the secret in it."""
        return f"{self.name}_FILE"

    @property
    def credential(self) -> str:
        """The secret's file below $CREDENTIALS_DIRECTORY."""
        return self.name.removeprefix(PREFIX).lower()

    @property
    def range_words(self) -> str:
        """`1 to 5000`, `100ms to 2m`; empty where the form says it all."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.form.show(self.low)} to {self.form.show(self.high)}"

    @property
    def expected(self) -> str:
        """What the value should have been, with range and default, as the end of a sentence."""
        words = f"expected {self.form.words}"
        if self.range_words:
            words += f" from {self.range_words}"
        return f"{words} (default {self.default_words or 'unset'})"


def _variable(field: inspect.Field, type_: Any) -> Variable:
    assert isinstance(field.type, inspect.Metadata), field.name
    extra = field.type.extra or {}
    form: Form = extra["form"]
    inner = field.type.type
    if isinstance(inner, inspect.LiteralType):
        choices = get_args(get_args(type_)[0])  # msgspec sorts them; we keep the order they are written in
        form = msgspec.structs.replace(
            CHOICE,
            words=f"{', '.join(choices[:-1])} or {choices[-1]}",
            short=", ".join(choices),
        )
    if isinstance(inner, inspect.FrozenSetType):
        choices = get_args(get_args(get_args(type_)[0])[0])
        form = msgspec.structs.replace(
            CHOICES,
            words=f"any of {', '.join(choices)}, separated by commas",
            short=f"any of {', '.join(choices)}",
        )
    name = extra.get("variable") or field.name.removesuffix(form.suffix).upper()
    default = form.show(field.default)
    if field.name in CLOUD_PRESET:
        default += f"; cloud: {form.show(CLOUD_PRESET[field.name])}"
    return Variable(
        name=PREFIX + name,
        field=field.name,
        form=form,
        type=type_,
        default_text="" if extra.get("default_words") else form.show(field.default),
        default_words=extra.get("default_words") or default,
        low=inner.ge if isinstance(inner, inspect.IntType) else None,
        high=inner.le if isinstance(inner, inspect.IntType) else None,
        meaning=(field.type.extra_json_schema or {})["description"],
        section=SECTIONS.get(field.name),
    )


_types = get_type_hints(Settings, include_extras=True)
_info = inspect.type_info(Settings)
assert isinstance(_info, inspect.StructType)

VARIABLES: Final = tuple(_variable(field, _types[field.name]) for field in _info.fields)
BY_FIELD: Final = {variable.field: variable for variable in VARIABLES}

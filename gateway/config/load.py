"""The environment to `Settings`, with every mistake found before any is reported.

Three steps: find the text of each variable and where it came from, turn each text into a value, apply the
rules that look at several values. A step's mistakes don't hide another's, but a rule is only asked when all
values it could look at are there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.rules import problems_of, warnings_of
from gateway.config.secret import MASK
from gateway.config.settings import CLOUD_PRESET, Settings
from gateway.config.sources import Found, find, unknown_names
from gateway.config.values import hide_userinfo
from gateway.config.variables import VARIABLES, Variable
from gateway.errors import ConfigError


class Reading(msgspec.Struct, frozen=True):
    """What was read: the settings, and for `check` where each came from."""

    settings: Settings
    sources: dict[str, str]
    """By field: `default`, `env`, `file PATH` or `credential`."""
    warnings: list[str]
    """What works and still deserves a look; a full sentence each."""


def load(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; raises ConfigError with all that is wrong in it.

    Reads the files that `GATEWAY_X_FILE` and $CREDENTIALS_DIRECTORY name, and nothing else.
    """
    return read(environ).settings


def read(environ: Mapping[str, str]) -> Reading:
    """As `load`, with sources and warnings."""
    found, problems = find(environ)
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        if variable.field in found:
            value, problem = _decode(variable, found[variable.field])
            values[variable.field] = value
            problems += problem
    problems += unknown_names(environ)
    if not problems:
        settings = Settings(**_derive(values, environ))
        problems = problems_of(settings)
    if problems:
        raise ConfigError(problems)
    sources = {variable.field: "default" for variable in VARIABLES}
    sources |= {field: text.source for field, text in found.items()}
    return Reading(settings, sources, warnings_of(settings, sources))


def _decode(variable: Variable, found: Found) -> tuple[Any, list[str]]:
    """The value of a text, or the sentence that says why it has none."""
    reason = ""
    try:
        return msgspec.convert(variable.form.parse(found.text), variable.type, strict=False), []
    except msgspec.ValidationError:
        pass  # out of range or no choice: `expected` says it in our words
    except ValueError as error:
        reason = f"{error}; " if str(error) else ""
    shown = MASK if variable.form.is_secret else repr(hide_userinfo(found.text))
    return None, [f"{variable.name}={shown}{found.aside}: {reason}{variable.expected}"]


def _derive(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """`values` with the defaults that depend on other values."""
    preset = CLOUD_PRESET if values.get("dialect") == "cloud" else {}
    derived = preset | values
    if "event_webhook_url" not in values and "message_webhook_url" in values:
        derived["event_webhook_url"] = values["message_webhook_url"]
    if (
        "tps_headroom_percent" not in values
        and "tps_cost" in derived
        and not derived["tps_cost"].charges_receipts
    ):
        derived["tps_headroom_percent"] = 0
    state_directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if "store_path" not in values and state_directory:
        derived["store_path"] = Path(state_directory)
    return derived

"""Where the text of each variable is: the environment, a file it names, or a credential of systemd."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gateway.config.variables import PREFIX, VARIABLES, Variable

IGNORED: Final = frozenset({"GATEWAY_INTERFACE"})
"""CGI's own name: a web server that starts us sets it."""

SECRET_BYTES_MAX: Final = 65_536
"""A thousand tokens of 64 characters; a file beyond it is not the one that was meant."""


class Found(msgspec.Struct, frozen=True):
    """The text of a variable."""

    text: str
    source: str

    @property
    def aside(self) -> str:
        """Where the text is, for a message, when it is not in the variable itself."""
        return "" if self.source == "env" else f" (from {self.source})"


def find(environ: Mapping[str, str]) -> tuple[dict[str, Found], list[str]]:
    """The texts by field, and what is wrong with finding them. A variable that is empty is unset."""
    found: dict[str, Found] = {}
    problems: list[str] = []
    for variable in VARIABLES:
        places = _places(variable, environ)
        if len(places) > 1:
            problems.append(f"{variable.name}: set by {' and by '.join(places)}; keep one")
        for place, file in places.items():
            if file is None:
                found[variable.field] = Found(environ[variable.name].strip(), "env")
                continue
            text, reason = _read_secret(file)
            if reason:
                problems.append(f"{place}={str(file)!r}: {reason}")
            else:
                found[variable.field] = Found(text, "credential" if "$" in place else f"file {file}")
    return found, problems


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each `GATEWAY_` name that no setting has; values are not shown, they may be secrets."""
    known = {variable.name for variable in VARIABLES}
    known |= {variable.file_name for variable in VARIABLES if variable.form.is_secret}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known | IGNORED)
    return [f"{name}: unknown setting{_suggestion(name, known)}" for name in unknown]


def _suggestion(name: str, known: set[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 -- 15 ms that only a mistake pays

    matches = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {matches[0]}?" if matches else "; `wa-gateway unit --environment-file` lists all"


def _places(variable: Variable, environ: Mapping[str, str]) -> dict[str, Path | None]:
    """Every place that sets the variable, by the words for it; the file is None for the variable itself."""
    places: dict[str, Path | None] = {}
    if environ.get(variable.name, "").strip():
        places[variable.name] = None
    if not variable.form.is_secret:
        return places
    if file := environ.get(variable.file_name, "").strip():
        places[variable.file_name] = Path(file)
    if directory := environ.get("CREDENTIALS_DIRECTORY", ""):
        credential = Path(directory) / variable.credential
        if credential.exists():
            places[f"$CREDENTIALS_DIRECTORY/{variable.credential}"] = credential
    return places


def _read_secret(file: Path) -> tuple[str, str]:
    """The text of `file` without white space around it, or else the reason it has none."""
    try:
        with file.open("rb") as stream:
            content = stream.read(SECRET_BYTES_MAX + 1)
        text = content.decode().strip()
    except OSError as error:
        return "", f"cannot be read ({error.strerror}); expected a file with the secret in it"
    except UnicodeDecodeError:
        return "", "is not UTF-8 text; expected a file with the secret in it"
    if len(content) > SECRET_BYTES_MAX:
        return "", f"is larger than {SECRET_BYTES_MAX} bytes; expected a file with the secret in it"
    return text, "" if text else "is empty; remove it or write the secret into it"

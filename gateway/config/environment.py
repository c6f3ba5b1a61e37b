"""Environment files: every variable commented, for /etc/default; and the settings in force, for `check --print`.

Both are in the format of systemd's EnvironmentFile=: a comment has its own line, a value may be quoted.
"""

import re
from typing import Final

from gateway.config.load import Reading
from gateway.config.secret import MASK
from gateway.config.variables import VARIABLES, Variable

_HEAD: Final = """\
# Settings of wa-gateway. Remove the # before a variable to set it; an empty one counts as unset.
# A change needs a restart: systemctl restart wa-gateway. `wa-gateway check` tells what is wrong, all at once.
# Secrets: better in a file that NAME_FILE names, or as a systemd credential in /etc/credstore.
"""

_PLAIN: Final = re.compile(r"[\w@%+=:,./\[\]?&~-]*", re.ASCII)


def environment_file() -> str:
    """Every variable with its default, commented out."""
    lines = [_HEAD]
    for variable in VARIABLES:
        if variable.section:
            lines.append(f"\n#### {variable.section}\n")
        lines.append(f"# {variable.meaning}")
        lines.append(f"# Value: {_form(variable)}. Default: {variable.default_words or 'unset'}")
        if variable.form.is_secret:
            lines.append(f"#{variable.file_name}=/etc/wa-gateway/{variable.credential}")
        lines.append(f"#{variable.name}={_quote(variable.default_text)}\n")
    return "\n".join(lines)


def effective_file(reading: Reading) -> str:
    """The settings in force with their sources; loading it gives the same settings, but for the secrets."""
    lines = []
    for variable in VARIABLES:
        shown = variable.form.show(getattr(reading.settings, variable.field))
        lines.append(f"# {reading.sources[variable.field]}")
        lines.append(f"# {variable.name}={MASK}" if shown == MASK else f"{variable.name}={_quote(shown)}")
    return "\n".join(lines) + "\n"


def _form(variable: Variable) -> str:
    return variable.form.words + (f" from {variable.range_words}" if variable.range_words else "")


def _quote(text: str) -> str:
    """`text` as both systemd and a shell read it back."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'

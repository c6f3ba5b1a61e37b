"""The README's table of variables; `python -m gateway.config.table README.md` writes it in place."""

import sys
from pathlib import Path
from typing import Final

from gateway.config.variables import VARIABLES, Variable

START: Final = "<!-- variables -->"
END: Final = "<!-- /variables -->"


def markdown_table() -> str:
    """One table for each section, with a line for each variable."""
    lines: list[str] = []
    for variable in VARIABLES:
        if variable.section:
            lines += [
                "",
                f"**{variable.section}**",
                "",
                "| Variable | Default | Form and range | Meaning |",
                "|---|---|---|---|",
            ]
        lines.append(f"| {' | '.join(_cells(variable))} |")
    return "\n".join(lines[1:]) + "\n"


def replace_block(page: str) -> str:
    """`page` with the current table between the markers; raises ValueError when they are not there once each."""
    if page.count(START) != 1 or page.count(END) != 1 or page.index(START) > page.index(END):
        raise ValueError(f"expected one {START} and after it one {END}")
    head, _, rest = page.partition(START)
    tail = rest.partition(END)[2]
    return f"{head}{START}\n\n{markdown_table()}\n{END}{tail}"


def _cells(variable: Variable) -> list[str]:
    default = "; ".join(_code(part) for part in variable.default_words.split("; "))
    form = variable.form.short
    if variable.range_words:
        form = f"{form}, {variable.range_words}"
    return [f"`{variable.name}`", default, *(cell.replace("|", "\\|") for cell in (form, variable.meaning))]


def _code(default: str) -> str:
    """A value in code type; words around it (`cloud: 80`) stay words."""
    condition, colon, value = default.partition(": ")
    if colon:
        return f"{condition} `{value}`"
    return default if not default or " " in default else f"`{default}`"


def main(argv: list[str]) -> int:
    """Rewrite the block of each named page; says which ones changed."""
    if not argv:
        sys.stderr.write("usage: python -m gateway.config.table README.md …\n")
        return 2
    for name in argv:
        path = Path(name)
        before = path.read_text(encoding="utf-8")
        try:
            after = replace_block(before)
        except ValueError as error:
            sys.stderr.write(f"{name}: {error}\n")
            return 1
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{name}: table of variables written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

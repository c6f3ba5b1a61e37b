"""The outcome table as a page; `python -m gateway.outbound.outcome_page docs/outcomes.md` writes it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.outbound.outcomes import BY_STATUS, CLOUD, ONPREM, Effect, Row

EFFECTS: Final = {
    Effect.SENT: "The node has it: the send is done.",
    Effect.LOGIN: "We log in again and repeat it; no attempt is spent. Where a fresh token is refused too, all pause.",
    Effect.CONTACT: "We ask the node to look the contact up and repeat it once; no attempt is spent.",
    Effect.PAUSE_ALL: "Nothing is sent for a while (`Retry-After`, else 2 s growing to 60 s); no attempt is spent.",
    Effect.PAUSE_BULK: "Bulk waits 24 h 5 min, no attempt spent; a send of another class is retried.",
    Effect.PAUSE_RECIPIENT: "This send waits 4, 16, 64 … s, at most an hour; it is an attempt.",
    Effect.RETRY: "It is tried again after 0.5 s growing to 60 s, with jitter, `SEND_ATTEMPTS` times in all. "
    "Three different sends in trouble with none through pause all, and spend no attempt.",
    Effect.FAIL: "This message has failed; the event webhook is told.",
}

_HEAD: Final = """# What the node's answers do

Written by `python -m gateway.outbound.outcome_page docs/outcomes.md` from the table that is used.
The code is looked at first; the HTTP status where there is no code, or one that is not here. Of `errors` only the first
counts.
"""


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        _table("Effect", (f"| `{effect.value}` | {text} |" for effect, text in EFFECTS.items())),
        "## On-Premises codes\n",
        _table("Code | Effect", _rows(ONPREM)),
        "## Cloud API codes\n",
        _table("Code | Effect", _rows(CLOUD)),
        "## HTTP status, where no code is known\n",
        _table("Status | Effect", [*_rows(BY_STATUS), f"| any other | `{Effect.FAIL.value}` | refused |"]),
    ]
    return "\n".join(parts)


def _table(columns: str, rows: Iterable[str]) -> str:
    line = "|---" * (columns.count("|") + 2) + "|"
    return "\n".join([f"| {columns} | What |", line, *rows]) + "\n"


def _rows(rows: Iterable[Row]) -> list[str]:
    return [f"| {_span(row)} | `{row.effect.value}` | {row.why} |" for row in rows]


def _span(row: Row) -> str:
    return str(row.first) if row.first == row.last else f"{row.first} to {row.last}"


def main(argv: list[str]) -> int:
    """Write the page to the file that is named."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m gateway.outbound.outcome_page docs/outcomes.md\n")
        return 2
    Path(argv[0]).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

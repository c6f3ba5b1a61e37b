"""`wa-gateway dead`: dead letters of the running gateway, listed, shown, accepted anew and discarded."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from gateway.ops.asking import NoAnswerError, ask_gateway

DESCRIPTION: Final = """\
Dead letters are what was given up and kept with its body: inbound, what the backend refused for good or failed on
GATEWAY_BACKEND_ATTEMPTS times; outbound, sends that failed. At most GATEWAY_DEAD_MAX are kept, the newest.

  wa-gateway dead list --side inbound --older-than 1h
  wa-gateway dead show gw-0badcafe-17 --content
  wa-gateway dead retry --reason "HTTP 422"
  wa-gateway dead discard gw-0badcafe-17 gw-0badcafe-18

Asks GATEWAY_ADMIN_LISTEN with the first of GATEWAY_PUSH_TOKENS. Exit status 1 when no gateway answers or it refuses,
and when there is no such dead letter.
"""

_CRITERIA: Final = ("side", "contact", "reason", "older_than", "newer_than")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands below this one, and their options."""
    commands = parser.add_subparsers(dest="dead", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list them, oldest first")
    _add_criteria(listing)
    listing.add_argument(
        "--limit", type=_limit(1_000), default=100, metavar="N", help="at most N (default 100)"
    )
    listing.add_argument("--after", metavar="ID", help="those after this one: the next page")
    showing = commands.add_parser("show", help="show one")
    showing.add_argument("id", metavar="ID")
    for command in (listing, showing):
        command.add_argument(
            "--content", action="store_true", help="whole phone numbers, bodies and answers: personal data"
        )
    for name, summary in (
        ("retry", "put them back into their queues, oldest first, with new ids"),
        ("discard", "delete them for good"),
    ):
        changing = commands.add_parser(
            name,
            help=summary,
            description=f"{summary.capitalize()}: by id, by what they have in common, or all.",
        )
        changing.add_argument("ids", nargs="*", metavar="ID")
        _add_criteria(changing)
        changing.add_argument("--all", action="store_true", help="all there are")
        changing.add_argument("--limit", type=_limit(100_000), metavar="N", help="at most N, the oldest")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON")


def _add_criteria(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--side", choices=("inbound", "outbound"), help="to the backend, or to the node")
    parser.add_argument(
        "--contact", metavar="NUMBER", help="from or to this contact or group, the whole name"
    )
    parser.add_argument("--reason", metavar="TEXT", help="with this in their reason, in any case")
    parser.add_argument(
        "--older-than", type=_duration, metavar="TIME", help="given up at least so long ago (30m, 24h, 7d)"
    )
    parser.add_argument("--newer-than", type=_duration, metavar="TIME", help="given up at most so long ago")


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the answer and return the exit status."""
    try:
        match options.dead:
            case "list":
                said = ask_gateway(environ, "GET", "/v1/dead", query=_list_query(options))
            case "show":
                query = {"content": "true"} if options.content else {}
                said = ask_gateway(environ, "GET", f"/v1/dead/{quote(options.id, safe='')}", query=query)
            case _:
                wanted = _selection(options)
                if isinstance(wanted, str):
                    sys.stderr.write(f"dead {options.dead}: {wanted}\n")
                    return 2
                said = ask_gateway(environ, "POST", f"/v1/dead/{options.dead}", body=wanted)
    except NoAnswerError as error:
        return error.show(f"dead {options.dead}")
    text = json.dumps(said, indent=2, ensure_ascii=False) if options.json else _TEXTS[options.dead](said)
    sys.stdout.write(f"{text}\n")
    is_missing = options.dead in ("retry", "discard") and bool(options.ids) and not _changed(said)
    return 1 if is_missing else 0


def _criteria(options: argparse.Namespace) -> dict[str, Any]:
    found = {name: getattr(options, name) for name in _CRITERIA}
    return {
        f"{name}_ms" if name.endswith("_than") else name: value
        for name, value in found.items()
        if value is not None
    }


def _list_query(options: argparse.Namespace) -> dict[str, str]:
    query = {name: str(value) for name, value in _criteria(options).items()}
    query["limit"] = str(options.limit)
    if options.after:
        query["after"] = options.after
    if options.content:
        query["content"] = "true"
    return query


def _selection(options: argparse.Namespace) -> dict[str, Any] | str:
    """The body of a request, or what is wrong with the options."""
    criteria = _criteria(options)
    if sum((bool(options.ids), bool(criteria), options.all)) != 1:
        return "expected ids, or options that say which, or --all"
    wanted = dict(criteria)
    if options.ids:
        wanted["ids"] = options.ids
    if options.all:
        wanted["everything"] = True
    if options.limit is not None:
        wanted["limit"] = options.limit
    return wanted


# -- as text


def _list_text(said: Mapping[str, Any]) -> str:
    rows = [("ID", "SIDE", "CLASS", "GIVEN UP", "TRIES", "CONTACT", "REASON")]
    rows += [
        (
            item["id"], item["side"], item["class"], _time(item["parked_ms"]), str(item["attempts"]),
            item["contact"] or "-", item["reason"],
        )
        for item in said["dead"]
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for number, item in reversed(list(enumerate(said["dead"], start=1))):
        if "body" in item:
            lines.insert(number + 1, f"    {item['body']}")
    total = said["total"]
    lines.append(f"{total['inbound']} inbound and {total['outbound']} outbound dead letters in all")
    if said["next"]:
        lines.append(f"more: --after {said['next']}")
    return "\n".join(lines)


def _show_text(item: Mapping[str, Any]) -> str:
    lines = [
        f"ID        {item['id']}",
        f"Side      {item['side']}, class {item['class']}",
        f"Contact   {item['contact'] or '-'}",
        f"Accepted  {_time(item['accepted_ms'])}",
        f"Given up  {_time(item['parked_ms'])}, attempts that counted: {item['attempts']}",
        f"Reason    {item['reason']}",
        f"Body      {item.get('body') or str(item['size_bytes']) + ' bytes; --content shows them'}",
    ]
    if item.get("answer"):
        lines.append(f"Answer    {item['answer']}")
    return "\n".join(lines)


def _changed(said: Mapping[str, Any]) -> int:
    count: int = said["retried"] if "retried" in said else said["discarded"]
    return count


def _retry_text(said: Mapping[str, Any]) -> str:
    lines = [f"{old} is {new} now" for old, new in said.get("new_ids", {}).items()]
    return "\n".join([*lines, f"{said['retried']} dead letters accepted anew"])


def _discard_text(said: Mapping[str, Any]) -> str:
    return f"{said['discarded']} dead letters discarded"


_TEXTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "list": _list_text,
    "show": _show_text,
    "retry": _retry_text,
    "discard": _discard_text,
}


def _time(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- values of options


def _duration(text: str) -> int:
    from gateway.config.values import parse_duration_ms  # noqa: PLC0415

    try:
        return parse_duration_ms(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration (30m, 24h, 7d)") from None


def _limit(highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= highest or len(text) > 9:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 to {highest}")
        return int(text)

    return parse

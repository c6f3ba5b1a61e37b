"""`wa-gateway queue`: what waits at the running gateway, and why."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from gateway.ops.asking import NoAnswerError, ask_gateway
from gateway.ops.state_command import state_text

DESCRIPTION: Final = (
    "Show what waits for each webhook and for the node, by class, the age of the oldest, and what it waits for. "
    "Asks the listener GATEWAY_ADMIN_LISTEN; exit status 1 when no gateway answers."
)

_WHY: Final = {
    "draining": "the gateway is about to end",
    "isolated": "isolated: wa-gateway resume isolated",
    "suspended": "suspended: wa-gateway resume suspended",
    "destination_gone": "the webhook answered 410: wa-gateway resume gone",
    "breaker_open": "the webhook is in trouble, the next probe goes{in_time}",
    "breaker_probing": "the webhook is in trouble, a probe is under way",
    "backend_limit": "the webhook bears no more at once ({records} under way)",
    "backend_rate": "GATEWAY_BACKEND_TPS leaves no room",
    "retry": "{records} wait for their next attempt",
    "contact_busy": "{records} wait for an earlier one of the same contact",
    "no_login": "no login at the node yet",
    "node_pause": "the node asked to slow down or is away, sends go on{in_time}",
    "bulk_pause": "the number is restricted, {records} bulk sends go on{in_time}",
    "budget": "the number's TPS: the next send goes{in_time}",
    "group_receipts": "{records} to groups wait for the receipts of those before",
    "recipient_pace": "{records} wait for their recipient's slot (pair limit)",
    "recipient_busy": "{records} wait for an earlier one to the same recipient",
    "scheduled": "{records} wait for the time they were scheduled for",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the report and return the exit status."""
    try:
        report = ask_gateway(environ, "GET", "/v1/queue", is_open=True)
    except NoAnswerError as error:
        return error.show("queue")
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n" if options.json else _text(report))
    return 0


def _text(report: Mapping[str, Any]) -> str:
    lines = [state_text(report)]
    for queue in report["queues"]:
        to = "the node" if queue["side"] == "outbound" else f"the {queue['destination']} webhook"
        lines += ["", f"To {to}, {queue['under_way']} under way"]
        for row in queue["classes"]:
            age = "" if row["oldest_age_ms"] is None else f"   oldest {_time(row['oldest_age_ms'])}"
            later = f"   {row['scheduled']:,} scheduled" if row.get("scheduled") else ""
            lines.append(f"  {row['class']:<8} {row['waiting']:>10,} waiting{age}{later}")
        lines += [f"  why: {_why(reason)}" for reason in queue["why"]]
    return "\n".join(lines) + "\n"


def _why(reason: Mapping[str, Any]) -> str:
    left_ms = reason["ends_in_ms"]
    in_time = "" if left_ms is None else f" in {_time(left_ms)}" if left_ms else " now"
    text: str = _WHY.get(reason["reason"], reason["reason"].replace("_", " "))
    return text.format(records=reason["records"], in_time=in_time)


def _time(span_ms: int) -> str:
    from gateway.budget.wording import duration  # noqa: PLC0415

    return f"{span_ms} ms" if span_ms < 1_000 else duration(span_ms // 1_000)

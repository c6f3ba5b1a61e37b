"""`wa-gateway budget`: the report of the running gateway, or a plan for a campaign that needs none.

Any option of a plan makes it an offline answer. Settings are not read then: the options say it all.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

EXIT_NO_ANSWER: Final = 1

DESCRIPTION: Final = """\
Without options of a plan: what the running gateway uses of its TPS, what a send costs, how fast sends can go,
and what would change that. Asks the listener GATEWAY_ADMIN_LISTEN; exit status 1 when no gateway answers.

With options of a plan: how long a campaign takes, what it uses, and how it would be under other plans.
Needs no gateway and reads no settings. For example:

  wa-gateway budget --tps 10 --inbound 2 --campaign 50000
"""

_PLAN_OPTIONS: Final = ("tps", "inbound", "delivered", "read", "members", "headroom", "campaign", "dialect")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    plan = parser.add_argument_group("options of a plan")
    plan.add_argument(
        "--tps", type=_whole(1, 5_000), metavar="N", help="events/s of the plan (default 10; cloud 80)"
    )
    plan.add_argument(
        "--inbound", type=_decimal(0, 5_000), metavar="N", help="messages received per second (default 0)"
    )
    plan.add_argument(
        "--delivered",
        type=_decimal(0, 1),
        metavar="SHARE",
        help="delivery receipts per recipient, 0 to 1 (default 0.95)",
    )
    plan.add_argument(
        "--read",
        type=_decimal(0, 1),
        metavar="SHARE",
        help="read receipts per recipient, 0 to 1 (default 0.70)",
    )
    plan.add_argument(
        "--members", type=_decimal(1, 1_024), metavar="N", help="mean recipients of a send (default 1)"
    )
    plan.add_argument(
        "--headroom",
        type=_percent,
        metavar="PERCENT",
        help="share of the plan left free, 0 to 50 (default 5; cloud 0)",
    )
    plan.add_argument(
        "--campaign", type=_whole(1, 1_000_000_000), metavar="SENDS", help="sends to go out; else only rates"
    )
    plan.add_argument("--dialect", choices=("onprem", "cloud"), help="whose rules count (default onprem)")


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the answer and return the exit status."""
    if any(getattr(options, name) is not None for name in _PLAN_OPTIONS):
        return _plan(options)
    return _ask(environ, is_json=options.json)


def _plan(options: argparse.Namespace) -> int:
    from gateway.budget.advice import Source, advise  # noqa: PLC0415
    from gateway.budget.report_text import campaign_text  # noqa: PLC0415
    from gateway.budget.sustain import DELIVERED_RATIO, READ_RATIO, Terms, Traffic  # noqa: PLC0415
    from gateway.config.settings import CLOUD_PRESET, Dialect, Settings  # noqa: PLC0415

    dialect: Dialect = options.dialect or "onprem"
    preset = CLOUD_PRESET if dialect == "cloud" else {}
    usual = Settings()
    costs = preset.get("tps_cost", usual.tps_cost)
    usual_headroom = usual.tps_headroom_percent if costs.charges_receipts else 0
    members = _or(options.members, 1.0)
    terms = Terms(
        dialect=dialect,
        plan_tps=_or(options.tps, preset.get("tps", usual.tps)),
        headroom_percent=_or(options.headroom, usual_headroom),
        costs=costs,
    )
    traffic = Traffic(
        inbound_per_s=_or(options.inbound, 0.0),
        delivered_per_send=_or(options.delivered, DELIVERED_RATIO) * members,
        read_per_send=_or(options.read, READ_RATIO) * members,
    )
    is_given = options.delivered is not None or options.read is not None
    source: Source = "given" if is_given else "assumed"
    advice = advise(terms, traffic, _or(options.campaign, 0), source, recipients_mean=members)
    sys.stdout.write(_json(advice) if options.json else campaign_text(advice))
    return 0


def _ask(environ: Mapping[str, str], *, is_json: bool) -> int:
    import http.client  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    from gateway.budget.report_text import report_text  # noqa: PLC0415
    from gateway.budget.usage import Report  # noqa: PLC0415
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.errors import EXIT_CONFIG  # noqa: PLC0415
    from gateway.http.ask import get  # noqa: PLC0415

    try:
        # Only the listeners: an operator may ask who can't read the secrets the other settings name.
        doors = ("GATEWAY_LISTEN", "GATEWAY_ADMIN_LISTEN")
        address = load({name: environ[name] for name in doors if name in environ}).admin_listen
    except ConfigError as error:
        sys.stderr.write("".join(f"budget: {problem}\n" for problem in error.problems))
        return EXIT_CONFIG
    if address.port == 0:
        sys.stderr.write(
            f"budget: GATEWAY_ADMIN_LISTEN={address}: the kernel chose the port; name the one in the gateway's log\n"
        )
        return EXIT_NO_ANSWER
    try:
        status, body = get(address.host, address.port, "/v1/budget")
        if status != http.client.OK:
            return _no_answer(address, f"status {status}")
        report = msgspec.json.decode(body, type=Report)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return _no_answer(address, reason)
    sys.stdout.write(_json(report) if is_json else report_text(report))
    return 0


def _no_answer(address: object, reason: str) -> int:
    sys.stderr.write(
        f"budget: no gateway answers at {address} ({reason}); is it running, and does GATEWAY_ADMIN_LISTEN "
        "say here what it says there? With --tps or --campaign no gateway is needed\n"
    )
    return EXIT_NO_ANSWER


def _json(report: object) -> str:
    import msgspec  # noqa: PLC0415
    import orjson  # noqa: PLC0415

    text: bytes = orjson.dumps(
        msgspec.to_builtins(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )
    return text.decode()


def _or(given: Any, usual: Any) -> Any:
    return usual if given is None else given


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _decimal(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?|\.[0-9]{1,12}", text) else math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number from {low} to {high}")
        return value

    return parse


def _percent(text: str) -> float:
    try:
        return _decimal(0, 50)(text.removesuffix("%"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percent from 0 to 50, as 5 or 5%") from None

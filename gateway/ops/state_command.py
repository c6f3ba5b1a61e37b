"""`wa-gateway isolate`, `suspend`, `resume` and `drain`: switch the running gateway off, in part, and on again."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from gateway.ops.asking import NoAnswerError, ask_gateway

SUMMARIES: Final = {
    "isolate": "forward nothing to the backend until resume",
    "suspend": "send nothing to the node until resume",
    "resume": "end isolate, suspend and the pause of a webhook that is gone",
    "drain": "finish what is under way and end the gateway",
}

_ENDING: Final = (
    " Asks GATEWAY_ADMIN_LISTEN with the first of GATEWAY_PUSH_TOKENS. "
    "Exit status 1 when no gateway answers or it refuses."
)

DESCRIPTIONS: Final = {
    "isolate": "Forward nothing to the backend until `wa-gateway resume`, over restarts too. Webhooks are answered and "
    "stored as always, sends go on, and what is under way is finished." + _ENDING,
    "suspend": "Send no message to the node until `wa-gateway resume`, over restarts too. Pushes are taken and wait, "
    "webhooks are forwarded, and what is under way is finished." + _ENDING,
    "resume": "Let everything run again: forwards, sends, and a webhook that is paused because it answered 410. "
    "With a word, that alone." + _ENDING,
    "drain": "Finish what is under way, for at most GATEWAY_DRAIN_TIMEOUT, and end with exit status 0, as SIGTERM does. "
    "Waiting work stays on disk. The unit of `wa-gateway unit` does not start it again after that." + _ENDING,
}

_STATES: Final = {"isolate": "isolated", "suspend": "suspended", "resume": "running", "drain": "draining"}


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """The options of a command."""
    parser.add_argument("--json", action="store_true", help="print the state as JSON")
    if command == "resume":
        parser.add_argument(
            "only", nargs="?", choices=("isolated", "suspended", "gone"), help="end this alone; else all"
        )


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Switch, print what is off now, and return the exit status."""
    wanted = {"state": _STATES[options.command]}
    if getattr(options, "only", None):
        wanted["only"] = options.only
    try:
        state = ask_gateway(environ, "POST", "/v1/state", body=wanted)
    except NoAnswerError as error:
        return error.show(options.command)
    sys.stdout.write(f"{json.dumps(state, indent=2)}\n" if options.json else f"{state_text(state)}\n")
    return 0


def state_text(state: Mapping[str, Any]) -> str:
    """It in a line."""
    return f"State: {', '.join(state['state'])}"

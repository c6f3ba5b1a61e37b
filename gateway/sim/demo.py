"""`wa-gateway demo`: plays a scenario on a simulated node and backend with a real gateway in between.

Ends with a report, and with exit code 1 when a promise of the design was broken. Everything is on
loopback, on ports that were free; the store is in a temporary directory unless `--state` names one.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop

from gateway.sim.checker import check
from gateway.sim.child import StartError
from gateway.sim.facts import Facts
from gateway.sim.report import render
from gateway.sim.run import Plan, Run
from gateway.sim.scenarios import SCENARIOS

LEGEND: Final = (
    "TPS by kind: r(eceived) s(ent) d(elivered) r(ead). Waiting: in to the backend, out to the node.\n"
    "WhatsApp: events that wait at the number for a slot of its plan, and the longest wait."
)
EXIT_BROKEN: Final = 1
EXIT_NO_START: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(argv: list[str]) -> int:
    """0: every promise kept. 1: one is broken. 2: the gateway did not start. 130: interrupted."""
    options = _parser().parse_args(argv)
    scenario = SCENARIOS[options.scenario](options.tps)
    print(f"{scenario.name}: {scenario.summary}; {options.tps} TPS, seed {options.seed}", flush=True)
    print(LEGEND, flush=True)
    with _state_dir(options) as state_dir:
        plan = Plan(
            scenario,
            options.tps,
            options.seed,
            state_dir,
            dict(options.gateway_env),
            is_crashing=options.crash,
        )
        try:
            facts = uvloop.run(_play(plan))
        except KeyboardInterrupt:
            print("\nInterrupted; everything is stopped.")
            return EXIT_INTERRUPTED
        except StartError as error:
            print(error, file=sys.stderr)
            return EXIT_NO_START
    verdicts = check(facts)
    print(f"\n{render(facts, verdicts)}\n\nTook {facts.wall_s:.0f} s.")
    return 0 if all(verdict.is_kept for verdict in verdicts) else EXIT_BROKEN


async def _play(plan: Plan) -> Facts:
    """One run; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await Run(plan, sys.stdout).facts()
    except BaseExceptionGroup as group:
        # Task groups wrap what ends them; the one thing the user can act on comes out bare.
        if (found := group.subgroup(StartError)) is not None:
            raise _first(found) from None
        raise
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


@contextmanager
def _state_dir(options: argparse.Namespace) -> Iterator[Path]:
    """The named directory, or a temporary one that `--keep` leaves behind and says where."""
    if options.state:
        Path(options.state).mkdir(parents=True, exist_ok=True)
        yield Path(options.state)
        return
    path = Path(tempfile.mkdtemp(prefix="wa-gateway-demo-"))
    try:
        yield path
    finally:
        if options.keep:
            print(f"\nStore and log are kept in {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wa-gateway demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="tour", help="default: tour")
    parser.add_argument("--tps", type=_tps, default=20, help="the number's plan, 1 to 1000; default: 20")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed makes the same traffic; default: 1"
    )
    parser.add_argument(
        "--state", metavar="DIR", help="store and log go there instead of a temporary directory"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    parser.add_argument(
        "--gateway-env",
        metavar="NAME=VALUE",
        type=_variable,
        action="append",
        default=[],
        help="a variable of the gateway, over what the demo sets; may be repeated",
    )
    parser.add_argument(
        "--crash", action="store_true", help="kill the gateway in mid-storm, start it again on the same store"
    )
    return parser


def _tps(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.startswith("GATEWAY_"):
        raise argparse.ArgumentTypeError(f"{text!r} is not GATEWAY_NAME=VALUE")
    return name, value

"""The command `wa-gateway`. No setting is given here: they are all in the environment.

Everything is imported when it is needed: `--help` and `check` answer in a moment, and a restart is as short as
its imports.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.errors import EXIT_CONFIG, ConfigError

if TYPE_CHECKING:
    from gateway.config import Reading

_EPILOG: Final = """\
Settings are GATEWAY_* variables; `wa-gateway unit --environment-file` lists them all with their defaults.
Exit status: 0 all is well, 1 no gateway answers or it refuses, 2 wrong arguments, 74 the store failed, 78 wrong settings.
"""

_UNIT_COMMAND: Final = "/usr/bin/wa-gateway"
"""What ExecStart= has in the unit file we carry."""

_HIDDEN_FROM_UNITS: Final = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108 -- no file is made
"""Where ProtectHome= and PrivateTmp= of the unit show it nothing."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["demo"]:
        # Before argparse, which would take the demo's own options, --help above all, for its own.
        from gateway.sim.demo import main as demo  # noqa: PLC0415

        return demo(arguments[1:])
    options = _parser().parse_args(arguments)
    match options.command:
        case "run":
            return _run()
        case "check":
            return _check(shows_settings=options.print)
        case "budget":
            from gateway.ops.budget_command import run as budget  # noqa: PLC0415

            return budget(options, os.environ)
        case "dead":
            from gateway.ops.dead_command import run as dead  # noqa: PLC0415

            return dead(options, os.environ)
        case "queue":
            from gateway.ops.queue_command import run as queue  # noqa: PLC0415

            return queue(options, os.environ)
        case "isolate" | "suspend" | "resume" | "drain":
            from gateway.ops.state_command import run as state  # noqa: PLC0415

            return state(options, os.environ)
        case _:
            return _unit(is_environment_file=options.environment_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wa-gateway",
        description="Sidecar for a WhatsApp Business number: durable webhooks in, paced sends out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"wa-gateway {__version__} (Python {sys.version.split()[0]})"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def command(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=description)

    command(
        "run",
        "serve until SIGTERM",
        "Serve until SIGTERM or SIGINT, then drain for at most GATEWAY_DRAIN_TIMEOUT; a second signal cuts that short.",
    )
    check = command(
        "check",
        "validate the settings, report all mistakes at once",
        "Validate the settings and the files they name. Nothing is started, bound or created. "
        "Mistakes go to standard error and give exit status 78.",
    )
    check.add_argument(
        "--print",
        action="store_true",
        help="print every setting with its source (default, env, file or credential) as an environment file; "
        "secrets are masked",
    )
    unit = command(
        "unit",
        "print the systemd unit for this installation",
        "Print the systemd unit, with the path of this installation in it: "
        "wa-gateway unit > /etc/systemd/system/wa-gateway.service",
    )
    unit.add_argument(
        "--environment-file",
        action="store_true",
        help="print every variable, commented out, for /etc/default/wa-gateway instead",
    )
    from gateway.ops import budget_command  # noqa: PLC0415

    budget = command(
        "budget",
        "show what the number's TPS is used for, or plan a campaign",
        budget_command.DESCRIPTION,
    )
    budget.formatter_class = argparse.RawDescriptionHelpFormatter
    budget_command.add_arguments(budget)
    _add_operations(command)
    command(
        "demo",
        "show the gateway at work on a simulated number",
        "Show the gateway at work between a simulated node and backend. See `wa-gateway demo --help`.",
    )
    return parser


def _add_operations(command: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """What is asked of a gateway that runs."""
    from gateway.ops import dead_command, queue_command, state_command  # noqa: PLC0415

    queue = command("queue", "show what waits, and why", queue_command.DESCRIPTION)
    queue_command.add_arguments(queue)
    dead = command(
        "dead", "list, show, retry or discard what could not be delivered", dead_command.DESCRIPTION
    )
    dead.formatter_class = argparse.RawDescriptionHelpFormatter
    dead_command.add_arguments(dead)
    for name, summary in state_command.SUMMARIES.items():
        state_command.add_arguments(name, command(name, summary, state_command.DESCRIPTIONS[name]))


def _run() -> int:
    reading = _read_settings()
    if reading is None:
        return EXIT_CONFIG
    from gateway.app import run  # noqa: PLC0415

    return run(reading.settings)


def _check(*, shows_settings: bool) -> int:
    reading = _read_settings()
    if reading is None:
        return EXIT_CONFIG
    changed = sum(source != "default" for source in reading.sources.values())
    if shows_settings:
        from gateway.config.environment import effective_file  # noqa: PLC0415

        sys.stdout.write(effective_file(reading))
    else:
        print(f"configuration: valid; {changed} of {len(reading.sources)} settings are not the default")
    return 0


def _read_settings() -> "Reading | None":
    """The settings of our environment; warnings, or what is wrong, are on standard error."""
    from gateway.config import read  # noqa: PLC0415
    from gateway.config.access import access_problems  # noqa: PLC0415

    try:
        reading = read(os.environ)
        problems = access_problems(reading.settings)
    except ConfigError as error:
        problems = error.problems
    if problems:
        print(f"configuration: {len(problems)} problem{'s' if len(problems) > 1 else ''}", file=sys.stderr)
        for problem in problems:
            print(f"  - {problem}", file=sys.stderr)
        return None
    for warning in reading.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return reading


def _unit(*, is_environment_file: bool) -> int:
    if is_environment_file:
        from gateway.config.environment import environment_file  # noqa: PLC0415

        sys.stdout.write(environment_file())
        return 0
    from importlib.resources import files  # noqa: PLC0415

    command = _installed_command()
    if command.lstrip('"').startswith(_HIDDEN_FROM_UNITS):
        print(
            f"warning: {command} is where the unit's sandbox hides files; install to /opt or /usr/local",
            file=sys.stderr,
        )
    unit = files("gateway.ops").joinpath("wa-gateway.service").read_text(encoding="utf-8")
    sys.stdout.write(unit.replace(f"ExecStart={_UNIT_COMMAND} ", f"ExecStart={command} "))
    return 0


def _installed_command() -> str:
    """How a unit starts this installation: its script, else its Python, quoted as ExecStart= reads it."""
    import sysconfig  # noqa: PLC0415

    script = Path(sysconfig.get_path("scripts")) / "wa-gateway"
    words = [str(script)] if script.exists() else [sys.executable, "-m", "gateway"]
    # % starts a specifier and $ a variable, in quotes too.
    escaped = [word.replace("%", "%%").replace("$", "$$") for word in words]
    return " ".join(f'"{word}"' if any(c in word for c in " \t'") else word for word in escaped)

"""What an idle gateway costs: CPU and wake-ups of one that is ready and has nothing to do.

Beside it, at the same time, a bare aiohttp server on uvloop. CPU is the sum over the threads of
`/proc/PID/task/*/schedstat`, to the nanosecond; `/proc/PID/stat`, in ticks of 10 ms, stands beside it as a check.
A wake-up is a voluntary context switch: a thread that had gone to sleep and ran again.
"""

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import record
from processes import ServerProcess, free_port

TARGET_PERCENT: Final = 0.2
PACKAGES: Final = ("uvloop", "aiohttp")
GATEWAY: Final = "wa-gateway"

BARE: Final = """
import sys, uvloop
from aiohttp import web
async def handle(request):
    return web.Response()
app = web.Application()
app.router.add_get("/readyz", handle)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
"""


def bare(directory: Path) -> ServerProcess:
    """The server that does nothing, on a port that is free."""
    port = free_port()
    return ServerProcess(directory, [sys.executable, "-c", BARE, str(port)], {}, port, core=-1)


def gateway(directory: Path) -> ServerProcess:
    """A gateway with the defaults, before a node and a backend that are not there."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    return ServerProcess.gateway(
        directory, -1, NODE_URL=nowhere, MESSAGE_WEBHOOK_URL=nowhere, LOG_LEVEL="warning"
    )


class Reading:
    """The counters of a process at one moment."""

    def __init__(self, server: ServerProcess) -> None:
        self.at_ns = time.monotonic_ns()
        self.cpu_ns = server.cpu_ns()
        self.ticks_s = server.cpu_ticks_s()
        self.switches = server.voluntary_switches()

    def until(self, later: "Reading") -> dict[str, float]:
        seconds = (later.at_ns - self.at_ns) / 1e9
        return {
            "cpu_percent": round((later.cpu_ns - self.cpu_ns) / 1e7 / seconds, 4),
            "cpu_percent_by_ticks": round(100 * (later.ticks_s - self.ticks_s) / seconds, 3),
            "wakeups_per_s": round((later.switches - self.switches) / seconds, 2),
        }


def measure(seconds: float, settle_s: float) -> dict[str, dict[str, float]]:
    """Both servers, over the same seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="wa-gateway-bench-")))
        servers = {"bare aiohttp server": bare(directory), GATEWAY: gateway(directory)}
        for server in servers.values():
            stack.enter_context(server)
        for server in servers.values():
            server.wait_ready()
        time.sleep(settle_s)
        before = {name: Reading(server) for name, server in servers.items()}
        time.sleep(seconds)
        after = {name: Reading(server) for name, server in servers.items()}
        return {
            name: {**before[name].until(after[name]), "threads": server.threads()}
            for name, server in servers.items()
        }


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        record.headline(result),
        f"{result['seconds']:g} s, {result['settle_s']:g} s after both are ready",
        f"{'':24}{'CPU % of a core':>17}{'by ticks':>10}{'wake-ups/s':>12}{'threads':>9}",
    ]
    for name, row in result["servers"].items():
        lines.append(
            f"{name:24}{row['cpu_percent']:17.4f}{row['cpu_percent_by_ticks']:10.2f}"
            f"{row['wakeups_per_s']:12.2f}{row['threads']:9}"
        )
    is_met = result["servers"][GATEWAY]["cpu_percent"] < TARGET_PERCENT
    lines.append(f"target: under {TARGET_PERCENT} % of a core: {'met' if is_met else 'MISSED'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="measured (default 30)")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds before that (default 3)")
    record.add_option(parser)
    options = parser.parse_args()
    if options.seconds <= 0 or options.settle < 0:
        sys.exit("--seconds must be above 0, --settle at least 0")
    result = {**record.about(*PACKAGES), "seconds": options.seconds, "settle_s": options.settle}
    result["servers"] = measure(options.seconds, options.settle)
    print(report(result))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

"""CPU per event from webhook to ack to backend, on one core, beside a bare aiohttp handler in the same run."""

import argparse
import asyncio
import itertools
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop
from loopback import OkServer, post_all

BARE = """
import sys, uvloop
from aiohttp import web
async def handle(request):
    await request.read()
    return web.Response()
app = web.Application()
app.router.add_post("/webhook", handle)
app.router.add_get("/readyz", handle)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
"""

_numbers = itertools.count(1)


def bodies(count: int) -> Iterator[bytes]:
    """On-prem text messages of about 350 bytes, every one with a new id."""
    for _ in range(count):
        yield (
            '{"contacts":[{"profile":{"name":"Amina Test"},"wa_id":"15550100111"}],"messages":[{"from":'
            f'"15550100111","id":"ABGGFlA5FpafAgo6tHcNmNjXmuSf-{next(_numbers):012}","timestamp":"1700000001",'
            '"type":"text","text":{"body":"Hello, is the blue one still there in size 42? I would come by '
            'on Saturday before noon and pay in cash."}}]}'
        ).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process on a core of its own."""

    def __init__(self, name: str, core: int, backend_port: int, is_gateway: bool) -> None:
        self.name = name
        self.port = free_port()
        ready_port = free_port() if is_gateway else self.port
        self.directory = tempfile.mkdtemp(prefix="wa-gateway-bench-")
        environ = {
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{ready_port}",
            "GATEWAY_STORE_PATH": self.directory,
            "GATEWAY_MESSAGE_WEBHOOK_URL": f"http://127.0.0.1:{backend_port}/",
            "GATEWAY_LOG_LEVEL": "error",
        }
        command = (
            [sys.executable, "-m", "gateway", "run"]
            if is_gateway
            else [sys.executable, "-c", BARE, str(self.port)]
        )
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  (no threads yet)
        )
        self._wait_ready(ready_port)

    def _wait_ready(self, port: int) -> None:
        for _ in range(500):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start")

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


async def play(server: Server, events: int, connections: int, is_forwarding: bool) -> tuple[float, float]:
    """One round: CPU µs per event, and events a second until the last one is at the backend."""
    served_before, cpu_before, started = OkServer.served, server.cpu_s(), time.perf_counter()
    await post_all(server.port, "/webhook", bodies(events), connections)
    while is_forwarding and OkServer.served - served_before < events:
        await asyncio.sleep(0.005)
    elapsed = time.perf_counter() - started
    return (server.cpu_s() - cpu_before) / events * 1e6, events / elapsed


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, peers in turn."""
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    os.sched_setaffinity(0, {load_core})
    backend = await asyncio.get_running_loop().create_server(OkServer, "127.0.0.1", 0)
    backend_port = backend.sockets[0].getsockname()[1]
    servers = [
        Server("bare aiohttp handler", server_core, backend_port, is_gateway=False),
        Server("wa-gateway, durable, forwarded", server_core, backend_port, is_gateway=True),
    ]
    results: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    try:
        for number in range(options.rounds + 1):
            for server in servers:
                is_gateway = server is servers[1]
                result = await play(server, options.events, options.connections, is_gateway)
                if number:  # the first round warms up
                    results[server.name].append(result)
    finally:
        for server in servers:
            server.stop()
        backend.close()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, uvloop {version('uvloop')}",
        "events": options.events,
        "rounds": options.rounds,
        "connections": options.connections,
        "cores_shared": server_core == load_core,
        "cpu_us_per_event": {name: [cpu for cpu, _ in rounds] for name, rounds in results.items()},
        "events_per_s": {name: [rate for _, rate in rounds] for name, rounds in results.items()},
    }


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        f"{result['machine']}; {result['python']}",
        f"{result['rounds']} rounds of {result['events']} events, {result['connections']} connections,"
        " server on one core, load and backend on another"
        + (" (ONE core for both: no other was free)" if result["cores_shared"] else ""),
        f"{'':32}{'CPU us/event':>14}{'range':>16}{'events/s':>12}{'ratio':>8}",
    ]
    medians = {name: statistics.median(values) for name, values in result["cpu_us_per_event"].items()}
    base = next(iter(medians.values()))
    for name, values in result["cpu_us_per_event"].items():
        rate = statistics.median(result["events_per_s"][name])
        spread = f"{min(values):.1f}-{max(values):.1f}"
        lines.append(f"{name:32}{medians[name]:14.1f}{spread:>16}{rate:12,.0f}{medians[name] / base:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="events a round (default 10000)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds measured (default 5), after one to warm up"
    )
    parser.add_argument("--connections", type=int, default=24, help="webhooks in flight (default 24)")
    parser.add_argument("--json", type=Path, help="write the raw result there")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measure(options))
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

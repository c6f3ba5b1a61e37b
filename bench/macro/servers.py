"""What the benchmarks compare: our gateway in each of its durabilities, and its peers, each on the server's core.

A peer that is not installed is named with what to install, by `missing`, and the result keeps that list.
"""

import os
import shutil
import sys
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from processes import ServerProcess, free_port

from gateway.config.variables import VARIABLES

CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = CORES[0]
LOAD_CORE: Final = CORES[-1]
"""Load, backend and the benchmark itself; the same as the server's where there is only one."""

TOKEN: Final = "a-token-of-the-benchmark"
FULL: Final = "wa-gateway, full"
OS: Final = "wa-gateway, os"
MEMORY: Final = "wa-gateway, memory"
NGINX: Final = "nginx"
HAPROXY: Final = "HAProxy"
AIOHTTP: Final = "aiohttp"
FASTAPI_REDIS: Final = "FastAPI + Redis AOF"
AIOHTTP_REDIS: Final = "aiohttp + Redis AOF"

SYNC: Final = {FULL: "full", OS: "os", MEMORY: "off"}
"""Values of GATEWAY_STORE_SYNC."""
_HAS_SYNC: Final = any(variable.name == "GATEWAY_STORE_SYNC" for variable in VARIABLES)
_PEERS: Final = Path(__file__).with_name("peers")
_NEEDS: Final[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    NGINX: (("nginx",), ()),
    HAPROXY: (("haproxy",), ()),
    FASTAPI_REDIS: (("redis-server",), ("fastapi", "uvicorn", "redis")),
    AIOHTTP_REDIS: (("redis-server",), ("redis",)),
}
"""Programs of the distribution, and packages of the extra `bench`."""


def missing(name: str) -> str | None:
    """What a server lacks here; None when it can run."""
    if name in SYNC:
        return None if _HAS_SYNC or name == FULL else "this version has no GATEWAY_STORE_SYNC"
    programs, packages = _NEEDS.get(name, ((), ()))
    lacks = [program for program in programs if _program(program) is None]
    lacks += [f"the Python package {package}" for package in packages if find_spec(package) is None]
    return f"not installed: {', '.join(lacks)}" if lacks else None


def split(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those that can run, and why the others can't."""
    absent = {name: reason for name in names if (reason := missing(name)) is not None}
    return [name for name in names if name not in absent], absent


def say_absent(absent: dict[str, str]) -> list[str]:
    """Lines for a table."""
    return [f"MISSING {name}: {reason}" for name, reason in absent.items()]


class Contender:
    """One server, with the store beside it if it has one, until the `with` ends."""

    def __init__(self, name: str, directory: Path, backend_url: str, *, core: int = SERVER_CORE) -> None:
        """`backend_url` is where it forwards to, if it forwards. Nothing is left when it does not start."""
        self.name = name
        self.port = free_port()
        self.processes: list[ServerProcess] = []
        self.admin_url = ""
        self._directory = directory
        self._backend_url = backend_url
        self._backend = backend_url.split("/")[2]
        self._core = core
        directory.mkdir()

    def start(self, start: Callable[["Contender"], None], **variables: str) -> Self:
        """Start it with one of the functions below; `variables` are the gateway's, without their GATEWAY_."""
        self._variables = variables
        with ExitStack() as stack:
            stack.callback(self.stop)
            start(self)
            stack.pop_all()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def cpu_ns(self) -> int:
        return sum(process.cpu_ns() for process in self.processes)

    def cpu_wait_ns(self) -> int:
        return sum(process.cpu_wait_ns() for process in self.processes)

    def _add(self, command: list[str], port: int, *, speaks_http: bool = True) -> None:
        directory = self._directory / str(len(self.processes))
        directory.mkdir()
        process = ServerProcess(directory, command, {}, port, self._core, speaks_http=speaks_http)
        self.processes.append(process)
        process.wait_ready()

    def _script(self, name: str, *arguments: str) -> None:
        self._add([sys.executable, str(_PEERS / f"{name}.py"), str(self.port), *arguments], self.port)

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.write_text(text)
        return path

    def run_gateway(self) -> None:
        """Ours, forwarding as fast as it can; TPS is high, and does not concern what comes in."""
        sync = {"STORE_SYNC": SYNC[self.name]} if _HAS_SYNC else {}
        defaults = {
            "TPS": "5000",
            "NODE_URL": f"http://127.0.0.1:{free_port()}",
            "MESSAGE_WEBHOOK_URL": self._backend_url,
            "PUSH_TOKENS": TOKEN,
            "LOG_LEVEL": "warning",
            "STORE_MAX_BYTES": "64GiB",
        }
        process = ServerProcess.gateway(
            self._directory, self._core, **{**defaults, **sync, **self._variables}
        )
        self.processes.append(process.wait_ready())
        self.port = int(process.url.rpartition(":")[2])
        self.admin_url = process.admin_url

    def run_isolated_gateway(self) -> None:
        """Ours, that takes webhooks and forwards none: the door alone."""
        self.run_gateway()
        self.set_state("isolated")

    def set_state(self, state: str) -> None:
        """As an operator would."""
        body = f'{{"state": "{state}"}}'.encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        urllib.request.urlopen(
            urllib.request.Request(self.admin_url + "/v1/state", body, headers), timeout=5
        ).close()

    def run_nginx(self, location: str) -> None:
        program = _program("nginx")
        assert program is not None
        text = _NGINX.format(port=self.port, backend=self._backend, location=location, at=self._directory)
        self._add(
            [program, "-p", str(self._directory), "-c", str(self._write("nginx.conf", text))], self.port
        )

    def run_nginx_answering(self) -> None:
        """It reads the body to throw it away, and answers."""
        self.run_nginx("return 200;")

    def run_nginx_forwarding(self) -> None:
        """`proxy_pass` with connections that are kept."""
        self.run_nginx(_PROXY_PASS)

    def run_haproxy(self) -> None:
        program = _program("haproxy")
        assert program is not None
        text = _HAPROXY.format(port=self.port, backend=self._backend)
        self._add([program, "-db", "-f", str(self._write("haproxy.cfg", text))], self.port)

    def run_aiohttp_answering(self) -> None:
        self._script("aiohttp_bare")

    def run_aiohttp_forwarding(self) -> None:
        self._script("aiohttp_forward", self._backend_url)

    def run_aiohttp_redis(self) -> None:
        self._script("aiohttp_redis", str(self._redis()))

    def run_fastapi_redis(self) -> None:
        self._script("fastapi_redis", str(self._redis()))

    def _redis(self) -> int:
        """Its port. It syncs its file before it answers, once for all that came together."""
        program = _program("redis-server")
        assert program is not None
        port = free_port()
        data = self._directory / "redis"
        data.mkdir()
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        command = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._add(command, port, speaks_http=False)
        return port


INGEST: Final[dict[str, Callable[[Contender], None]]] = {
    FULL: Contender.run_isolated_gateway,
    OS: Contender.run_isolated_gateway,
    MEMORY: Contender.run_isolated_gateway,
    NGINX: Contender.run_nginx_answering,
    AIOHTTP: Contender.run_aiohttp_answering,
    AIOHTTP_REDIS: Contender.run_aiohttp_redis,
    FASTAPI_REDIS: Contender.run_fastapi_redis,
}
"""Those that take a webhook and answer 200."""
FORWARD: Final[dict[str, Callable[[Contender], None]]] = {
    FULL: Contender.run_gateway,
    OS: Contender.run_gateway,
    MEMORY: Contender.run_gateway,
    NGINX: Contender.run_nginx_forwarding,
    HAPROXY: Contender.run_haproxy,
    AIOHTTP: Contender.run_aiohttp_forwarding,
}
"""Those that bring it to a backend."""


def _program(name: str) -> str | None:
    """Distributions keep servers where a user's PATH may not lead."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {at}/pid;
error_log {at}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    upstream backend {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location = /readyz {{ return 200; }}
        location / {{ {location} }}
    }}
}}
"""
_PROXY_PASS: Final = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'
_HAPROXY: Final = """\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend door
    bind 127.0.0.1:{port}
    http-request return status 200 if {{ path /readyz }}
    default_backend backend
backend backend
    server one {backend} pool-max-conn 128
"""

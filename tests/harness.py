"""A gateway in this process with real sockets, and a backend that records what it is told."""

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from process import run_command

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config import load

TOKEN = "a-token-of-the-tests"

Answer = Callable[[bytes], Awaitable[web.Response]]


async def ok(_body: bytes) -> web.Response:
    """The answer of a backend that has nothing to say."""
    return web.Response()


class RecordingBackend:
    """A backend: both webhooks, everything it received in order, and an answer that a test may change."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.events: list[bytes] = []
        self.answer: Answer = ok
        self._changed = asyncio.Condition()
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator["RecordingBackend"]:
        """Serve on loopback; a port of 0 is chosen by the kernel."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/messages", self._handle)
        app.router.add_post("/events", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        answer = await self.answer(body)
        if answer.status < 300:
            (self.messages if request.path == "/messages" else self.events).append(body)
            async with self._changed:
                self._changed.notify_all()
        return answer

    async def wait_for(self, is_reached: Callable[[], bool]) -> None:
        """Wait until `is_reached`, which looks at what was received, is true."""
        async with self._changed:
            await self._changed.wait_for(is_reached)


class Harness:
    """A running gateway and its doors."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session

    @property
    def ingest(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ingest_port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.gateway.admin_port}"

    async def webhook(self, body: bytes) -> int:
        """POST a webhook as a node does; the status."""
        async with self.session.post(f"{self.ingest}/webhook", data=body) as answer:
            await answer.read()
            return answer.status

    async def push(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        """POST a send; status and body of the answer."""
        headers = {"Authorization": f"Bearer {TOKEN}", **headers}
        async with self.session.post(f"{self.ingest}/v1/messages", data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Ask something of the push API; status and body of the answer."""
        headers = {"Authorization": f"Bearer {TOKEN}", **headers}
        url = f"{self.ingest}{path}"
        async with self.session.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def metrics(self) -> dict[str, float]:
        """The metrics page: series as written, to value."""
        async with self.session.get(f"{self.admin}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        series = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in series}

    async def settle(self) -> dict[str, float]:
        """Wait until nothing that was accepted inbound waits any more; the metrics then.

        The backend has a record before its outcome is on disk, so the last commit is waited for here.
        """
        while True:
            metrics = await self.metrics()
            waiting = [v for name, v in metrics.items() if name.startswith("gateway_waiting")]
            if not any(waiting):
                return metrics
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running_gateway(directory: Path, backend_port: int, **variables: str) -> AsyncIterator[Harness]:
    """A gateway with its store in `directory`, forwarding to a backend on loopback."""
    environ = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
        "GATEWAY_STORE_PATH": str(directory),
        "GATEWAY_MESSAGE_WEBHOOK_URL": f"http://127.0.0.1:{backend_port}/messages",
        "GATEWAY_EVENT_WEBHOOK_URL": f"http://127.0.0.1:{backend_port}/events",
        "GATEWAY_NODE_URL": "http://127.0.0.1:1",
        "GATEWAY_PUSH_TOKENS": TOKEN,
        "GATEWAY_BACKEND_BACKOFF_MIN": "10ms",
        "GATEWAY_BACKEND_BACKOFF_MAX": "100ms",
        **{f"GATEWAY_{name}": value for name, value in variables.items()},
    }
    gateway = Gateway(load(environ), SystemClock(), random.Random(7))
    running = asyncio.create_task(gateway.run(), name="gateway under test")
    ready = asyncio.create_task(gateway.wait_ready())
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        ready.cancel()
        await running
    async with aiohttp.ClientSession() as session:
        try:
            yield Harness(gateway, session)
        finally:
            gateway.stop()
            await running


class Operator:
    """Asks a gateway that runs: its admin listener, and the commands."""

    def __init__(self, gateway: Harness) -> None:
        self._gateway = gateway

    async def ask(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> tuple[int, Any]:
        """Status and JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self._gateway.admin}{path}"
        async with self._gateway.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def run(self, *arguments: str, token: str = TOKEN) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of `wa-gateway`."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environ["GATEWAY_ADMIN_LISTEN"] = self._gateway.admin.removeprefix("http://")
        if token:
            environ["GATEWAY_PUSH_TOKENS"] = token
        return await run_command(environ, *arguments)

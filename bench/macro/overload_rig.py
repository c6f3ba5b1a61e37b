"""A server between a node's callbacks and a backend: ours as a process of its own, or a plain FIFO gateway.

The server has one core; node and backend share this process on another. When both are one core the result says so.
"""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
import record
from aiohttp import web
from callbacks import CallbackLoad
from processes import ServerProcess, free_port

from gateway.events import Kind
from gateway.sim.backend import SimBackend
from gateway.sim.exposition import Exposition
from gateway.sim.journal import Callback

TOKEN: Final = "a-token-of-the-benchmark"
GATEWAY: Final = "wa-gateway"
ACK_FIRST: Final = "fifo, acks first"
FORWARD_FIRST: Final = "fifo, forwards first"
PEERS: Final = {ACK_FIRST: "ack-first", FORWARD_FIRST: "forward-first"}

CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = CORES[0]
LOAD_CORE: Final = CORES[-1]


class BenchBackend(SimBackend):
    """The simulated backend, that works on so many requests at once, the rest in a queue, and hears of digests."""

    def __init__(self, latency_s: float, slots: int = 0) -> None:
        """`slots` 0: as many as come."""
        super().__init__(mode="silent", latency_s=latency_s)
        self._slots = asyncio.Semaphore(slots) if slots else None
        self.digested: dict[str, int] = {}
        """By message id, the highest `delivered` a digest has told."""

    async def _take(self, request: web.Request) -> web.Response:
        if self._slots is None:
            answer = await super()._take(request)
        else:
            async with self._slots:
                answer = await super()._take(request)
        if answer.status == 200:
            for row in orjson.loads(await request.read()).get("gateway", {}).get("receipts", ()):
                self.digested[row["id"]] = max(self.digested.get(row["id"], 0), row["delivered"])
        return answer


class Rig:
    """One server, its backend, and the callbacks that come to it."""

    def __init__(self, name: str, backend: BenchBackend, server: ServerProcess, load: CallbackLoad) -> None:
        self.name = name
        self.backend = backend
        self.server = server
        self.load = load

    async def metrics(self) -> Exposition:
        """Of the gateway, now."""
        assert self.name == GATEWAY, self.name
        return Exposition(await _get(self.server.admin_url + "/metrics"))

    async def waiting(self) -> int:
        """Events the server holds."""
        if self.name == GATEWAY:
            return int((await self.metrics()).total("gateway_waiting"))
        return int(await _get(self.server.url + "/waiting"))

    async def drain(self, seconds: float) -> float:
        """Wait until nothing waits anywhere, at most `seconds`; returns how long it took."""
        begin_ns = time.monotonic_ns()
        while (took_s := (time.monotonic_ns() - begin_ns) / 1e9) < seconds:
            if not self.load.waiting and not await self.waiting():
                break
            await asyncio.sleep(0.1)
        return took_s

    def delivered(self) -> dict[str, int]:
        """When each message was answered 200 by the backend for the first time (monotonic ns), by id."""
        first: dict[str, int] = {}
        for received in self.backend.ledger.received:
            if received.kind is Kind.MESSAGE:
                first.setdefault(received.id, received.at_ns)
        return first

    async def receipts(self, ids: list[str]) -> dict[str, int]:
        """How many phones have delivered each message, asked of the gateway, as whoever sent it would."""
        counts = {}
        for at in range(0, len(ids), 100):
            body = orjson.dumps({"ids": ids[at : at + 100]})
            answer = orjson.loads(await _get(self.server.url + "/v1/receipts", body))
            for row in answer["receipts"]:
                if row is not None:
                    counts[row["id"]] = row["delivered"]["count"]
        return counts


@asynccontextmanager
async def running(
    name: str,
    backend: BenchBackend,
    *,
    connections: int = 24,
    workers: int = 16,
    variables: Mapping[str, str] = {},
) -> AsyncIterator[Rig]:
    """One server, until the block ends; `name` is GATEWAY, or one of PEERS.

    `workers` is GATEWAY_BACKEND_CONCURRENCY, and the FIFO's as many. `variables` are further ones of the gateway,
    without their GATEWAY_.
    """
    with TemporaryDirectory(prefix="wa-gateway-bench-") as made:
        async with backend.running():
            server = _start(name, backend, Path(made), workers, variables)
            with server:
                await asyncio.to_thread(server.wait_ready)
                load = CallbackLoad(server.url + "/webhook", connections)
                await load.open()
                try:
                    yield Rig(name, backend, server, load)
                finally:
                    load.close()
                    await asyncio.to_thread(server.stop)


def _start(
    name: str, backend: BenchBackend, directory: Path, workers: int, variables: Mapping[str, str]
) -> ServerProcess:
    if name == GATEWAY:
        return ServerProcess.gateway(
            directory,
            SERVER_CORE,
            TPS="5000",
            NODE_URL=f"http://127.0.0.1:{free_port()}",
            MESSAGE_WEBHOOK_URL=backend.message_url,
            EVENT_WEBHOOK_URL=backend.event_url,
            BACKEND_CONCURRENCY=str(workers),
            PUSH_TOKENS=TOKEN,
            LOG_LEVEL="warning",
            **variables,
        )
    port = free_port()
    script = str(Path(__file__).with_name("fifo_peer.py"))
    command = [sys.executable, script, str(port), backend.message_url, str(workers), PEERS[name]]
    made = ServerProcess(directory, command, {}, port, SERVER_CORE)
    made.url = f"http://127.0.0.1:{port}"
    return made


def pin_load() -> None:
    """Node and backend, which are this process, on a core of their own where there are two."""
    os.sched_setaffinity(0, {LOAD_CORE})


def unsettled(events: Iterable[Callback], delivered: dict[str, int]) -> int:
    """How many of the messages among `events` the backend has not got."""
    return sum(event.kind is Kind.MESSAGE and event.id not in delivered for event in events)


def latencies_ms(events: Iterable[Callback], delivered: dict[str, int], end_ns: int) -> list[float]:
    """Of the messages among `events`, from when each was due; one that never came has waited until `end_ns`. Ordered."""
    return sorted(
        (delivered.get(event.id, end_ns) - event.made_ns) / 1e6
        for event in events
        if event.kind is Kind.MESSAGE
    )


def spread(ordered: list[float]) -> dict[str, float]:
    """Median, p99 and the highest of some times, ms."""
    return {
        "p50_ms": round(record.percentile(ordered, 50), 1),
        "p99_ms": round(record.percentile(ordered, 99), 1),
        "max_ms": round(ordered[-1], 1),
    }


def about() -> dict[str, Any]:
    """The head of a result, and where things ran."""
    return {
        **record.about("uvloop", "aiohttp"),
        "cores": {"server": SERVER_CORE, "node and backend": LOAD_CORE},
    }


async def _get(url: str, body: bytes | None = None) -> str:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)

    def ask() -> str:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(ask)

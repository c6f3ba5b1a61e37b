"""Start and stop, in order. Start: open the store, read it back, bind, ready. Stop: the reverse.

Time to stop, at most: drain timeout (30 s by default, 39 s at most) + 2 s for answers on their way out + store
and log (under 2 s each) < TimeoutStopSec=45 of the unit.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from typing import Final

from aiohttp import web

from gateway.app.budget_page import budget_page, change_plan
from gateway.app.page import metrics_page
from gateway.app.parts import Parts
from gateway.clock import Clock
from gateway.config import Address, Settings
from gateway.errors import StoreError
from gateway.http.admin import Admin
from gateway.http.ingest import Ingest
from gateway.ops import systemd
from gateway.ops.logs import Log
from gateway.ops.metrics import Queue
from gateway.store.protocol import MemoryLimits

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
"""Connections the kernel holds for us: 32 nodes with 24 requests each, five times over."""
ANSWERS_OUT_S: Final = 2.0
CLEANUP_S: Final = 60.0
"""Between two looks at what may be forgotten. A timer a minute is no load."""
PARKED_MAX: Final = 10_000
PAIR_MEMORY_MAX_MS: Final = 3_600_000
"""How long finished sends are kept for the pair limit alone: it must know of them after a restart (270 s by default)."""


class Gateway:
    """A gateway in this process. `run` does everything; `stop` may be called from anywhere on the loop."""

    def __init__(self, settings: Settings, clock: Clock, rng: random.Random, logs: Log | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._logs = logs
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_ready = asyncio.Event()
        self.failure: StoreError | None = None
        self.parts: Parts
        self.ingest_port = 0
        self.admin_port = 0

    def stop(self) -> None:
        """Drain and end; called again, end without waiting for what is under way."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def wait_ready(self) -> None:
        """Wait until the listeners are open and work is taken."""
        await self._is_ready.wait()

    def checks(self) -> dict[str, bool]:
        """What must be true to take work, by name."""
        return {
            "started": self._is_ready.is_set(),
            "not_draining": not self._stop.is_set(),
            "store": self.failure is None,
            "store_has_room": self.parts.store.used_bytes() < self._settings.store_max_bytes,
        }

    async def run(self) -> None:
        """Serve until `stop` or a failed store (then `failure` says so), then drain.

        Raises StoreError when the store can't be opened, OSError when a listener can't be bound.
        """
        started_wall_ms = self._clock.wall_ms()
        self.parts = parts = Parts(self._settings, self._clock, self._rng, self._on_store_failure)
        ingest = self._ingest()
        admin = Admin(
            self.checks,
            lambda: metrics_page(parts, ingest, started_wall_ms, self._log_dropped),
            lambda: budget_page(parts),
            lambda authorization, body: change_plan(parts, authorization, body),
        )
        runners = [
            web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=ANSWERS_OUT_S)
            for app in (ingest.application(), admin.application())
        ]
        try:
            # Bound before the tasks start, so that what is wrong with an address is said as it is.
            await self._bind(runners)
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._refill(queue), name=f"refill {queue.side} {min(queue.classes)}")
                    for queue in parts.queues
                ]
                background.append(tasks.create_task(self._clean_up(), name="clean-up"))
                background.append(tasks.create_task(self._feed_watchdog(), name="watchdog"))
                background.append(tasks.create_task(parts.inbound.monitor.work(), name="look at the load"))
                background.append(tasks.create_task(parts.asker.work(), name="ask for groups"))
                if parts.watch is not None:
                    background.append(tasks.create_task(parts.watch.work(), name="watch the node"))
                if parts.valve is not None:
                    background.append(tasks.create_task(parts.valve.work(), name="receipt valve"))
                workers = self._start_workers(tasks)
                try:
                    self._announce_ready()
                    await self._stop.wait()
                    await self._drain(ingest, runners[0], workers)
                finally:
                    for task in (*workers, *background):
                        task.cancel()
        finally:
            for runner in runners:
                await runner.cleanup()
            await parts.close()

    def _ingest(self) -> Ingest:
        settings, parts = self._settings, self.parts
        return Ingest(
            parts.receiver,
            parts.acceptor,
            parts.receipt_answers,
            webhook_path=settings.webhook_path,
            webhook_body_max=settings.webhook_body_max_bytes,
            push_body_max=settings.push_body_max_bytes,
            app_secret=settings.webhook_app_secret.reveal() if settings.webhook_app_secret else "",
            verify_token=settings.webhook_verify_token.reveal() if settings.webhook_verify_token else "",
            phone_id=settings.node_phone_id or "",
        )

    def _start_workers(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        workers = [
            tasks.create_task(forwarder.work(), name=f"forward {forwarder.name} {number}")
            for forwarder in self.parts.inbound.forwarders
            for number in range(forwarder.workers)
        ]
        workers += [
            tasks.create_task(self.parts.sender.work(), name=f"send {number}")
            for number in range(self._settings.node_connections)
        ]
        return workers

    async def _bind(self, runners: list[web.AppRunner]) -> None:
        settings = self._settings
        tls: ssl.SSLContext | None = None
        if settings.tls_cert is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(settings.tls_cert, settings.tls_key)
        ports = []
        for runner, address, context in zip(
            runners, (settings.listen, settings.admin_listen), (tls, None), strict=True
        ):
            await runner.setup()
            ports.append(await _open_door(runner, address, context))
        self.ingest_port, self.admin_port = ports

    def _announce_ready(self) -> None:
        settings = self._settings
        self._is_ready.set()
        recovered = sum(queue.backlog.total() for queue in self.parts.queues)
        systemd.ready(f"ready, {recovered} records read back")
        log.info(
            "ready",
            extra={
                "listen": str(settings.listen),
                "admin": str(settings.admin_listen),
                "tps": settings.tps,
                "dialect": settings.dialect,
                "recovered": recovered,
            },
        )

    async def _drain(self, ingest: Ingest, door: web.AppRunner, workers: list[asyncio.Task[None]]) -> None:
        under_way = sum(queue.backlog.taken() for queue in self.parts.queues)
        systemd.stopping(f"draining, {under_way} under way")
        log.info("draining", extra={"under_way": under_way})
        ingest.is_draining = True
        for site in list(door.sites):
            await site.stop()
        self.parts.pacer.drain()
        for forwarder in self.parts.inbound.forwarders:
            forwarder.drain()
        if self.failure is not None:
            return  # nothing can be settled any more
        hurry = asyncio.ensure_future(self._hurry.wait())
        finished = asyncio.ensure_future(asyncio.wait(workers))
        timeout_s = self._settings.drain_timeout_ms / 1000
        await asyncio.wait([hurry, finished], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for waiter in (hurry, finished):
            waiter.cancel()
        left = sum(not worker.done() for worker in workers)
        log.info("drained", extra={"under_way_kept": left})

    def _on_store_failure(self, error: StoreError) -> None:
        self.failure = error
        self._stop.set()

    def _log_dropped(self) -> int:
        return self._logs.dropped if self._logs is not None else 0

    async def _refill(self, queue: Queue) -> None:
        """Keep the memory of a queue filled from the disk."""
        with contextlib.suppress(StoreError):  # the store has told `_on_store_failure`, and we are stopping
            await queue.backlog.refill()

    async def _clean_up(self) -> None:
        """Forget what has been remembered long enough, once a minute."""
        store = self.parts.store
        with contextlib.suppress(StoreError):  # as above
            while True:
                await asyncio.sleep(CLEANUP_S)
                await self.parts.inbound.checkpoint()
                while await store.forget(self._memory_limits()):
                    pass

    def _memory_limits(self) -> MemoryLimits:
        settings, now_ms = self._settings, self._clock.wall_ms()
        # What is finished must not crowd out what waits: over half the store's bound none of it is kept.
        is_crowded = self.parts.store.used_bytes() > settings.store_max_bytes // 2
        sent_ms = 0 if is_crowded else settings.send_retention_ms
        return MemoryLimits(
            seen_before_ms=now_ms - settings.dedupe_age_ms,
            seen_max=settings.dedupe_keys,
            sent_before_ms=now_ms - max(sent_ms, min(self.parts.pair_window_ms, PAIR_MEMORY_MAX_MS)),
            parked_max=0 if is_crowded else PARKED_MAX,
        )

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the loop turns, as often as it wants to hear it."""
        interval_s = systemd.watchdog_interval_s()
        while interval_s is not None:
            systemd.watchdog()
            await asyncio.sleep(interval_s)


async def _open_door(runner: web.AppRunner, address: Address, tls: ssl.SSLContext | None) -> int:
    site = web.TCPSite(runner, address.host, address.port, ssl_context=tls, backlog=BACKLOG)
    await site.start()
    port: int = runner.addresses[0][1]
    return port

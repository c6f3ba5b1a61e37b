"""Start and stop, in order. Start: open the store, read it back, bind, ready. Stop: the reverse.

Time to stop, at most: drain timeout (30 s by default, 39 s at most) + 2 s for answers on their way out + store
and log (under 2 s each) < TimeoutStopSec=45 of the unit.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from gateway._fast.front_connection import IDLE_S
from gateway.app.budget_page import budget_page, change_plan, usage_of
from gateway.app.dead_page import DeadPage
from gateway.app.operator_state import OperatorState
from gateway.app.page import metrics_page
from gateway.app.parts import Parts
from gateway.app.queue_page import queue_operations
from gateway.app.state_page import state_operations
from gateway.clock import Clock
from gateway.config import Settings
from gateway.errors import StoreError
from gateway.http.admin import Admin
from gateway.http.front import BACKLOG, Front
from gateway.http.ingest import Ingest
from gateway.http.server_log import SERVER_LOG
from gateway.ops import systemd
from gateway.ops.logs import Log
from gateway.ops.memory import give_back
from gateway.ops.metrics import Queue
from gateway.store.protocol import MemoryLimits
from gateway.store.room import RESERVE_BYTES

log = logging.getLogger(__name__)

ANSWERS_OUT_S: Final = 2.0
CLEANUP_S: Final = 60.0
"""Between two looks at what may be forgotten. A timer a minute is no load."""
ROOM_POLL_S: Final = 0.5
"""Between two looks whether a full disk has room again; nobody tells us."""
IDEMPOTENCY_KEYS_MAX: Final = 1_000_000
"""Some 150 MB on disk; beyond it the oldest are forgotten."""
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
        self._front: Front
        self._state: OperatorState
        self.ingest_port = 0
        self.admin_port = 0

    def stop(self) -> None:
        """Drain and end; called again, end without waiting for what is under way."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _finish(self) -> None:
        """As `stop` for the first time; asked again, it does not hurry."""
        self._state.is_draining = True
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
            "store_has_room": self.parts.store.used_bytes() < self._settings.store_max_bytes
            and self.parts.room.free_bytes() > 0,
        }

    async def run(self) -> None:
        """Serve until `stop` or a failed store (then `failure` says so), then drain.

        Raises StoreError when the store can't be opened, OSError when a listener can't be bound.
        """
        started_wall_ms = self._clock.wall_ms()
        self.parts = parts = Parts(self._settings, self._clock, self._rng, self._on_store_failure)
        parts.send_rate.usage = lambda: usage_of(parts)
        ingest = self._ingest()
        state = OperatorState(
            parts.store,
            parts.inbound.forwarders,
            parts.pacer,
            {"message": self._settings.message_webhook_url, "event": self._settings.event_webhook_url},
        )
        self._state = state
        admin = Admin(
            self.checks,
            lambda: metrics_page(parts, state, ingest, started_wall_ms, self._log_dropped),
            lambda: budget_page(parts),
            lambda authorization, body: change_plan(parts, authorization, body),
            state.names,
            [
                *state_operations(state, self._finish),
                *queue_operations(parts, state),
                *DeadPage(parts.dead_letters, parts.store, self._clock).operations(),
            ],
            parts.push.authorise,
        )
        runners = [
            web.AppRunner(
                app,
                access_log=None,
                handle_signals=False,
                shutdown_timeout=ANSWERS_OUT_S,
                keepalive_timeout=IDLE_S,
                auto_decompress=False,  # 200 kB would hold the loop for half a second
                logger=SERVER_LOG,
            )
            for app in (ingest.application(), admin.application())
        ]
        await runners[0].setup()
        assert runners[0].server is not None
        self._front = ingest.front(runners[0].server, self._settings.connections_max, self._clock)
        try:
            # Bound before the tasks start, so that what is wrong with an address is said as it is.
            await self._bind(runners[1])
            await self._wait_room()
            if self._stop.is_set():
                return
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._refill(queue), name=f"refill {queue.side} {min(queue.classes)}")
                    for queue in parts.queues
                ]
                background.append(tasks.create_task(self._start_scheduled(), name="start scheduled sends"))
                background.append(tasks.create_task(self._end_expired(), name="end expired sends"))
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
                    await self._drain(ingest, workers)
                finally:
                    for task in (*workers, *background):
                        task.cancel()
        finally:
            self._front.close()
            await asyncio.gather(
                self._front.wait_closed(ANSWERS_OUT_S), *(runner.cleanup() for runner in runners)
            )
            self._front.abort()
            await parts.close()

    async def _wait_room(self) -> None:
        """Wait until the disk takes something: nothing may be sent or delivered whose outcome can't be kept.

        The doors are open meanwhile, and refuse.
        """
        if self.parts.room.free_bytes():
            return
        full = f"the disk of {self._settings.store_path} is full (less than {RESERVE_BYTES >> 20} MiB free), waiting for room"
        log.critical("%s", full)
        systemd.ready(full)
        while not self.parts.room.free_bytes() and not self._stop.is_set():
            systemd.watchdog()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), ROOM_POLL_S)
        log.info("the disk has room")

    def _ingest(self) -> Ingest:
        settings, parts = self._settings, self.parts
        return Ingest(
            parts.receiver,
            parts.push,
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
            tasks.create_task(forwarder.work(), name=f"forward {forwarder.name}")
            for forwarder in self.parts.inbound.forwarders
        ]
        workers += [
            tasks.create_task(self.parts.sender.work(), name=f"send {number}")
            for number in range(self._settings.node_connections)
        ]
        return workers

    async def _bind(self, admin: web.AppRunner) -> None:
        settings = self._settings
        tls: ssl.SSLContext | None = None
        if settings.tls_cert is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(settings.tls_cert, settings.tls_key)
        with _naming("GATEWAY_LISTEN"):
            self.ingest_port = await self._front.listen(settings.listen.host, settings.listen.port, tls)
        await admin.setup()
        address = settings.admin_listen
        with _naming("GATEWAY_ADMIN_LISTEN"):
            await web.TCPSite(admin, address.host, address.port, backlog=BACKLOG).start()
        self.admin_port = admin.addresses[0][1]

    def _announce_ready(self) -> None:
        settings = self._settings
        self._is_ready.set()
        recovered = sum(queue.backlog.total() for queue in self.parts.queues)
        off = "".join(f", {name}" for name in self._state.names())
        systemd.ready(f"ready, {recovered} records read back{off}")
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

    async def _drain(self, ingest: Ingest, workers: list[asyncio.Task[None]]) -> None:
        under_way = sum(queue.backlog.taken() for queue in self.parts.queues)
        self._state.is_draining = True
        systemd.stopping(f"draining, {under_way} under way")
        log.info("draining", extra={"under_way": under_way})
        ingest.is_draining = True
        self.parts.push.node_answers.drain()
        self._front.drain()
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
        if self.failure is None:
            self.failure = error
            log.critical("%s", error)
        self._stop.set()

    def _log_dropped(self) -> int:
        return self._logs.dropped if self._logs is not None else 0

    async def _refill(self, queue: Queue) -> None:
        """Keep the memory of a queue filled from the disk."""
        with contextlib.suppress(StoreError):  # the store has told `_on_store_failure`, and we are stopping
            await queue.backlog.refill()

    async def _start_scheduled(self) -> None:
        """Bring scheduled sends into line when they are due."""
        with contextlib.suppress(StoreError):  # as above
            await self.parts.push.schedule.work()

    async def _end_expired(self) -> None:
        """End sends when their time to live is over."""
        with contextlib.suppress(StoreError):  # as above
            await self.parts.push.expiry.work()

    async def _clean_up(self) -> None:
        """Forget what has been remembered long enough, once a minute."""
        store = self.parts.store
        with contextlib.suppress(StoreError):  # as above
            while True:
                await asyncio.sleep(CLEANUP_S)
                await self.parts.inbound.checkpoint()
                while await store.forget(self._memory_limits()):
                    pass
                give_back()

    def _memory_limits(self) -> MemoryLimits:
        settings, now_ms = self._settings, self._clock.wall_ms()
        # What is finished must not crowd out what waits: over half the store's bound none of it is kept.
        is_crowded = self.parts.store.used_bytes() > settings.store_max_bytes // 2
        # Receipts are asked for by our id too: the map to WhatsApp's must last as long as what is known of them.
        sent_ms = 0 if is_crowded else max(settings.send_retention_ms, settings.ledger_age_ms)
        return MemoryLimits(
            seen_before_ms=now_ms - settings.dedupe_age_ms,
            seen_max=settings.dedupe_keys,
            sent_before_ms=now_ms - max(sent_ms, min(self.parts.pair_window_ms, PAIR_MEMORY_MAX_MS)),
            parked_max=0 if is_crowded else settings.dead_max,
            keys_before_ms=now_ms - settings.idempotency_age_ms,
            keys_max=IDEMPOTENCY_KEYS_MAX,
        )

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the loop turns, as often as it wants to hear it."""
        interval_s = systemd.watchdog_interval_s()
        while interval_s is not None:
            systemd.watchdog()
            await asyncio.sleep(interval_s)


@contextlib.contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Let an OSError say which setting it is about."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{variable}: {error.strerror or error}") from error

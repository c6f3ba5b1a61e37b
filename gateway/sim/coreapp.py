"""Coreapp's callbacks over HTTP: 6, 12, 18 or 24 in flight, only 200 counts, the rest is tried again.

One dispatcher starts a task per request and never more than the setting allows, so the bound is in one
place and follows the setting at once. A callback that waits for its next attempt holds no slot: whether
the real client frees it was never published.
"""

import asyncio
import random
from collections import Counter
from typing import Final

import aiohttp
import orjson

from gateway.clock import NS_PER_S, Clock
from gateway.sim.callbackqueue import QUEUE_MAX, CallbackQueue, Delivery
from gateway.sim.faults import Faults
from gateway.sim.journal import BadAttempt, Callback, Journal
from gateway.sim.settings import Settings

TIMEOUT_S: Final = 10.0
"""The client ends a callback "after a defined timeout" and never says which; partners apply 5 to 10 s."""


class CoreApp:
    """Queues events and posts them to the webhook of the settings; waits while there is no URL."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        faults: Faults,
        journal: Journal,
        *,
        queue_max: int = QUEUE_MAX,
        timeout_s: float = TIMEOUT_S,
        time_scale: float = 1.0,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._faults = faults
        self._journal = journal
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._wake = asyncio.Event()
        self.queue = CallbackQueue(settings, faults, rng, queue_max=queue_max, time_scale=time_scale)
        self.in_flight = 0
        self.results: Counter[tuple[str, str]] = Counter()
        """Attempts by (result, type), for `/v1/stats/app`."""
        self.duration_ms = 0.0

    def offer(self, callback: Callback) -> bool:
        """Queue one event for the webhook. False: the queue is full and the event is lost and counted."""
        if not self.queue.try_put(callback):
            self._journal.lost_callbacks += 1
            return False
        self._journal.callbacks.append(callback)
        self._journal.callback_queue_max = max(self._journal.callback_queue_max, len(self.queue))
        self._wake.set()
        return True

    def notify(self) -> None:
        """Look again: a setting changed."""
        self._wake.set()

    async def run(self) -> None:
        """Post until cancelled; then requests in flight are dropped."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                while delivery := self._take():
                    self.in_flight += 1
                    self._journal.in_flight_max = max(self._journal.in_flight_max, self.in_flight)
                    # To the webhook of now: it may be switched off before the task begins.
                    url = self._settings.webhook_url
                    tasks.create_task(self._deliver(session, url, delivery), name="coreapp callback")
                await self._wait()

    def _take(self) -> Delivery | None:
        if self.in_flight >= self._settings.concurrency or not self._settings.webhook_url:
            return None
        return self.queue.take(self._clock.now_ns())

    async def _wait(self) -> None:
        """Until something was offered, settled or changed, or the next retry is due."""
        due_ns = self.queue.next_ns()
        has_slot = self.in_flight < self._settings.concurrency and bool(self._settings.webhook_url)
        timeout_s = None
        if due_ns is not None and has_slot:
            timeout_s = max(0.0, (due_ns - self._clock.now_ns()) / NS_PER_S)
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _deliver(self, session: aiohttp.ClientSession, url: str, delivery: Delivery) -> None:
        begin_ns = self._clock.now_ns()
        for callback in delivery.callbacks:
            callback.attempts += 1
            if callback.first_attempt_ns < 0:
                callback.first_attempt_ns = begin_ns
        try:
            reason = await self._post(session, url, delivery)
        finally:
            self.in_flight -= 1
            self._wake.set()
        self._settle(delivery, begin_ns, reason)

    async def _post(self, session: aiohttp.ClientSession, url: str, delivery: Delivery) -> str:
        """Post one body; the answer is empty for a 200, otherwise why it does not count."""
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(
                url, data=_body(delivery), headers=headers, allow_redirects=False
            ) as response:
                await response.read()
                return "" if response.status == 200 else str(response.status)
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientError:
            return "connection"

    def _settle(self, delivery: Delivery, begin_ns: int, reason: str) -> None:
        now_ns = self._clock.now_ns()
        delivery.attempts += 1
        array = delivery.callbacks[0].array
        label = "inbound_message" if array == "messages" else "status_change"
        self.results[reason or "success", label] += 1
        self.duration_ms += (now_ns - begin_ns) / 1e6
        if reason:
            self._journal.bad_attempts.append(BadAttempt(begin_ns, now_ns, reason))
            self.queue.put_back(delivery, now_ns)
            return
        for callback in delivery.callbacks:
            if callback.acked_ns < 0:
                callback.acked_ns = now_ns
                callback.ack_latency_ns = now_ns - begin_ns
        if not delivery.is_duplicate and self._faults.duplicate_ratio > self._rng.random():
            self._journal.duplicates_made += len(delivery.callbacks)
            self.queue.repeat(delivery, now_ns)


def _body(delivery: Delivery) -> bytes:
    """The arrays of one callback: `contacts` beside the messages that have one."""
    contacts = [callback.contact for callback in delivery.callbacks if callback.contact]
    body = {"contacts": contacts} if contacts else {}
    body[delivery.callbacks[0].array] = [callback.item for callback in delivery.callbacks]
    return orjson.dumps(body)

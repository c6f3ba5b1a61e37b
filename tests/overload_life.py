"""One process of a run: the inbound side as the gateway builds it, on a store that is gone from one moment to the next."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

from builders import Disk, MemoryStore
from overload_plan import Plan, Restart
from overload_story import Look, Story, read_body
from virtual_time import virtual_loop

from gateway.app.inbound_parts import InboundParts
from gateway.inbound.destination import Backend
from gateway.ops.memory import MemoryGauge
from gateway.store.books import Books
from gateway.store.protocol import Change

DRAIN_S: Final = 2.0


class RecordingDisk(Disk):
    """A disk that says what was to be forwarded, and what was parked."""

    def __init__(self, story: Story) -> None:
        super().__init__()
        self._story = story

    def write(self, change: Change, now_ms: int) -> None:
        super().write(change, now_ms)
        for record in change.inbound:
            for key in read_body(json.loads(record.body))[0]:
                self._story.stored.setdefault(key, (record.seq, record.received_ms))
        for parked in change.parked:
            keys = read_body(json.loads(parked.record.body))[0]
            self._story.parked.update(keys)
            self._story.parked_records.append(keys)


class MortalStore(MemoryStore):
    """A store whose commits take time, and that is gone from one moment to the next."""

    def __init__(self, disk: Disk, delay_s: Callable[[], float], used_bytes: Callable[[], int]) -> None:
        super().__init__(virtual_loop(), disk, holds_commits=True)
        self._delay_s = delay_s
        self._used = used_bytes
        self._is_dead = False

    def put(self, change: Change, *, can_wait: bool = False) -> None:
        if not self._is_dead:
            super().put(change, can_wait=can_wait)

    def gather(self, make: Callable[[], Change], *, can_wait: bool = False) -> None:
        if not self._is_dead:
            super().gather(make, can_wait=can_wait)

    def _plan_commit(self) -> None:
        loop, delay_s = asyncio.get_running_loop(), self._delay_s()
        if delay_s:
            loop.call_later(delay_s, self.commit)
        else:
            loop.call_soon(self.commit)

    def commit(self) -> None:
        if not self._is_dead:
            super().commit()

    def used_bytes(self) -> int:
        return self._used()

    def kill(self, *, is_written: bool) -> None:
        """The process is gone: what was submitted is on disk or not, and nobody is told."""
        self._make()
        for change in self._submitted if is_written else ():
            self.disk.write(change, self._clock.wall_ms())
        self._submitted = []
        self._is_dead = True


class Surroundings(Protocol):
    """What a process finds."""

    message_backend: Backend
    event_backend: Backend

    def commit_s(self) -> float:
        """How long a commit takes now."""

    def used_bytes(self) -> int:
        """How full the disk is now."""


class Life:
    """One process on the disk."""

    def __init__(self, plan: Plan, story: Story, disk: Disk, number: int, surroundings: Surroundings) -> None:
        clock = virtual_loop()
        self._story = story
        self._number = number
        self.store = MortalStore(disk, surroundings.commit_s, surroundings.used_bytes)
        self.books = Books(self.store.recovered.books)
        self.parts = InboundParts(
            plan.settings,
            self.store,
            self.books,
            clock,
            random.Random(f"{plan.seed}/life/{number}"),
            surroundings.message_backend,
            surroundings.event_backend,
        )
        self.parts._memory = MemoryGauge(Path("/nonexistent"))
        self.receiver = self.parts.open_door(lambda *_: None, lambda *_: None)
        self.parts.monitor.on_look = self._looked
        self.store.on_committed = self._assert_books
        self._requests: list[asyncio.Task[Any]] = []
        self._workers = [asyncio.create_task(forwarder.work()) for forwarder in self.parts.forwarders]
        work: list[Coroutine[Any, Any, None]] = [
            self.parts.messages.refill(),
            self.parts.events.refill(),
            self.parts.monitor.work(),
        ]
        self._others = [asyncio.create_task(one) for one in work]
        self.is_open = True

    async def receive(self, body: bytes) -> int | None:
        """The answer to a webhook; None when there is none."""
        if not self.is_open:
            return None
        request = asyncio.create_task(self.receiver.receive(body))
        self._requests = [task for task in self._requests if not task.done()] + [request]
        await asyncio.wait([request])
        return None if request.cancelled() else request.result().status

    def waiting(self) -> int:
        return self.parts.messages.total() + self.parts.events.total()

    async def end(self, restart: Restart) -> None:
        """As the plan says, in the middle of things."""
        for _ in range(restart.turns):
            await asyncio.sleep(0)
        if restart.is_graceful:
            await self.drain()
        else:
            self.store.kill(is_written=restart.is_written)
            await self._cancel()
        self.count()

    async def drain(self) -> None:
        self.is_open = False
        if self._requests:
            await asyncio.wait(self._requests)
        for forwarder in self.parts.forwarders:
            forwarder.drain()
        await asyncio.wait(self._workers, timeout=DRAIN_S)
        await self.store.close()
        await self._cancel()

    async def _cancel(self) -> None:
        self.is_open = False
        tasks = [*self._workers, *self._others, *self._requests]
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                self._story.problems.append(f"a task of process {self._number} failed: {ended!r}")

    def count(self) -> None:
        story = self._story
        for (cls, reason), count in self.parts.gatekeeper.dropped.items():
            story.dropped[None if cls is None else cls.label, reason.value] += count
        story.would_have.update(self.parts.would_have())
        story.duplicates += sum(self.receiver.duplicates.values())

    def _looked(self, figure: float, now_ns: int) -> None:
        rung = self.parts.gatekeeper.ladder.rung
        self._story.looks.append(Look(self._number, now_ns, figure, rung))
        self._assert_books()

    def _assert_books(self) -> None:
        waiting = Counter(self.parts.messages.waiting())
        waiting.update(self.parts.events.waiting())
        if self.books.difference(waiting):
            self._story.problems.append(f"the books are off at {virtual_loop().now_ns()} ns")

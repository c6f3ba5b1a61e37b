"""One process of a run: the gateway as it is started for real, but for its sockets, its store's thread and its alarm."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web
from virtual_time import virtual_loop
from whole_edges import BackendHttp, Node, NodeHttp, VirtualStore, World
from whole_story import LifeStory

from gateway.app.lifecycle import Gateway
from gateway.app.parts import Parts
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.store.protocol import Sync

T = TypeVar("T")

ANSWERS_OUT_S = 2.0


class Surroundings(World, Protocol):
    """What a process finds."""

    node: Node
    directory: Path


class _Gateway(Gateway):
    """Without listeners: who calls it, calls its parts."""

    async def _bind(self, admin: web.AppRunner) -> None:
        pass


class Life:
    """From a start to an end. Its `run` is what systemd sees."""

    def __init__(self, world: Surroundings, number: int) -> None:
        self._world = world
        self.story = LifeStory(number, virtual_loop().now_ns())
        world.story.lives.append(self.story)
        self.store: VirtualStore | None = None
        rng = random.Random(f"{world.plan.seed}/life/{number}")
        self.gateway = _Gateway(world.plan.settings, virtual_loop(), rng)
        self._requests: dict[asyncio.Task[Any], None] = {}
        """In order, so that a seed plays the same run each time."""
        self.run: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Apart from making it, so that what it opens finds it."""
        self._world.story.say(f"-- process {self.story.number} starts")
        self.run = asyncio.create_task(self.gateway.run())

    # -- what its parts are made of

    def open_store(
        self,
        directory: Path,
        clock: Clock,
        on_failure: Callable[[StoreError], None],
        *,
        recent_ms: int = 0,
        sync: Sync = Sync.FULL,
    ) -> VirtualStore:
        assert sync is Sync.FULL
        self.store = VirtualStore(self._world, directory, clock, on_failure, recent_ms)
        self.store.thread.on_stored = self._committed
        return self.store

    def node_http(self, timeout_ms: int) -> NodeHttp:
        return NodeHttp(self._world, self._world.node, self.story, timeout_ms)

    def backend_http(self, timeout_ms: int) -> BackendHttp:
        return BackendHttp(self._world, self.story, timeout_ms)

    # -- seen from outside

    @property
    def parts(self) -> Parts:
        return self.gateway.parts

    @property
    def has_parts(self) -> bool:
        """Whether it came as far as being built."""
        return hasattr(self.gateway, "parts")

    @property
    def is_open(self) -> bool:
        """Whether its doors are."""
        is_running = self.run is not None and not self.run.done() and self.story.ended_ns is None
        return is_running and self.gateway._is_ready.is_set() and not self.gateway._stop.is_set()

    async def request(self, call: Callable[[Parts], Awaitable[T]]) -> T | None:
        """A request of somebody; None: the process went away before it answered, or is not there."""
        if not self.is_open:
            return None

        async def answered() -> T:
            return await call(self.parts)

        task = asyncio.create_task(answered())
        self._requests[task] = None
        task.add_done_callback(self._requests.pop)
        await asyncio.wait([task])
        if task.cancelled():
            return None
        return task.result()

    def waiting(self) -> int:
        """What has not ended."""
        return sum(queue.backlog.total() for queue in self.parts.queues) + self.parts.receiver.pending

    # -- its end

    async def ended(self) -> None:
        """Wait until it has ended, in whatever way, and let go of all that is left of it."""
        assert self.run is not None
        await asyncio.wait([self.run])
        if self._requests and self.story.how != "kill":
            await asyncio.wait(self._requests, timeout=ANSWERS_OUT_S)
        if self.store is not None:
            self.store.let_go()
        for request in list(self._requests):
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        if self.story.ended_ns is None:
            self.story.ended_ns = virtual_loop().now_ns()
        if not self.run.cancelled() and (error := self.run.exception()) is not None:
            self._world.story.complain(f"process {self.story.number} failed: {_causes(error)}")
        if self.has_parts:
            self._count()
        self._world.story.say(f"-- process {self.story.number} has ended: {self.story.how or 'by itself'}")

    def kill(self, *, is_written: bool) -> None:
        """Gone from one moment to the next."""
        assert self.run is not None
        self.story.ended_ns = virtual_loop().now_ns()
        self.story.how = "kill"
        if self.store is not None:
            self.store.kill(is_written=is_written)
        for task in (self.run, *self._requests):
            task.cancel()

    def _count(self) -> None:
        for (_, reason), count in self.parts.inbound.gatekeeper.dropped.items():
            self.story.dropped[reason.value] = self.story.dropped.get(reason.value, 0) + count

    # -- at every moment

    def _committed(self) -> None:
        self.story.commits_ns.append(virtual_loop().now_ns())
        self.check_books()

    def check_books(self) -> None:
        """What was accepted is what has ended and what waits."""
        if not self.has_parts:
            return
        waiting: Counter[Any] = Counter()
        for queue in self.parts.queues:
            waiting.update(queue.backlog.waiting())
        if difference := self.parts.books.difference(waiting):
            self._world.story.complain(f"the books of process {self.story.number} are off by {difference}")


def _causes(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_causes(one) for one in error.exceptions)
    found = error.__traceback__
    while found is not None and found.tb_next is not None:
        found = found.tb_next
    place = f" at {Path(found.tb_frame.f_code.co_filename).name}:{found.tb_lineno}" if found else ""
    return f"{error!r}{place}"

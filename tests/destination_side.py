"""One destination of the backend in virtual time: backlog, forwarder and workers beside a backend that takes notes."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from builders import AskedBackend, MemoryStore, inbound, inbound_backlog
from virtual_time import virtual_loop

from gateway._fast.breaker import Breaker
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.events import InboundRecord
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Singles
from gateway.inbound.rate import BackendRate
from gateway.store.books import Books
from gateway.store.protocol import Change

OK = BackendAnswer(200)
DEAD = BackendAnswer(None, error="timed out")
WORK_S = 0.05

Answer = Callable[[bytes], Coroutine[Any, Any, BackendAnswer]]


class TimedBackend(AskedBackend):
    """Answers as it is told, and knows when each request came and when each body arrived."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.under_way = 0
        self.under_way_max = 0
        self.came_ns: list[int] = []
        self.arrived_ns: dict[bytes, int] = {}
        self.headers: dict[bytes, list[Mapping[str, str]]] = {}

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        self.came_ns.append(virtual_loop().now_ns())
        self.headers.setdefault(body, []).append(headers)
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        answer = await self._answer(body)
        self.under_way -= 1
        if answer.status == 200:
            self.arrived_ns[body] = virtual_loop().now_ns()
        return answer


async def well(_body: bytes) -> BackendAnswer:
    await asyncio.sleep(WORK_S)
    return OK


async def dead(_body: bytes) -> BackendAnswer:
    await asyncio.sleep(10)
    return DEAD


class Side:
    """One destination: backlog, forwarder, workers."""

    def __init__(
        self,
        answer: Answer,
        highest: int = 64,
        rate: BackendRate | None = None,
        yields_to: Callable[[int], bool] = lambda _: False,
        *,
        is_dry_run: bool = False,
        has_lanes: bool = False,
        picks: type[Singles] = Singles,
    ) -> None:
        clock = virtual_loop()
        self.backend = TimedBackend(answer)
        self.store = MemoryStore(clock)
        self.queue = inbound_backlog(self.store, clock, slots=8_192, aside_max=8_192, has_lanes=has_lanes)
        self.gate = Gate(
            Breaker(500, 5_000, random.Random(2)),
            ConcurrencyLimit(highest),
            clock,
            rate,
            yields_to,
            is_dry_run=is_dry_run,
        )
        self.picks = picks(self.queue, self.gate, LeastWait(), clock)
        self.forwarder = Forwarder(
            "one",
            self.backend,
            self.queue,
            self.gate,
            self.picks,
            500,
            30_000,
            self.store,
            Books(),
            clock,
            random.Random(1),
        )
        self._workers = [asyncio.create_task(self.forwarder.work())]
        self._refill = asyncio.create_task(self.queue.refill())

    async def accept(self, records: Iterable[InboundRecord], *, has_failed: bool = False) -> None:
        """Push records; `has_failed`: as retries that are due."""
        change = Change(inbound=list(records))
        starter = self.queue.starter
        if has_failed:
            change.on_commit.append(lambda: setattr(self.queue, "starter", None))
        change.on_commit += [lambda record=record: self.queue.push(record) for record in change.inbound]  # type: ignore[misc]
        if has_failed:
            change.on_commit += [self._fail_all, lambda: setattr(self.queue, "starter", starter)]
        await self.store.submit(change)

    def _fail_all(self) -> None:
        while (record := self.queue.take()) is not None:
            record.attempts = 1
            self.queue.defer(record, virtual_loop().now_ns() + 1)

    async def empty(self) -> None:
        """Wait until nothing waits; the virtual loop fails the test when that never comes."""
        while self.queue.total():
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.forwarder.drain()
        await asyncio.gather(*self._workers)
        self._refill.cancel()


def records(count: int, first: int = 1) -> list[InboundRecord]:
    now_ms = virtual_loop().wall_ms()
    return [inbound(seq, body=b"%d" % seq, received_ms=now_ms) for seq in range(first, first + count)]

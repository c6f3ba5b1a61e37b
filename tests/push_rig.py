"""The push API on a store in memory, with the front of the queue and the ends of sends, and no node."""

import asyncio
import json
from typing import Any, Final

from builders import Disk, MemoryStore, push_body, send_backlog

from gateway._fast.ring import EVERY_CLASS
from gateway.clock import FakeClock
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.events import Kind, Outcome, SendClass, SendRecord
from gateway.outbound.accept import Acceptor, Bounds
from gateway.outbound.answers import PushAnswer, Refusals
from gateway.outbound.batches import Batches
from gateway.outbound.changes import Changes
from gateway.outbound.door import Door
from gateway.outbound.endings import Endings
from gateway.outbound.expiry import Expiry
from gateway.outbound.front import Front
from gateway.outbound.idempotency import Keys
from gateway.outbound.node_answers import NodeAnswers
from gateway.outbound.options import PRIORITY
from gateway.outbound.push import Pushes
from gateway.outbound.queries import Queries
from gateway.outbound.schedule import Schedule
from gateway.outbound.settle import Settler
from gateway.outbound.waits import Waits
from gateway.outbound.withdrawals import Withdrawals
from gateway.store.books import Books

STORE_MAX: Final = 1_000_000
AGE_MS: Final = 24 * 3600 * 1000


class PushRig:
    """All of the push API, and what stands between it and the node."""

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        queue_max: int = 10,
        tokens: tuple[str, ...] = ("one", "two"),
        holds_commits: bool = False,
        slots: int = 64,
        sends_per_s: float = 1.0,
        ttl_ms: int = 0,
        wait_max_ms: int = 0,
        wait_ms: int = 0,
        disk: Disk | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock = clock or FakeClock()
        self.dialect = dialect or OnPrem()
        self.store = store = MemoryStore(clock, disk, holds_commits=holds_commits)
        self.queue = send_backlog(store, clock, slots)
        for cls, count in store.recovered.send_counts.items():
            self.queue.restore(cls, count, {Kind.SEND: count})
        for cls, count in store.recovered.scheduled_counts.items():
            self.queue.restore_scheduled(cls, count)
        self.queue.first_new_seq = store.recovered.next_seq
        self.books = Books(store.recovered.books)
        self.refusals = Refusals(self.dialect)
        self.door = Door(tokens, self.refusals)
        self.rate = sends_per_s
        self.waits = Waits(self.queue, lambda: self.rate)
        bounds = Bounds(
            store_max_bytes=STORE_MAX, queue_max=queue_max, ttl_ms=ttl_ms, wait_max_ms=wait_max_ms
        )
        self.acceptor = Acceptor(
            store, self.queue, bounds, self.dialect, self.books, clock, self.refusals, self.waits
        )
        self.keys = Keys(store, AGE_MS, clock)
        self.node_answers = NodeAnswers(self.dialect)
        self.pushes = Pushes(
            self.acceptor, self.keys, self.node_answers, store, self.dialect, clock, self.refusals,
            wait_ms=wait_ms,
        )  # fmt: skip
        self.batches = Batches(self.acceptor, self.keys, clock, self.refusals)
        self.queries = Queries(store, self.refusals)
        self.settler = Settler(store, self.queue, self.books, clock)
        self.settler.on_settled = self.node_answers.ended
        self.endings = Endings(store, self.queue, self.settler, clock)
        self.front = Front(self.queue)
        self.front.has_expired = self.endings.has_expired
        self.front.expire = self.endings.expire
        changing = asyncio.Lock()
        self.withdrawals = Withdrawals(self.queue, clock)
        self.withdrawals.release = self.front.release
        self.withdrawals.forget = self.front.forget
        self.changes = Changes(
            store, self.queue, self.endings, self.queries, self.refusals, self.withdrawals, changing
        )
        self.expiry = Expiry(store, self.queue, self.withdrawals, self.endings, clock, changing)
        self.schedule = Schedule(store, self.queue, clock, changing)

    async def push(
        self, body: bytes | None = None, priority: str | None = None, **headers: str
    ) -> PushAnswer:
        """Push one send; headers by their name with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if priority is not None:
            named[PRIORITY] = priority
        return await self.pushes.accept(push_body() if body is None else body, named)

    async def pushed(self, priority: str | None = None, to: str | None = None, **headers: str) -> str:
        """Push one that is taken; its id."""
        answer = await self.push(None if to is None else push_body(to), priority, **headers)
        assert answer.status == 202, answer.body
        send_id: str = json.loads(answer.body)["messages"][0]["id"]
        return send_id

    async def batch(self, *messages: Any, **headers: str) -> PushAnswer:
        """Push a batch of message objects."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.batches.accept(json.dumps({"messages": messages}).encode(), named)

    async def state(self, send_id: str) -> str:
        """What is told of a send."""
        answer = await self.queries.find(send_id)
        assert answer.status == 200, answer.body
        state: str = json.loads(answer.body)["state"]
        return state

    def next(self) -> SendRecord | None:
        """What the front lets go now; it is at the node then."""
        now_ns = self.clock.now_ns()
        ready = self.front.look(EVERY_CLASS, now_ns).ready
        for cls in SendClass:
            if ready >> cls & 1:
                return self.front.take(cls, now_ns)
        return None

    async def answered(self, record: SendRecord, node_id: str = "wa1") -> None:
        """The node takes a send."""
        record.attempts += 1
        self.front.named(record, node_id, self.clock.now_ns())
        await self.settler.settle(record, Outcome.DELIVERED, node_id)

    def difference(self) -> int:
        """How far the books are from the queue's own count."""
        return self.books.difference(self.queue.waiting())


def error_of(answer: PushAnswer, dialect: Dialect) -> tuple[int, int, str]:
    """HTTP status, code and details of a refusal, read from the dialect's own shape."""
    parsed: dict[str, Any] = json.loads(answer.body)
    if dialect.name == "cloud":
        error = parsed["error"]
        return answer.status, error["code"], error["error_data"]["details"]
    (error,) = parsed["errors"]
    return answer.status, error["code"], error["details"]

"""A sender on a store in memory, with a node that answers from a script. Time passes only in `pass_ms`."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from builders import Disk, FakeAlarm, MemoryStore, send, send_backlog, turns

from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.ratios import Ratios
from gateway.clock import NS_PER_MS, FakeClock
from gateway.dialects.dialect import Answer
from gateway.errors import NodeError
from gateway.events import Kind, OnUncertain, Outcome, SendClass, SendRecord
from gateway.outbound.front import Front
from gateway.outbound.pace import Pacer
from gateway.outbound.send import Sender
from gateway.outbound.settle import Settler
from gateway.outbound.unnamed import Unnamed
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change

SENT = Answer(201, message_id="gBGG1")
TROUBLE = Answer(500, code=1014, title="Internal error")
LOGIN = Answer(401, code=1005)
CONTACT_MISSING = Answer(404, code=1006)
BUSY = Answer(429, code=1015)
SPAM = Answer(400, code=471)
REFUSED = Answer(400, code=1013, title="User is not valid")
AWAY = NodeError("connection refused", was_sent=False)
SILENT = NodeError("timed out", was_sent=True)
ATTEMPTS_MAX = 3


class FakeNode:
    """Answers from a script, then with success; remembers what it was asked."""

    def __init__(self, *script: Answer | NodeError) -> None:
        self.script = deque(script)
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.login_error: NodeError | None = None
        self.has_token = True
        self.on_send: Callable[[bytes], None] = lambda _body: None

    async def send(self, body: bytes) -> Answer:
        self.calls.append("send")
        self.bodies.append(body)
        self.on_send(body)
        await asyncio.sleep(0)
        answer = self.script.popleft() if self.script else SENT
        if isinstance(answer, NodeError):
            raise answer
        return answer

    async def login(self) -> None:
        self.calls.append("login")
        if self.login_error is not None:
            raise self.login_error
        self.has_token = True

    async def check_contact(self, to: str) -> None:
        self.calls.append(f"contact {to}")


class Unlimited:
    """A budget that grants everything, and counts."""

    def __init__(self) -> None:
        self.granted = 0
        self.slowed = 0
        self.successes = 0

    def try_send(self, now_ns: int) -> int:
        self.granted += 1
        return now_ns

    def slow_down(self, now_ns: int) -> None:
        self.slowed += 1

    def succeeded(self, now_ns: int) -> None:
        self.successes += 1


class SendRig:
    """A sender on a store in memory; time passes only in `pass_ms`."""

    def __init__(
        self, *script: Answer | NodeError, attempts_max: int = ATTEMPTS_MAX, disk: Disk | None = None
    ) -> None:
        """`disk` is what a gateway before this one has left."""
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock, disk)
        self.queue = send_backlog(self.store, self.clock)
        self.queue.first_new_seq = self.store.recovered.next_seq
        for cls, count in self.store.recovered.send_counts.items():
            self.queue.restore(cls, count, {Kind.SEND: count})
        self.alarm = FakeAlarm(self.clock)
        self.budget = Unlimited()
        self.fanout = FanOut(10)
        self.sizes = GroupSizes(Ratios(), asks=False)
        front = Front(self.queue, self.fanout, self.sizes)
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock, front)
        self.fanout.on_room = self.pacer.ring
        self.node = FakeNode(*script)
        self.books = Books(self.store.recovered.books)
        self.settler = Settler(self.store, self.queue, self.books, self.clock)
        self.unnamed = Unnamed(self.store.next_seq, bytes(16))
        self.sender = Sender(
            self.node,
            self.pacer,
            self.queue,
            attempts_max,
            self.store,
            self.settler,
            self.unnamed,
            self.clock,
            random.Random(1),
        )
        self._seq = 0

    async def accept(
        self,
        cls: SendClass = SendClass.NORMAL,
        *,
        is_group: bool = False,
        on_uncertain: OnUncertain = OnUncertain.RESEND,
    ) -> SendRecord:
        self._seq += 1
        record = send(self._seq, cls, body=b"%d" % self._seq, is_group=is_group)
        record.on_uncertain = on_uncertain
        entries = accepted_entries([(Kind.SEND, 1)])

        def on_commit() -> None:
            self.books.apply(entries)
            self.queue.push(record)

        await self.store.submit(Change(sends=[record], books=entries, on_commit=[on_commit]))
        return record

    @asynccontextmanager
    async def working(self, workers: int = 1) -> AsyncIterator[None]:
        refill = asyncio.create_task(self.queue.refill())
        tasks = [asyncio.create_task(self.sender.work()) for _ in range(workers)]
        await turns(20)
        yield
        self.pacer.drain()
        await asyncio.gather(*tasks)
        refill.cancel()
        assert self.sender.under_way == 0
        assert self.books.difference(self.queue.waiting()) == 0

    async def pass_ms(self, ms: int) -> None:
        self.clock.advance_ns(ms * NS_PER_MS)
        self.alarm.ring()
        self.queue.wake_all()
        await turns(20)

    def outcome(self, record: SendRecord) -> Outcome | None:
        """How a send ended, by the store; None while it waits there."""
        end = self.store.disk.sent.get(record.seq)
        assert (end is None) == (record.seq in self.store.disk.sends)
        return None if end is None else end.outcome

"""Pacers on a queue in memory, with a budget and an alarm that do as the test says."""

import asyncio

from builders import FakeAlarm, MemoryStore, send, send_backlog, turns

from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.clock import NS_PER_S, FakeClock
from gateway.events import SendClass, SendRecord
from gateway.outbound.front import Front, Look
from gateway.outbound.pace import Pacer


class FakeBudget:
    """Grants one send each `interval_ns`."""

    def __init__(self, interval_ns: int = 0) -> None:
        self.interval_ns = interval_ns
        self.next_ns = 0
        self.granted = 0
        self.slowed = 0
        self.successes = 0

    def try_send(self, now_ns: int) -> int:
        if now_ns < self.next_ns:
            return self.next_ns
        self.granted += 1
        self.next_ns = now_ns + self.interval_ns
        return now_ns

    def slow_down(self, now_ns: int) -> None:
        self.slowed += 1

    def succeeded(self, now_ns: int) -> None:
        self.successes += 1


class Rig:
    """A pacer whose time stands still until the alarm is reached."""

    def __init__(self, interval_ns: int = 0) -> None:
        self.clock = FakeClock()
        self.queue = send_backlog(MemoryStore(self.clock), self.clock)
        self.budget = FakeBudget(interval_ns)
        self.alarm = FakeAlarm(self.clock)
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock)
        self._seq = 0

    def push(self, *classes: SendClass) -> None:
        for cls in classes:
            self._seq += 1
            self.queue.push(send(self._seq, cls, f"4915550{self._seq}"))

    def ask(self) -> "asyncio.Task[SendRecord | None]":
        return asyncio.create_task(self.pacer.next())

    async def next_class(self) -> SendClass:
        record = await self.pacer.next()
        assert record is not None
        return record.cls


TPS = 10
SMALL, LARGE = 40, 256
"""Members: receipts of two small groups don't fit into 5 s of the plan, those of a large one alone don't."""


class GroupRig(Rig):
    """A pacer with the fan-out window, groups of any size, and a count of its wake-ups."""

    def __init__(self, interval_ns: int = 0, *, asks: bool = False, aside_max: int = 2048) -> None:
        super().__init__(interval_ns)
        self.queue = send_backlog(MemoryStore(self.clock), self.clock, slots=2048, aside_max=aside_max)
        self.fanout = FanOut(TPS)
        self.sizes = GroupSizes(Ratios(), asks=asks)
        self.sizes.ratios.delivered_ratio = 1.0
        self.front = Front(self.queue, self.fanout, self.sizes)
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock, self.front)
        self.fanout.on_room = self.pacer.ring
        self.looks = 0
        look = self.front.look

        def counted(allowed: int, now_ns: int, *, prefers_fresh: bool = False) -> Look:
            self.looks += 1
            return look(allowed, now_ns, prefers_fresh=prefers_fresh)

        self.front.look = counted  # type: ignore[method-assign]

    def push_group(self, cls: SendClass = SendClass.NORMAL, members: int = SMALL, name: str = "") -> int:
        self._seq += 1
        group_id = name or f"group {self._seq}"
        self.sizes.told(group_id, members, self.clock.now_ns())
        self.queue.push(send(self._seq, cls, group_id, is_group=True))
        return self._seq

    async def next_seq(self) -> int:
        record = await asyncio.wait_for(self.pacer.next(), 1)
        assert record is not None
        return record.seq

    async def send_group(self, cls: SendClass = SendClass.NORMAL, members: int = SMALL) -> SendRecord:
        """Let a group send go, which the node calls by its number."""
        seq = self.push_group(cls, members)
        record = await self.pacer.next()
        assert record is not None
        assert record.seq == seq
        self.front.named(record, str(seq), self.clock.now_ns())
        return record

    def arrive(self, record: SendRecord, count: int, first: int = 0) -> None:
        for at in range(first, first + count):
            self.fanout.arrived(str(record.seq), f"member {at}", self.clock.now_ns())

    async def asks_in_vain(self) -> "asyncio.Task[SendRecord | None]":
        asking = self.ask()
        await turns()
        assert not asking.done()
        return asking


class PairRig(Rig):
    """A pacer with a pair limit: 2 at once, then one in 6 s."""

    def __init__(self, interval_ns: int = 0) -> None:
        super().__init__(interval_ns)
        self.front = Front(self.queue, pairs=PairLimit(6 * NS_PER_S, 2))
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock, self.front)

    def push_to(self, *recipients: str) -> None:
        for to in recipients:
            self._seq += 1
            self.queue.push(send(self._seq, SendClass.NORMAL, to))

    async def granted(self, count: int) -> list[int]:
        """So many are granted, and the node answers each at once."""
        granted = []
        for _ in range(count):
            record = await self.pacer.next()
            assert record is not None
            self.answer(record)
            granted.append(record.seq)
        return granted

    def answer(self, record: SendRecord) -> None:
        """The node takes a send: its recipient may get the next one."""
        self.front.named(record, str(record.seq), self.clock.now_ns())

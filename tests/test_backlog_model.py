"""The backlog beside a plain model: whatever happens in whatever order, the same comes out and the same waits."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from builders import WALL_MS, Disk, MemoryStore, inbound, inbound_backlog, turns
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model.backlog import BacklogModel
from test_backlog import pushed

from gateway._fast.ring import EVERY_CLASS
from gateway.clock import FakeClock
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.store.backlog import Backlog
from gateway.store.protocol import Change

Queue = Backlog[InboundRecord]
MESSAGE, FAILURE, RECEIPT = InboundClass

_CLASSES = st.sampled_from([MESSAGE, MESSAGE, MESSAGE, FAILURE, RECEIPT])
_KINDS = st.lists(st.sampled_from([kind for kind in Kind if kind is not Kind.SEND]), min_size=1, max_size=3)
_WHICH = st.integers(0, 1000)


class BacklogBesideModel(RuleBasedStateMachine):
    """The queue on a store of plain dicts; refills run to their end after each step, or are held up."""

    @initialize(
        slots=st.integers(2, 5),
        aside_max=st.integers(1, 4),
        memory_max_bytes=st.sampled_from([1, 100, 500, 10**6]),
        restored=st.lists(_CLASSES, max_size=8),
    )
    def start(self, slots: int, aside_max: int, memory_max_bytes: int, restored: list[InboundClass]) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        disk = Disk()
        self.model = BacklogModel(len(InboundClass), aside_max, memory_max_bytes)
        for at, cls in enumerate(restored):
            record = inbound(at + 1, cls, [Kind.MESSAGE] * (at % 3 + 1))
            disk.write(Change(inbound=[record]), WALL_MS)
            self.model.push(record)
        self.store = MemoryStore(self.clock, disk)
        self.queue = inbound_backlog(self.store, self.clock, slots, aside_max)
        self.queue.memory.bytes_max = memory_max_bytes
        for cls in InboundClass:
            recovered = self.store.recovered
            self.queue.restore(cls, recovered.inbound_counts[cls], recovered.inbound_kinds[cls])
        self.refill = self.loop.create_task(self.queue.refill())
        self.settle_down()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.refill.cancel()
            self.loop.run_until_complete(asyncio.gather(self.refill, return_exceptions=True))
            self.loop.close()

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run_until_complete(work())

    def settle_down(self) -> None:
        """Let refills run to their end."""
        for _ in range(50):
            self.run(lambda: turns(2))
            if self.refill.done():
                self.refill.result()
            if not any(self.queue._wants_refill(cls) for cls in InboundClass):
                return
        pytest.fail("a class wants its page, and nobody reads it")

    @rule(cls=_CLASSES, kinds=_KINDS, count=st.integers(1, 8), body_bytes=st.integers(1, 200))
    def records_arrive(self, cls: InboundClass, kinds: list[Kind], count: int, body_bytes: int) -> None:
        async def push_all() -> None:
            for _ in range(count):
                record = inbound(self.store.next_seq(), cls, kinds, bytes(body_bytes))
                self.model.push(record)
                await pushed(self.store, self.queue, record)

        self.run(push_all)
        self.settle_down()

    @rule(
        allowed=st.sampled_from([EVERY_CLASS, EVERY_CLASS, 0b001, 0b010, 0b110, 0b101, 0]),
        count=st.integers(1, 6),
    )
    def records_are_taken(self, allowed: int, count: int) -> None:
        for _ in range(count):
            expected = self.model.next(allowed, self.clock.now_ns())
            assert self.queue.has_ready(allowed) == (expected is not None)
            record = self.queue.take(allowed)
            assert record is None or expected is not None
            assert (record and record.seq) == (expected and expected.seq)
            if record is not None:
                self.model.take(record)
            self.settle_down()

    @rule(allowed=st.sampled_from([EVERY_CLASS, 0b001, 0b110]), count=st.integers(1, 4))
    def records_that_were_never_tried_are_taken(self, allowed: int, count: int) -> None:
        for _ in range(count):
            expected = self.model.next_fresh(allowed)
            assert self.queue.has_fresh(allowed) == (expected is not None)
            record = self.queue.take(allowed, only_fresh=True)
            assert (record and record.seq) == (expected and expected.seq)
            if record is not None:
                assert not self.queue.took_delayed
                self.model.take(record)
            self.settle_down()

    @rule(allowed=st.sampled_from([EVERY_CLASS, 0b010]))
    def records_are_taken_before_pages_are_read(self, allowed: int) -> None:
        """Of each class in order; which class is first depends on what memory holds."""
        taken = []
        while (record := self.queue.take(allowed)) is not None:
            taken.append(record)
            if len(taken) > 4:
                break
        for record in taken:
            fresh = self.model.fresh[record.cls]
            is_delayed = any(other.seq == record.seq for _, other in self.model.delayed[record.cls])
            assert is_delayed or record.seq == fresh[0].seq
            self.model.take(record)
        self.settle_down()

    @precondition(lambda self: self.model.taken)
    @rule(which=_WHICH, delay_ns=st.integers(0, 50))
    def a_record_is_deferred(self, which: int, delay_ns: int) -> None:
        record = self.model.taken[which % len(self.model.taken)]
        self.queue.defer(record, self.clock.now_ns() + delay_ns)
        self.model.defer(record, self.clock.now_ns() + delay_ns)

    @precondition(lambda self: self.model.taken)
    @rule(which=_WHICH)
    def a_record_is_settled(self, which: int) -> None:
        record = self.model.taken[which % len(self.model.taken)]
        self.run(lambda: self._settle(record))

    async def _settle(self, record: InboundRecord) -> None:
        await self.store.submit(
            Change(inbound_done=[record], on_commit=[lambda: self.queue.settle(record)]),
        )
        self.model.settle(record)

    @precondition(lambda self: len(self.model.records()) > len(self.model.taken))
    @rule(which=_WHICH, new=st.sampled_from(InboundClass))
    def a_waiting_record_is_given_another_class(self, which: int, new: InboundClass) -> None:
        """Wherever it waits; pages are read while it is between the classes."""
        taken = {record.seq for record in self.model.taken}
        waiting = sorted(
            (record for record in self.model.records() if record.seq not in taken), key=lambda r: r.seq
        )
        record = waiting[which % len(waiting)]
        if record.cls is new or not bool(self.queue.moves.room(new)):
            return
        self.queue.moves.withdraw(record.seq, record.cls)
        self.settle_down()
        moved = msgspec.structs.replace(record, cls=new)
        self.store.disk.inbound[record.seq] = moved
        self.queue.moves.reinstate(moved)
        self.model.move(record, moved, self.clock.now_ns())
        self.settle_down()

    @rule(delta_ns=st.integers(1, 40))
    def time_passes(self, delta_ns: int) -> None:
        self.clock.advance_ns(delta_ns)

    @invariant()
    def the_same_waits(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue, model = self.queue, self.model
        assert {kind: count for kind, count in queue.waiting().items() if count} == model.waiting()
        assert queue.total() == len(model.records()) == len(self.store.disk.inbound)
        assert queue.taken() == len(model.taken)
        assert queue.delayed() == sum(len(delayed) for delayed in model.delayed)
        in_memory = [*model.taken, *(record for delayed in model.delayed for _, record in delayed)]
        aside = Counter(record.cls for record in in_memory)
        for cls in InboundClass:
            has_room = aside[cls] < model.aside_max and queue.memory_bytes < queue.memory.bytes_max
            assert bool(queue.moves.room(cls)) == has_room
            assert queue.depth(cls) + queue.on_disk(cls) == len(model.fresh[cls])
            assert queue.depth(cls) <= queue.slots
            in_memory += model.fresh[cls][: queue.depth(cls)]
        assert queue.memory_bytes == sum(len(record.body) for record in in_memory)


TestBacklogBesideModel = BacklogBesideModel.TestCase
TestBacklogBesideModel.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)

"""From the queue to the backend: everything arrives in the end, and a dead backend is left in peace."""

import asyncio
import functools
import random
from collections import deque
from collections.abc import Mapping

import pytest
from builders import AskedBackend, AskedSingles, MemoryStore, inbound, inbound_backlog, send

from gateway._fast.breaker import FAILURES_TO_OPEN, Breaker
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_MS, Clock, FakeClock, SystemClock
from gateway.errors import StoreError
from gateway.events import InboundRecord, Kind, Outcome, SendClass
from gateway.inbound.compose import Parcel
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import ANSWER_KEPT_BYTES, Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Pick, Singles
from gateway.inbound.verdict import Verdict
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change

OK = BackendAnswer(200)
DOWN = BackendAnswer(None, error="refused")


class FakeBackend(AskedBackend):
    """Answers from a script, then with 200; holds its answers back while `is_held`."""

    def __init__(self, *script: BackendAnswer) -> None:
        self.script = deque(script)
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.delivered: list[bytes] = []
        self.under_way = 0
        self.under_way_max = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        self.bodies.append(body)
        self.headers.append(headers)
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        self.called.set()
        await asyncio.sleep(0)
        await self.gate.wait()
        self.under_way -= 1
        answer = self.script.popleft() if self.script else OK
        if answer.status == 200:
            self.delivered.append(body)
        return answer


class Rig:
    """A forwarder on a store in memory. Waits are a few real milliseconds, and every await is for an event."""

    def __init__(
        self,
        backend: FakeBackend,
        concurrency: int = 1,
        backoff_ms: int = 1,
        clock: Clock | None = None,
        picks: type[Singles] = Singles,
    ) -> None:
        self.clock = clock or SystemClock()
        self.store = MemoryStore(self.clock)
        self.backend = backend
        self.queue = inbound_backlog(self.store, self.clock, aside_max=concurrency * 4)
        self.books = Books()
        gate = Gate(
            Breaker(backoff_ms, 4 * backoff_ms, random.Random(2)), ConcurrencyLimit(concurrency), self.clock
        )
        self.waits = LeastWait()
        self.forwarder = Forwarder(
            "message",
            backend,
            self.queue,
            gate,
            picks(self.queue, gate, self.waits, self.clock),
            backoff_ms,
            4 * backoff_ms,
            self.store,
            self.books,
            self.clock,
            random.Random(1),
        )
        self.workers: list[asyncio.Task[None]] = []

    async def accept(self, *records: InboundRecord) -> None:
        for record in records:
            entries = accepted_entries(record.kind_counts())
            self.books.apply(entries)
            push = functools.partial(self.queue.push, record)
            await self.store.submit(Change(inbound=[record], books=entries, on_commit=[push]))

    def start(self) -> None:
        self.workers = [asyncio.create_task(self.forwarder.work())]

    async def run_until_empty(self) -> None:
        """Work until nothing waits."""
        emptied = asyncio.Event()

        def look() -> None:
            if not self.queue.total():
                emptied.set()

        self.store.on_committed = look
        self.start()
        await emptied.wait()
        await self.stop()

    async def stop(self) -> None:
        self.forwarder.drain()
        await asyncio.gather(*self.workers)


def records(count: int, kind: Kind = Kind.MESSAGE) -> list[InboundRecord]:
    return [inbound(seq, kinds=[kind], body=b"%d" % seq) for seq in range(1, count + 1)]


async def test_delivers_in_order_and_settles_in_the_store() -> None:
    rig = Rig(FakeBackend())
    await rig.accept(*records(5))
    await rig.run_until_empty()
    assert rig.backend.delivered == [b"1", b"2", b"3", b"4", b"5"]
    assert rig.store.disk.inbound == {}
    assert rig.books.outcomes[Kind.MESSAGE, Outcome.DELIVERED] == 5
    assert rig.books.difference(rig.queue.waiting()) == 0
    assert rig.store.disk.books[Kind.MESSAGE, Outcome.DELIVERED] == 5
    assert rig.forwarder.latency.count == 5


async def test_no_more_are_under_way_than_the_concurrency() -> None:
    rig = Rig(FakeBackend(), concurrency=3)
    await rig.accept(*records(20))
    await rig.run_until_empty()
    assert rig.backend.under_way_max == 3
    assert sorted(rig.backend.delivered) == sorted(b"%d" % seq for seq in range(1, 21))


async def test_a_row_of_work_lets_the_loop_look_at_everyone_else_after_a_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each pick takes 0.6 ms, as a batch of receipts may: acks wait meanwhile."""
    clock = FakeClock()
    rig = Rig(FakeBackend(), concurrency=4, clock=clock, picks=AskedSingles)
    await rig.accept(*records(4))
    rig.backend.gate.clear()
    take = rig.forwarder._picks.take

    def take_slowly() -> Pick:
        clock.advance_ns(600_000)
        return take()

    monkeypatch.setattr(rig.forwarder._picks, "take", take_slowly)
    rig.start()
    begun = []
    for _ in range(2):
        await asyncio.sleep(0)
        begun.append(len(rig.forwarder._courier.under_way))
    assert begun == [2, 4]
    rig.backend.gate.set()
    await rig.stop()


@pytest.mark.parametrize("trouble", [DOWN, BackendAnswer(500), BackendAnswer(503), BackendAnswer(401)])
async def test_delivers_everything_once_a_backend_is_back(trouble: BackendAnswer) -> None:
    rig = Rig(FakeBackend(*[trouble] * 12), concurrency=2)
    await rig.accept(*records(6))
    await rig.run_until_empty()
    assert sorted(rig.backend.delivered) == sorted(b"%d" % seq for seq in range(1, 7))
    assert len(rig.backend.bodies) == 12 + 6
    assert rig.forwarder.verdicts[Verdict.RETRY] == 12
    assert rig.forwarder.gate.breaker.state == "closed"
    assert rig.books.difference(rig.queue.waiting()) == 0


async def test_a_dead_backend_gets_one_probe_at_a_time() -> None:
    """After the first ones have failed, no two requests are under way at once."""
    under_way_when_probed: list[int] = []

    class Watched(FakeBackend):
        async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
            if rig.forwarder.gate.breaker.state == "half_open":
                under_way_when_probed.append(self.under_way)
            return await super().post(body, headers)

    rig = Rig(Watched(*[DOWN] * 8), concurrency=4, backoff_ms=60)
    await rig.accept(*records(8))
    await rig.run_until_empty()
    # Four went before the third failure was known; of the probes four fail, and the fifth does not.
    assert under_way_when_probed == [0, 0, 0, 0, 0]


async def test_an_attempt_is_counted_for_trouble_and_not_for_a_429() -> None:
    rig = Rig(FakeBackend(BackendAnswer(500), BackendAnswer(429), BackendAnswer(429), BackendAnswer(429)))
    (record,) = records(1)
    await rig.accept(record)
    await rig.run_until_empty()
    assert record.attempts == 1
    assert rig.forwarder.verdicts == {
        Verdict.DELIVERED: 1, Verdict.RETRY: 1, Verdict.RETRY_FREE: 3, Verdict.PARK: 0,
        Verdict.GONE: 0,
    }  # fmt: skip


async def test_a_body_that_is_refused_for_good_is_parked_with_the_answer() -> None:
    answer = BackendAnswer(422, b"x" * (ANSWER_KEPT_BYTES + 1))
    rig = Rig(FakeBackend(answer))
    await rig.accept(*records(2))
    await rig.run_until_empty()
    (item,) = rig.store.disk.parked.values()
    assert (item.record.seq, item.reason, item.answer) == (1, "HTTP 422", b"x" * ANSWER_KEPT_BYTES)
    assert rig.backend.delivered == [b"2"]
    assert rig.books.outcomes[Kind.MESSAGE, Outcome.FAILED] == 1
    assert rig.books.difference(rig.queue.waiting()) == 0
    assert rig.store.disk.inbound == {}


async def test_a_refused_body_shows_that_the_backend_is_well() -> None:
    rig = Rig(FakeBackend(DOWN, DOWN, BackendAnswer(400), DOWN, DOWN, OK))
    await rig.accept(*records(2))
    await rig.run_until_empty()
    assert rig.forwarder.gate.breaker.opened == 0


class RecordedReplies:
    """Adds a send to each change, or does as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.changes: list[Change] = []

    def add_replies(self, record: InboundRecord, answer: bytes, change: Change) -> None:
        self.asked.append((record.seq, answer))
        self.changes.append(change)
        change.sends.append(send(1000 + record.seq, SendClass.REPLY))


async def test_a_reply_is_stored_in_the_change_that_settles_its_message() -> None:
    rig = Rig(FakeBackend(BackendAnswer(200, b'{"type":"text"}')))
    rig.forwarder.replies = sink = RecordedReplies()
    await rig.accept(*records(1))
    written: list[Change] = []
    write = rig.store.disk.write

    def written_and_kept(change: Change, now_ms: int) -> None:
        written.append(change)
        write(change, now_ms)

    rig.store.disk.write = written_and_kept  # type: ignore[method-assign]
    await rig.run_until_empty()
    assert sink.asked == [(1, b'{"type":"text"}')]
    (change,) = written
    assert [record.seq for record in change.inbound_done] == [1]
    assert [record.seq for record in change.sends] == [1001]
    assert change is sink.changes[0]


async def test_only_the_body_of_a_2xx_is_looked_at_for_replies() -> None:
    script = [BackendAnswer(500, b'{"text":{}}'), BackendAnswer(400, b'{"text":{}}'), BackendAnswer(200, b"")]
    rig = Rig(FakeBackend(*script))
    rig.forwarder.replies = sink = RecordedReplies()
    await rig.accept(*records(2))
    await rig.run_until_empty()
    assert sink.asked == []


async def test_without_a_sink_a_reply_is_ignored() -> None:
    rig = Rig(FakeBackend(BackendAnswer(200, b'{"text":{}}')))
    await rig.accept(*records(1))
    await rig.run_until_empty()
    assert rig.store.disk.sends == {}


async def test_draining_finishes_what_is_under_way_and_takes_nothing_new() -> None:
    rig = Rig(FakeBackend())
    rig.backend.gate.clear()
    await rig.accept(*records(3))
    rig.start()
    await rig.backend.called.wait()
    rig.forwarder.drain()
    rig.backend.gate.set()
    await asyncio.gather(*rig.workers)
    assert rig.backend.delivered == [b"1"]
    assert rig.queue.total() == 2
    assert sorted(rig.store.disk.inbound) == [2, 3]


async def test_draining_ends_workers_that_wait_for_work_or_for_the_breaker() -> None:
    idle = Rig(FakeBackend(), concurrency=2)
    idle.start()
    broken = Rig(FakeBackend(*[DOWN] * 3), concurrency=2, backoff_ms=3_600_000)
    for _ in range(FAILURES_TO_OPEN):
        broken.forwarder.gate.breaker.fail(broken.clock.now_ns())
    await broken.accept(*records(2))
    broken.start()
    await asyncio.sleep(0)
    await idle.stop()
    await broken.stop()
    assert broken.backend.bodies == []


async def test_when_the_store_fails_the_record_stays_on_disk() -> None:
    rig = Rig(FakeBackend())
    await rig.accept(*records(1))
    rig.store.holds_commits = True
    rig.start()
    await rig.backend.called.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    rig.store.fail(StoreError("the disk is ill"))
    await rig.stop()
    assert sorted(rig.store.disk.inbound) == [1]
    assert rig.queue.taken() == 1
    assert rig.books.outcomes[Kind.MESSAGE, Outcome.DELIVERED] == 0


async def test_retry_after_is_kept_and_backoff_is_bounded() -> None:
    """With a clock that stands still: what is waited for is read from the queue."""
    clock = FakeClock()
    store = MemoryStore(clock)
    queue = inbound_backlog(store, clock)
    gate = Gate(Breaker(100, 60_000, random.Random(1)), ConcurrencyLimit(1), clock)
    picks = Singles(queue, gate, LeastWait(), clock)
    forwarder = Forwarder(
        "event", FakeBackend(), queue, gate, picks, 100, 60_000, store, Books(), clock, random.Random(2)
    )
    record = inbound(1)
    parcel = Parcel([record], record.body)
    await store.submit(Change(inbound=[record], on_commit=[lambda: queue.push(record)]))
    for attempt in range(30):
        taken = queue.take()
        assert taken is record
        forwarder._retry(parcel, DOWN, Verdict.RETRY, gate.enter(clock.now_ns(), is_retry=attempt > 0))
        gate.succeed(gate.enter(clock.now_ns(), is_retry=False), clock.now_ns())  # others get through
        assert record.attempts == attempt + 1
        ceiling_ms = min(100 << record.attempts, 60_000)
        clock.advance_ns(ceiling_ms * NS_PER_MS)
    assert queue.take() is record
    passage = gate.enter(clock.now_ns(), is_retry=True)
    forwarder._retry(parcel, BackendAnswer(429, retry_after="30"), Verdict.RETRY_FREE, passage)
    assert record.attempts == 30
    clock.advance_ns(30_000 * NS_PER_MS - 1)
    assert not gate.breaker.may_pass(clock.now_ns())
    assert queue.take() is None


async def test_records_the_backend_always_fails_on_do_not_hold_up_the_others() -> None:
    """A few messages that a bot answers with 500 must not close the destination for all."""
    poison = {b"%d" % seq for seq in range(1, 9)}

    class Bot(FakeBackend):
        async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
            await super().post(body, headers)
            if body in poison and len(self.delivered) < 48:
                self.delivered = [done for done in self.delivered if done not in poison]
                return BackendAnswer(500)
            return OK

    rig = Rig(Bot(), concurrency=4)
    await rig.accept(*records(48 + 8))
    good = {b"%d" % seq for seq in range(9, 57)}
    arrived = asyncio.Event()

    def look() -> None:
        if good <= {*rig.backend.delivered}:
            arrived.set()

    rig.store.on_committed = look
    rig.start()
    async with asyncio.timeout(10):
        await arrived.wait()
    poison.clear()
    await rig.stop()

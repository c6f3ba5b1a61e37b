"""What goes next and what goes together: batches that wait for company, strays, retries, and what must go alone."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from builders import AskedBackend, MemoryStore, inbound_backlog
from virtual_time import VirtualLoop, run_virtual, virtual_loop

from gateway._fast.breaker import Breaker
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_MS
from gateway.dialects.receipts import Tally
from gateway.dialects.webhook import decode
from gateway.events import InboundClass, InboundRecord, ReceiptMask, pack_counts
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.compose import Composer
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import STRAY_MAX, BatchBounds, Batches, Singles
from gateway.overload.ladder import THRESHOLDS, Ladder, Policies, Rung
from gateway.store.books import Books
from gateway.store.protocol import Change

OK = BackendAnswer(200)
BATCHED = Policies(sent="batch", delivered="batch", read="batch", group="batch")
DELAY_MS = 200
GROUP = "15550100999-1690000000"
USUAL = BatchBounds(500, 512 << 10, DELAY_MS)

Told = list[tuple[str, str]]
"""(phone, status) of one request; of a digest (message id, `digest`)."""
Answer = Callable[[Told], Coroutine[Any, Any, BackendAnswer]]


class SteppingClock:
    """The loop's time, with a wall clock that somebody sets."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.step_ms = 0

    def now_ns(self) -> int:
        return self._loop.now_ns()

    def wall_ms(self) -> int:
        return self._loop.wall_ms() + self.step_ms


async def well(_told: Told) -> BackendAnswer:
    await asyncio.sleep(0.01)
    return OK


class Side(AskedBackend):
    """The event webhook's side: queue, batches, a forwarder with its workers, and a backend that takes notes."""

    def __init__(
        self,
        policies: Policies = BATCHED,
        answer: Answer = well,
        *,
        bounds: BatchBounds = USUAL,
        highest: int = 4,
        rung: Rung = Rung.FORWARD,
        age_max_ms: int = 0,
        drops_old: bool = True,
    ) -> None:
        self.loop = virtual_loop()
        self.clock = SteppingClock(self.loop)
        self.began_ns = self.loop.now_ns()
        self.store = MemoryStore(self.clock)
        self.queue = inbound_backlog(self.store, self.clock, slots=4_096, aside_max=4_096)
        self.gate = Gate(Breaker(500, 5_000, random.Random(1)), ConcurrencyLimit(highest), self.clock)
        self.ladder = Ladder(policies, self.loop.now_ns())
        self.ladder.update(THRESHOLDS[rung], self.loop.now_ns())
        self.known: set[str] = set()
        self.gatekeeper = Gatekeeper(self.ladder, lambda _id: ReceiptMask.ALL, self.known.__contains__)
        self.waits = LeastWait()
        composer = Composer(
            self.gatekeeper, lambda _id: Tally(None, 1, 1, 1, 1), age_max_ms, drops_old=drops_old
        )
        self.batches = Batches(
            Singles(self.queue, self.gate, self.waits, self.clock),
            self.queue,
            composer,
            self.gatekeeper,
            bounds,
            self.clock,
        )
        self.forwarder = Forwarder(
            "event", self, self.queue, self.gate, self.batches, 500, 1_000, self.store, Books(), self.clock,
            random.Random(1),
        )  # fmt: skip
        self._answer = answer
        self._seq = 0
        self.posts: list[tuple[float, Told]] = []
        """(ms since the start, what was told) of each request."""
        self._workers: list[asyncio.Task[None]] = []

    async def post(self, body: bytes, _headers: Mapping[str, str]) -> BackendAnswer:
        top = json.loads(body)
        digests = top.get("gateway", {}).get("receipts", ())
        told = [(digest["id"], "digest") for digest in digests]
        told += [(status["recipient_id"], status["status"]) for status in top.get("statuses", ())]
        self.posts.append(((self.loop.now_ns() - self.began_ns) / NS_PER_MS, told))
        return await self._answer(told)

    def start(self) -> None:
        self._workers = [asyncio.create_task(self.forwarder.work())]

    async def accept(self, *statuses: tuple[str, str], padding: int = 0, group: str = "") -> InboundRecord:
        """A record of (phone, status) pairs comes in."""
        self._seq += 1
        items = [
            {"id": "m1", "recipient_id": who, "status": word, "x": "x" * padding} for who, word in statuses
        ]
        body = json.dumps({"statuses": [{**item, "group_id": group} if group else item for item in items]})
        events = decode(body.encode()).events
        record = InboundRecord(
            self._seq,
            min(event.cls for event in events),
            events[0].lane,
            body.encode(),
            pack_counts([event.kind for event in events]),
            self.clock.wall_ms(),
        )
        self.known |= {event.key for event in events}
        await self.store.submit(Change(inbound=[record], on_commit=[lambda: self.queue.push(record)]))
        return record

    async def empty(self, down_to: int = 0) -> None:
        """Until nothing waits, or no more than `down_to`."""
        deadline_s = self.loop.time() + 120
        while self.queue.total() > down_to:
            assert self.loop.time() < deadline_s, f"{self.queue.total()} wait for ever"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.forwarder.drain()
        await asyncio.gather(*self._workers)

    def told(self) -> list[Told]:
        return [told for _, told in self.posts]


def played(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def test() -> None:
        run_virtual(story())

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


# -- receipts that a policy batches wait for company


@played
async def test_a_batch_goes_after_its_delay_with_all_that_came_meanwhile() -> None:
    side = Side()
    side.start()
    for number in range(4):
        await side.accept((str(number), "read"))
        await asyncio.sleep(0.066)
    await side.accept(("late", "read"))
    await side.empty()
    assert side.posts[0] == (DELAY_MS, [(str(number), "read") for number in range(4)])
    assert side.told()[1:] == [[("late", "read")]]
    await side.stop()


@played
async def test_a_batch_that_is_full_by_number_does_not_wait() -> None:
    side = Side(bounds=BatchBounds(5, 512 << 10, DELAY_MS))
    side.start()
    for number in range(4):
        await side.accept((str(number), "read"))
    await asyncio.sleep(0.1)
    assert side.posts == []
    await side.accept(("4", "read"))
    await side.empty()
    assert side.posts == [(100.0, [(str(number), "read") for number in range(5)])]
    await side.stop()


@played
async def test_a_batch_that_is_full_by_bytes_does_not_wait() -> None:
    side = Side(bounds=BatchBounds(500, 1_500, DELAY_MS))
    side.start()
    await side.accept(("0", "read"), padding=700)
    await asyncio.sleep(0.1)
    assert side.posts == []
    for number in (1, 2):
        await side.accept((str(number), "read"), padding=700)
    await side.empty()
    assert side.posts[0] == (100.0, [("0", "read"), ("1", "read")])
    await side.stop()


@pytest.mark.parametrize("step_ms", [-3_600_000, -100, 3_600_000])
def test_a_wall_clock_that_is_set_does_not_hold_a_batch_back(step_ms: int) -> None:
    """By the wall clock alone the wait would begin anew with each look, for an hour."""

    async def main() -> None:
        side = Side()
        side.start()
        await side.accept(("0", "read"))
        await asyncio.sleep(0.05)
        side.clock.step_ms = step_ms
        await side.accept(("1", "read"))
        await side.empty()
        assert side.posts[0] == (DELAY_MS, [("0", "read"), ("1", "read")])
        await side.stop()

    run_virtual(main())


@played
async def test_what_waited_longer_than_the_delay_before_a_start_goes_at_once() -> None:
    side = Side()
    await side.accept(("0", "read"))
    await asyncio.sleep(1)
    side.start()
    await side.empty()
    assert side.posts == [(1_000, [("0", "read")])]
    await side.stop()


@played
async def test_failures_do_not_wait_with_them() -> None:
    side = Side()
    side.start()
    await side.accept(("0", "read"))
    await side.accept(("1", "failed"))
    await side.empty()
    assert side.posts == [(0.0, [("1", "failed")]), (DELAY_MS, [("0", "read")])]
    await side.stop()


@pytest.mark.parametrize(
    ("policies", "rung"),
    [(Policies(), Rung.FORWARD), (Policies(sent="drop"), Rung.FORWARD), (BATCHED, Rung.BATCH)],
    ids=["forward", "another class is dropped", "pressed"],
)
def test_without_a_policy_or_under_pressure_nothing_waits(policies: Policies, rung: Rung) -> None:
    async def main() -> None:
        side = Side(policies, rung=rung)
        side.start()
        await side.accept(("0", "read"))
        await side.empty()
        assert side.posts == [(0.0, [("0", "read")])]
        await side.stop()

    run_virtual(main())


@played
async def test_waiting_for_company_is_one_timer() -> None:
    side = Side()
    side.start()
    before = side.loop.virtual.jumps
    for number in range(50):
        await side.accept((str(number), "read"))
    side.store.on_committed = lambda: None if side.queue.total() else side.forwarder.drain()
    await asyncio.wait(side._workers)
    assert side.loop.virtual.jumps - before == 2  # the batch, and the backend's answer


@played
async def test_a_batch_waited_as_long_as_its_youngest() -> None:
    """A queue that is emptied each time does not stand, however long its first had to wait."""
    side = Side()
    await side.accept(("0", "read"))
    await asyncio.sleep(0.15)
    await side.accept(("1", "read"))
    await asyncio.sleep(0.05)
    side.batches.take()
    assert side.waits.take(lambda: -1.0) == 50.0


# -- bounds


@pytest.mark.parametrize("bounds", [BatchBounds(7, 512 << 10, 0), BatchBounds(500, 600, 0)])
def test_no_batch_goes_beyond_its_bounds_and_order_is_kept(bounds: BatchBounds) -> None:
    async def main() -> None:
        side = Side(bounds=bounds, highest=1)
        for number in range(40):
            await side.accept((str(number), "read"), (str(number), "delivered"))
        side.start()
        await side.empty()
        await side.stop()
        assert [who for told in side.told() for who, word in told if word == "read"] == [
            str(number) for number in range(40)
        ]
        most = max(map(len, side.told()))
        assert most == (8 if bounds.receipts == 7 else 10)  # the record that reaches a bound is the last

    run_virtual(main())


# -- what goes alone among what goes together


@played
async def test_strays_are_given_back_and_go_next() -> None:
    side = Side(Policies(read="batch"), highest=1)
    for number in range(3):
        await side.accept((f"r{number}", "read"))
        await side.accept((f"d{number}", "delivered"))
    side.start()
    await side.empty()
    await side.stop()
    assert side.told() == [
        [("r0", "read"), ("r1", "read"), ("r2", "read")],
        *([(f"d{number}", "delivered")] for number in range(3)),
    ]


@played
async def test_strays_are_not_starved_by_what_is_batched() -> None:
    """Reads come without end, and one request at a time is possible: each stray waits for a few requests only."""
    side = Side(Policies(read="batch"), bounds=BatchBounds(20, 512 << 10, 0), highest=1)
    side.start()
    for number in range(200):
        await side.accept(*((f"r{number}-{n}", "read") for n in range(3)))
        if number % 20 == 0:
            await side.accept((f"d{number}", "delivered"))
        await asyncio.sleep(0.005)
    told = side.told()
    assert sum(word == "delivered" for one in told for _, word in one) == 10
    await side.empty()
    await side.stop()


@played
async def test_gathering_ends_when_too_many_must_go_alone() -> None:
    side = Side(Policies(read="batch"), bounds=BatchBounds(500, 512 << 10, 0))
    await side.accept(("first", "read"))
    for number in range(STRAY_MAX + 10):
        await side.accept((str(number), "delivered"))
    await side.accept(("last", "read"))
    pick = side.batches.take()
    assert [record.seq for parcel in pick.parcels for record in parcel.records] == [1]
    assert side.queue.delayed() == STRAY_MAX
    assert side.queue.taken() == 1


# -- retries


@played
async def test_what_failed_does_not_ride_with_what_is_fresh() -> None:
    """It may be the trouble itself; and a batch with one of them would not count as a sign of trouble."""
    answers = [BackendAnswer(503)]

    async def first_fails(_told: Told) -> BackendAnswer:
        await asyncio.sleep(0.01)
        return answers.pop() if answers else OK

    side = Side(answer=first_fails, bounds=BatchBounds(500, 512 << 10, 0), highest=1)
    await side.accept(("0", "read"))
    side.start()
    await asyncio.sleep(0.02)
    due_ns = side.queue._delays.next_due_ns(0)
    assert due_ns is not None
    assert [record.attempts for record in side.queue._delays.of_class(InboundClass.RECEIPT)] == [1]
    side.gate.close("operator")
    await asyncio.sleep((due_ns - side.loop.now_ns()) / 1e9)
    await side.accept(("1", "read"))
    await side.accept(("2", "read"))
    side.gate.reopen("operator")
    await side.empty()
    await side.stop()
    assert side.told() == [[("0", "read")], [("0", "read")], [("1", "read"), ("2", "read")]]


@played
async def test_a_record_that_breaks_the_backend_does_not_hold_those_it_came_with() -> None:
    """The backend says 500 whenever that one is in a request, for ever. The others arrive."""

    async def breaks(told: Told) -> BackendAnswer:
        await asyncio.sleep(0.01)
        return BackendAnswer(500) if ("7", "read") in told else OK

    side = Side(answer=breaks)
    for number in range(20):
        await side.accept((str(number), "read"))
    side.start()
    await side.empty(down_to=1)
    await side.accept(("fresh", "read"))
    await side.empty(down_to=1)
    arrived = {who for told in side.told() for who, _ in told if ("7", "read") not in told}
    assert arrived == {str(number) for number in range(20) if number != 7} | {"fresh"}
    assert [told for told in side.told() if ("7", "read") in told][2:] == [[("7", "read")]] * (
        len([told for told in side.told() if ("7", "read") in told]) - 2
    )
    await side.stop()


@pytest.mark.parametrize("status", [503, 429, None])
def test_a_backend_that_is_away_gets_its_batch_whole_when_it_is_back(status: int | None) -> None:
    async def main() -> None:
        back_ns = virtual_loop().now_ns() + 60_000 * NS_PER_MS

        async def away(_told: Told) -> BackendAnswer:
            await asyncio.sleep(0.01)
            return BackendAnswer(status) if virtual_loop().now_ns() < back_ns else OK

        side = Side(answer=away, highest=1)
        for number in range(50):
            await side.accept((str(number), "read"))
        side.start()
        await side.empty()
        assert len(side.told()[-1]) == 50
        await side.stop()

    run_virtual(main())


@pytest.mark.parametrize("status", [400, 413])
def test_a_batch_that_is_refused_goes_one_by_one_and_the_bad_one_is_parked(status: int) -> None:
    async def main() -> None:
        async def refuses(told: Told) -> BackendAnswer:
            await asyncio.sleep(0.01)
            return BackendAnswer(status) if len(told) > 1 or ("3", "read") in told else OK

        side = Side(answer=refuses, highest=2)
        for number in range(6):
            await side.accept((str(number), "read"))
        side.start()
        await side.empty()
        await side.stop()
        first, *alone = side.told()
        assert len(first) == 6
        assert sorted(alone) == [[(str(number), "read")] for number in range(6)]
        assert [parked.record.seq for parked in side.store.disk.parked.values()] == [4]

    run_virtual(main())


# -- what had to wait is looked at again


@played
async def test_what_waits_behind_a_request_is_what_is_true_after_it() -> None:
    """A digest and a batch go one after the other; meanwhile a `delivered` of the batch is overtaken."""
    release = asyncio.Event()

    async def slow(_told: Told) -> BackendAnswer:
        await release.wait()
        return OK

    side = Side(Policies(), slow, rung=Rung.DIGEST, highest=1)
    await side.accept(("g1", "read"), group=GROUP)
    await side.accept(("1", "delivered"))
    await side.accept(("2", "delivered"))
    side.start()
    await asyncio.sleep(0.1)
    assert side.told() == [[("m1", "digest")]]
    await side.accept(("1", "read"))
    release.set()
    await side.empty()
    await side.stop()
    assert sorted(side.told()[1:]) == [[("1", "read")], [("2", "delivered")]]


@played
async def test_a_dry_run_of_the_age_counts_a_receipt_once_however_often_it_is_tried() -> None:
    answers = [BackendAnswer(503)] * 3

    async def fails(_told: Told) -> BackendAnswer:
        await asyncio.sleep(0.01)
        return answers.pop() if answers else OK

    side = Side(Policies(), fails, age_max_ms=10, drops_old=False)
    await side.accept(("0", "read"))
    await asyncio.sleep(1)
    side.start()
    await side.empty()
    await side.stop()
    assert len(side.posts) == 4
    assert side.gatekeeper.would_have["age"] == 1

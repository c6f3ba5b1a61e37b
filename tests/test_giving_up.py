"""When a record is given up: what spends its attempts and what does not, and what becomes of it then."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping

import pytest
from builders import AskedBackend, MemoryStore, inbound, inbound_backlog
from virtual_time import run_virtual, virtual_loop

from gateway._fast.breaker import Breaker
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_S
from gateway.events import InboundClass, InboundRecord, Kind, Outcome
from gateway.inbound.compose import Parcel
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import ANSWER_KEPT_BYTES, GONE, Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Singles
from gateway.inbound.verdict import Verdict
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change

OK = BackendAnswer(200)
NO_CONNECTION = BackendAnswer(None, error="refused", was_sent=False)
TIMED_OUT = BackendAnswer(None, error="timed out")

Script = Callable[[bytes], BackendAnswer]


class ScriptedBackend(AskedBackend):
    """Answers each body as the script says, a second later."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.delivered: list[bytes] = []

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        self.bodies.append(body)
        self.headers.append(headers)
        await asyncio.sleep(1)
        answer = self.script(body)
        if answer.status == 200:
            self.delivered.append(body)
        return answer


class Destination:
    """A forwarder on a store in memory, in simulated time."""

    def __init__(self, script: Script, attempts_max: int = 3) -> None:
        clock = virtual_loop()
        self.backend = ScriptedBackend(script)
        self.store = MemoryStore(clock)
        self.queue = inbound_backlog(self.store, clock)
        self.books = Books()
        self.gate = Gate(Breaker(500, 5_000, random.Random(2)), ConcurrencyLimit(16), clock)
        self.forwarder = Forwarder(
            "one",
            self.backend,
            self.queue,
            self.gate,
            Singles(self.queue, self.gate, LeastWait(), clock),
            500,
            30_000,
            self.store,
            self.books,
            clock,
            random.Random(1),
            attempts_max=attempts_max,
        )
        self._workers: list[asyncio.Task[None]] = []

    async def accept(self, records: Iterable[InboundRecord]) -> None:
        for record in records:
            entries = accepted_entries(record.kind_counts())
            self.books.apply(entries)
            change = Change(inbound=[record], books=entries)
            change.on_commit.append(lambda record=record: self.queue.push(record))  # type: ignore[misc]
            await self.store.submit(change)

    async def work(self, seconds: float) -> None:
        """Let it work for a while."""
        if not self._workers:
            work = self.forwarder.work
            self._workers = [asyncio.create_task(work())]
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        self.forwarder.drain()
        await asyncio.gather(*self._workers)
        assert self.books.difference(self.queue.waiting()) == 0

    def parked(self) -> dict[int, str]:
        return {seq: letter.reason for seq, letter in self.store.disk.parked.items()}


def record(seq: int, cls: InboundClass = InboundClass.MESSAGE, kind: Kind = Kind.MESSAGE) -> InboundRecord:
    return inbound(seq, cls, kinds=[kind], body=b"%d" % seq, lane=f"1555010{seq:04}")


def poison(answer: BackendAnswer, *bodies: bytes) -> Script:
    return lambda body: answer if body in bodies else OK


HOUR_S = 3600


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (BackendAnswer(500, b"x" * (ANSWER_KEPT_BYTES + 1)), "HTTP 500 (attempt 4)"),
        (BackendAnswer(404, b"x" * (ANSWER_KEPT_BYTES + 1)), "HTTP 404 (attempt 4)"),
        (BackendAnswer(401, b"x" * (ANSWER_KEPT_BYTES + 1)), "HTTP 401 (attempt 4)"),
        (BackendAnswer(None, b"x" * (ANSWER_KEPT_BYTES + 1), error="timed out"),
         "no answer: timed out (attempt 4)"),
    ],
)  # fmt: skip
def test_what_fails_alone_is_parked_after_its_last_attempt_with_the_last_answer(
    answer: BackendAnswer, reason: str
) -> None:
    async def main() -> None:
        one = Destination(poison(answer, b"2"), attempts_max=4)
        await one.accept(record(seq) for seq in range(1, 21))
        await one.work(HOUR_S)
        await one.stop()
        assert one.backend.bodies.count(b"2") == 4
        assert one.parked() == {2: reason}
        assert one.store.disk.parked[2].answer == b"x" * ANSWER_KEPT_BYTES
        assert len(one.backend.delivered) == 19
        assert one.books.outcomes[Kind.MESSAGE, Outcome.FAILED] == 1
        assert one.store.disk.inbound == {}

    run_virtual(main())


def test_one_attempt_is_the_last_where_one_is_all(  # the least that can be set
) -> None:
    async def main() -> None:
        one = Destination(poison(BackendAnswer(500), b"1"), attempts_max=1)
        await one.accept([record(1)])
        await one.work(60)
        await one.stop()
        assert one.parked() == {1: "HTTP 500 (attempt 1)"}

    run_virtual(main())


@pytest.mark.parametrize(
    "trouble", [BackendAnswer(503), BackendAnswer(404), BackendAnswer(401), BackendAnswer(500), TIMED_OUT]
)
def test_a_backend_down_for_an_hour_loses_and_parks_nothing(trouble: BackendAnswer) -> None:
    """Its breaker is open then, and no attempt is spent; with probes at most 5 s apart it is asked often enough."""

    async def main() -> None:
        is_down = True
        one = Destination(lambda _: trouble if is_down else OK, attempts_max=3)
        await one.accept(record(seq) for seq in range(1, 41))
        await one.work(HOUR_S)
        assert one.parked() == {}
        assert one.backend.delivered == []
        assert len(one.backend.bodies) > HOUR_S / 10
        is_down = False
        await one.work(60)
        await one.stop()
        assert sorted(one.backend.delivered) == sorted(b"%d" % seq for seq in range(1, 41))

    run_virtual(main())


def test_what_never_reached_the_backend_spends_nothing_even_alone() -> None:
    """One message at night, and nobody listens: three refused connections open the breaker."""

    async def main() -> None:
        one = Destination(lambda _: NO_CONNECTION, attempts_max=2)
        await one.accept([(only := record(1))])
        await one.work(HOUR_S)
        await one.stop()
        assert only.attempts == 0
        assert one.gate.breaker.state != "closed"
        assert one.parked() == {}
        assert one.queue.total() == 1

    run_virtual(main())


def test_a_backend_that_dies_with_a_message_in_hand_spends_that_attempt_and_no_more() -> None:
    """Refused connections count against the destination whatever the message has behind it."""

    async def main() -> None:
        answers = [TIMED_OUT]
        one = Destination(lambda _: answers.pop() if answers else NO_CONNECTION)
        await one.accept([only := record(1)])
        await one.work(10)
        assert one.gate.breaker.opened == 1
        await one.work(HOUR_S)
        await one.stop()
        assert only.attempts == 1

    run_virtual(main())


def test_please_slow_down_spends_nothing() -> None:
    async def main() -> None:
        answers = [BackendAnswer(429)] * 30
        one = Destination(lambda _: answers.pop() if answers else OK, attempts_max=1)
        await one.accept([(only := record(1))])
        await one.work(HOUR_S)
        await one.stop()
        assert (only.attempts, one.backend.delivered) == (0, [b"1"])
        assert one.forwarder.verdicts[Verdict.RETRY_FREE] == 30

    run_virtual(main())


@pytest.mark.parametrize(
    ("cls", "kind", "parked", "outcome"),
    [
        (InboundClass.RECEIPT, Kind.READ, {}, Outcome.EXPIRED),
        (InboundClass.FAILURE, Kind.FAILED, {1: "HTTP 500 (attempt 3)"}, Outcome.FAILED),
    ],
)
def test_receipts_expire_and_failure_notices_are_parked(
    cls: InboundClass, kind: Kind, parked: dict[int, str], outcome: Outcome
) -> None:
    async def main() -> None:
        one = Destination(poison(BackendAnswer(500), b"1"))
        await one.accept([record(1, cls, kind)])
        await one.work(HOUR_S)
        await one.stop()
        assert one.parked() == parked
        assert one.books.outcomes[kind, outcome] == 1
        assert one.store.disk.inbound == {}
        assert one.queue.total() == 0

    run_virtual(main())


def test_of_a_batch_only_those_end_that_have_spent_theirs() -> None:
    async def main() -> None:
        one = Destination(lambda _: BackendAnswer(500))
        receipts = [record(seq, InboundClass.RECEIPT, Kind.READ) for seq in (1, 2)]
        receipts[0].attempts = 2
        await one.accept(receipts)
        for _ in receipts:
            assert one.queue.take() is not None
        passage = one.gate.enter(virtual_loop().now_ns(), is_retry=True)
        one.forwarder._carry(Parcel(receipts, b"both"), passage)
        await asyncio.sleep(5)  # virtual: both the answer and the disk
        assert sorted(one.store.disk.inbound) == [2]
        assert (one.queue.delayed(), one.queue.taken()) == (1, 0)
        assert one.books.outcomes[Kind.READ, Outcome.EXPIRED] == 1
        await one.stop()

    run_virtual(main())


# -- 410


def test_after_a_410_nothing_goes_until_it_is_resumed() -> None:
    async def main() -> None:
        is_gone = True
        one = Destination(lambda _: BackendAnswer(410) if is_gone else OK, attempts_max=1)
        told: list[int] = []
        one.forwarder.on_gone = lambda: told.append(virtual_loop().now_ns() // NS_PER_S)
        await one.accept([first := record(1), *(record(seq) for seq in range(2, 9))])
        await one.work(HOUR_S)
        # Four may be under way at the start, and no more went when the first of them had its answer.
        assert len(one.backend.bodies) == 4
        assert len(told) == 1
        assert one.gate.closed_by == {GONE}
        assert one.forwarder.verdicts[Verdict.GONE] == 4
        assert first.attempts == 0
        is_gone = False
        one.gate.reopen(GONE)
        await one.work(10)
        await one.stop()
        assert sorted(one.backend.delivered) == [b"%d" % seq for seq in range(1, 9)]
        assert one.parked() == {}

    run_virtual(main())


def test_draining_ends_workers_before_a_closed_gate() -> None:
    async def main() -> None:
        one = Destination(lambda _: OK)
        one.gate.close("isolated")
        await one.accept([record(1)])
        await one.work(1)
        await one.stop()
        assert one.backend.bodies == []
        assert sorted(one.store.disk.inbound) == [1]

    run_virtual(main())


def test_two_reasons_must_both_go_before_it_opens() -> None:
    async def main() -> None:
        one = Destination(lambda _: OK)
        one.gate.close("isolated")
        one.gate.close(GONE)
        await one.accept([record(1)])
        await one.work(10)
        one.gate.reopen(GONE)
        await one.work(10)
        assert one.backend.bodies == []
        one.gate.reopen("isolated")
        await one.work(10)
        assert one.backend.delivered == [b"1"]
        await one.stop()

    run_virtual(main())


# -- the same request, again


def test_a_request_keeps_its_id_over_its_attempts_and_its_time_is_the_attempts() -> None:
    async def main() -> None:
        answers = [BackendAnswer(500), BackendAnswer(500)]
        one = Destination(lambda _: answers.pop() if answers else OK, attempts_max=9)
        await one.accept([record(1)])
        await one.work(HOUR_S)
        await one.stop()
        said = one.backend.headers
        assert [headers["webhook-id"] for headers in said] == ["gw-0badcafe-1"] * 3
        times = [int(headers["webhook-timestamp"]) for headers in said]
        assert times[0] == 1_700_000_000
        assert times == sorted(set(times))
        assert all("webhook-signature" not in headers for headers in said)

    run_virtual(main())

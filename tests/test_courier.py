"""The native way of a record does what the other ways do: through an endpoint or called, started by itself or asked for."""

import asyncio
import functools
import random
import re
from collections.abc import Callable

import pytest
from builders import AskedSingles, MemoryStore, inbound, inbound_backlog
from destination_side import DEAD, WORK_S, well
from destination_side import Side as OneDestination
from http_rig import NO_TLS, URL, Network, Wire
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtual, virtual_loop

from gateway._fast.breaker import Breaker
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.waits import LeastWait
from gateway.app.bridges import HttpBackend
from gateway.clock import NS_PER_S
from gateway.errors import StoreError
from gateway.events import InboundRecord, Kind, Outcome
from gateway.http.client import HttpClient
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Singles
from gateway.inbound.verdict import Verdict
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ANSWERS = {
    "plain": OK,
    "empty": b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "text": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    "broken": b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",
    "busy": b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "slow down": b"HTTP/1.1 429 Slow\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
    "refused": b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Le",
    "silent": b"",
}
ENDS_BADLY = {"cut", "silent"}

Script = dict[bytes, list[str]]
"""What is said to each attempt of a body; when that is over, `plain`."""


class Server:
    """The other end of all wires: answers requests as a script says, each after 10 ms, and notes them."""

    def __init__(self, script: Script) -> None:
        self.script = {body: list(answers) for body, answers in script.items()}
        self.requests: list[tuple[bytes, bytes, bytes]] = []
        """Body, attempt and id."""

    def prepare(self, wire: Wire) -> None:
        write: Callable[[bytes | bytearray | memoryview], None] = wire.write

        def written(data: bytes | bytearray | memoryview) -> None:
            write(data)
            asyncio.get_running_loop().call_later(0.01, self._answer, wire, bytes(data))

        wire.write = written  # type: ignore[method-assign]

    def _answer(self, wire: Wire, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        attempt, name = (
            re.search(rb"\r\n" + field + rb": (.*)", head) for field in (b"X-Gateway-Attempt", b"webhook-id")
        )
        assert attempt is not None
        assert name is not None
        self.requests.append((body, attempt[1].strip(), name[1].strip()))
        rest = self.script.get(body)
        says = rest.pop(0) if rest else "plain"
        if wire.is_closing():
            return
        if ANSWERS[says]:
            wire.say(ANSWERS[says])
        if says in ENDS_BADLY:
            wire.hang_up()


class Side:
    """A forwarder, and the server it posts to."""

    def __init__(
        self,
        script: Script,
        way: str,
        concurrency: int,
        store: MemoryStore | None = None,
        *,
        is_dry_run: bool = False,
    ) -> None:
        clock = virtual_loop()
        self.server, network = Server(script), Network()
        network.prepare = self.server.prepare
        self.http = HttpClient(5_000, concurrency, NO_TLS, clock=clock, connector=network)
        backend = HttpBackend(self.http, URL)
        if way == "called":
            backend.route = None
        self.store, self.books = store or MemoryStore(clock), Books()
        self.queue = inbound_backlog(self.store, clock, 256, 256, has_lanes=True)
        self.gate = Gate(
            Breaker(100, 400, random.Random(2)), ConcurrencyLimit(concurrency), clock, is_dry_run=is_dry_run
        )
        picks = AskedSingles if way == "asked" else Singles
        self.forwarder = Forwarder(
            "one", backend, self.queue, self.gate, picks(self.queue, self.gate, LeastWait(), clock), 100, 400,
            self.store, self.books, clock, random.Random(1), attempts_max=6,
        )  # fmt: skip
        self.work = asyncio.create_task(self.forwarder.work())

    async def accept(self, *records: InboundRecord) -> None:
        change = Change(inbound=list(records))
        for record in records:
            entries = accepted_entries(record.kind_counts())
            self.books.apply(entries)
            change.books += entries
        change.on_commit += [functools.partial(self.queue.push, record) for record in records]
        await self.store.submit(change)

    async def end(self) -> None:
        while self.queue.total():
            await asyncio.sleep(0.1)
        self.forwarder.drain()
        await self.work
        await self.http.close()


def play(script: Script, bodies: list[bytes], way: str, concurrency: int) -> tuple[object, ...]:
    """All that can be seen of a run from outside."""

    async def main() -> tuple[object, ...]:
        side = Side(script, way, concurrency)
        for seq, body in enumerate(bodies, 1):
            await side.accept(inbound(seq, body=body, lane=str(seq % 3)))
        await side.end()
        assert side.books.difference(side.queue.waiting()) == 0
        assert side.store.disk.inbound == {}
        parked = {item.record.body: item.reason for item in side.store.disk.parked.values()}
        requests = side.server.requests if concurrency == 1 else sorted(side.server.requests)
        verdicts = {verdict: n for verdict, n in side.forwarder.verdicts.items() if n}
        assert side.forwarder.latency.count == verdicts.get(Verdict.DELIVERED, 0)
        ended = {entry: n for entry, n in side.store.disk.books.items() if n and entry[1] is not None}
        assert ended == {entry: n for entry, n in side.books.outcomes.items() if n}
        return requests, verdicts, parked, ended

    return run_virtual(main())


bodies = [b'{"number": %d}' % number for number in range(12)]
scripts = st.dictionaries(st.sampled_from(bodies), st.lists(st.sampled_from([*ANSWERS]), max_size=3))


@given(script=scripts, count=st.integers(1, len(bodies)))
@settings(max_examples=60, deadline=None)
def test_both_ways_to_the_server_make_the_same_requests(script: Script, count: int) -> None:
    assert play(script, bodies[:count], "called", 1) == play(script, bodies[:count], "native", 1)


@given(script=scripts)
@settings(max_examples=30, deadline=None)
def test_who_is_asked_and_who_starts_by_itself_come_to_the_same_ends(script: Script) -> None:
    """Not to the same order: who is asked has looked for what comes next while all places were taken."""
    asked, native = (play(script, bodies, way, 4) for way in ("asked", "native"))
    assert asked[2:] == native[2:]


@pytest.mark.parametrize("says", sorted(ANSWERS))
def test_each_answer_is_judged_alike(says: str) -> None:
    script = {bodies[0]: [says]}
    assert play(script, bodies[:1], "native", 1) == play(script, bodies[:1], "called", 1)


def test_ends_that_come_together_are_one_change_and_a_crowd_does_not_wait() -> None:
    async def main() -> None:
        hurried: list[int] = []

        class Store(MemoryStore):
            def hurry(self) -> None:
                hurried.append(side.forwarder._courier.settling)

        side = Side({}, "native", 100, Store(virtual_loop()), is_dry_run=True)
        await side.accept(*[inbound(seq, body=b"%d" % seq, lane=str(seq)) for seq in range(1, 101)])
        side.store.holds_commits = True
        while side.forwarder._courier.settling < 100:
            await asyncio.sleep(0.001)
        assert hurried == [64]
        side.store._make()
        assert [change.size for change in side.store._submitted] == [100]
        side.store.commit()
        await side.end()
        for books in (side.books.outcomes, side.store.disk.books):
            assert books[Kind.MESSAGE, Outcome.DELIVERED] == 100

    run_virtual(main())


class PatientStore(MemoryStore):
    """Commits what can wait after 50 ms, unless it is hurried."""

    def _plan_commit(self) -> None:
        asyncio.get_running_loop().call_later(0.05, self.commit)

    def put(self, change: Change, *, can_wait: bool = False) -> None:
        super().put(change, can_wait=can_wait)
        if not can_wait:
            self.hurry()

    def hurry(self) -> None:
        asyncio.get_running_loop().call_soon(self.commit)


@pytest.mark.parametrize("says", ["plain", "refused"])
def test_ends_for_which_the_queue_is_closed_do_not_wait_for_company(says: str) -> None:
    """As few as may stand aside are fewer than a crowd, and nothing goes until their ends are on disk."""

    async def main() -> None:
        side = Side(
            {body: [says] for body in bodies}, "native", 100, PatientStore(virtual_loop()), is_dry_run=True
        )
        side.queue.memory.aside_max = 2
        await side.accept(*[inbound(seq, body=body, lane=str(seq)) for seq, body in enumerate(bodies, 1)])
        began_s = virtual_loop().time()
        while side.queue.total():
            await asyncio.sleep(0.001)
        assert virtual_loop().time() - began_s < len(bodies) / 2 * 0.02
        await side.end()

    run_virtual(main())


def test_what_cannot_be_stored_is_no_end() -> None:
    """The records stay taken and on disk; the process is about to end."""

    async def main() -> None:
        side = Side({}, "native", 1)
        await side.accept(inbound(1, body=b"{}"))
        side.store.holds_commits = True
        while not side.forwarder._courier.settling:
            await asyncio.sleep(0.01)
        side.store.fail(StoreError("the disk is gone"))
        assert side.forwarder._courier.settling == 0
        assert (side.queue.taken(), len(side.store.disk.inbound)) == (1, 1)
        side.forwarder.drain()
        await side.work

    run_virtual(main())


@pytest.mark.parametrize("picks", [Singles, AskedSingles])
def test_what_was_put_off_for_trouble_goes_when_an_answer_has_ended_it(picks: type[Singles]) -> None:
    """Each waits up to half a minute after a failure; the first success makes all of them due."""

    async def main() -> None:
        is_dead = True

        async def answer(body: bytes) -> BackendAnswer:
            return DEAD if is_dead else await well(body)

        side = OneDestination(answer, highest=4, picks=picks)
        records = [inbound(seq, body=b"%d" % seq) for seq in range(1, 13)]
        for record in records:
            record.attempts = 10
        await side.accept(records)
        await asyncio.sleep(11)
        assert side.queue.delayed() == 12
        is_dead = False
        await side.empty()
        times_ns = sorted(side.backend.arrived_ns.values())
        assert len(times_ns) == 12
        assert times_ns[-1] - times_ns[0] <= 12 * WORK_S * NS_PER_S
        await side.stop()

    run_virtual(main())


@pytest.mark.parametrize("picks", [Singles, AskedSingles])
def test_a_probe_says_nothing_of_how_long_is_waited(picks: type[Singles]) -> None:
    """It has got nowhere yet: while the destination is in trouble the age of what waits is what tells."""

    async def main() -> None:
        async def answer(_body: bytes) -> BackendAnswer:
            return DEAD

        side = OneDestination(answer, highest=4, picks=picks)
        await side.accept([inbound(seq, body=b"%d" % seq) for seq in range(1, 31)])
        waits = side.picks._waits
        assert waits.take(lambda: 7.0) == 0.0  # the first ones went at once
        before = len(side.backend.came_ns)
        await asyncio.sleep(20)
        assert len(side.backend.came_ns) > before, "there were probes"
        assert waits.take(lambda: 7.0) == 7.0
        await side.stop()

    run_virtual(main())

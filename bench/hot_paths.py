"""The steps of the hot path whose instructions are counted by `instructions.py`, each with inputs that never change.

To add one: write a function that takes a count, prepares so many inputs, and returns what does all of them; enter it in
STEPS with its count, and run `python bench/instructions.py --update`. Nothing in it may depend on time, on chance, or on
the order of a set, and what it prepares must be as large for 1 as for many.
"""

import asyncio
import random
import ssl
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from gateway._fast.answer import whole_answer
from gateway._fast.breaker import Breaker
from gateway._fast.histogram import LatencyHistogram
from gateway._fast.http_head import HOT, HeadScanner
from gateway._fast.ledger import DELIVERED, ReceiptLedger
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.ring import EVERY_CLASS, PriorityRings
from gateway._fast.seen import SeenSet, fingerprint_str
from gateway._fast.usual_webhook import usual
from gateway._fast.waits import LeastWait
from gateway.app.bridges import HttpBackend
from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.clock import FakeClock
from gateway.dialects.receipts import Batch
from gateway.dialects.webhook import decode
from gateway.events import InboundClass, InboundRecord, Kind, TpsKind, pack_counts
from gateway.http.client import Endpoint, HttpClient, Response
from gateway.http.ingest import Ingest
from gateway.http.target import Origin
from gateway.inbound.forward import Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.picks import Singles
from gateway.inbound.verdict import Verdict
from gateway.store.backlog import Backlog
from gateway.store.books import Books
from gateway.store.protocol import Change
from gateway.store.sqlite_file import SqliteFile

sys.path[:0] = [str(Path(__file__).parent / "micro"), str(Path(__file__).parents[1] / "tests")]
from builders import MemoryStore, inbound_backlog  # noqa: E402
from decode import CLOUD, ONPREM, RECEIPT  # noqa: E402
from receive_rig import Rig  # noqa: E402

Run = Callable[[], None]
Prepare = Callable[[int], Run]

SECOND_NS: Final = 10**9
SECRET: Final = bytes(range(16))
WALL_MS: Final = 1_700_000_000_000
MESSAGE: Final = ONPREM.replace(b"XmuSf", b"XuSf")
TURN: Final = 16
"""Events in one turn of the loop, at some ten thousand a second."""
BATCH: Final = 64
"""Changes in one commit: what arrives while the disk syncs, at some thousand a second."""

ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
)

_SIGNED: Final = (
    b"webhook-id: msg_2KWPBgLlAfxdpx2AI54pPJ85f4W\r\nwebhook-timestamp: 1674087231\r\n"
    b"webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=\r\n"
)


class Step(NamedTuple):
    """What is counted, and over how many of it."""

    prepare: Prepare
    times: int


def _loop(call: Callable[[Any], object], arguments: Iterable[Any]) -> Run:
    """`call` for each of the arguments; the loop costs about 30 instructions, which are counted with it."""
    prepared = list(arguments)

    def run() -> None:
        for argument in prepared:
            call(argument)

    return run


def _key(number: int) -> str:
    return f"ABGGFlA5FpafAgo6tHcNmNjXmuSf-{number:012}"


def _budget() -> TpsBudget:
    return TpsBudget(1000, dict.fromkeys(TpsKind, 1), 0, SECOND_NS)


def budget_granted(count: int) -> Run:
    step_ns = WINDOW_NS // 1000 + 1
    begin_ns = 10 * SECOND_NS
    return _loop(_budget().try_send, range(begin_ns, begin_ns + count * step_ns, step_ns))


def budget_refused(count: int) -> Run:
    budget, now_ns = _budget(), 10 * SECOND_NS
    while budget.try_send(now_ns) == now_ns:
        pass
    return _loop(budget.try_send, [now_ns] * count)


def budget_charge(count: int) -> Run:
    budget = _budget()
    begin_ns = 10 * SECOND_NS
    times = range(begin_ns, begin_ns + count * 100_000, 100_000)
    return _loop(lambda now_ns: budget.charge(TpsKind.RECEIVE, 1, now_ns), times)


def ring(count: int) -> Run:
    rings = PriorityRings([1024] * 4)
    for number in range(512):
        rings.push(number % 4, _key(number), number)

    def step(number: int) -> None:
        rings.push(number & 3, "an item", number)
        rings.pop(EVERY_CLASS)

    return _loop(step, range(count))


def seen_new(count: int) -> Run:
    seen = SeenSet(10_000)
    for number in range(10_000):
        seen.add(fingerprint_str(_key(number), SECRET))
    keys = [_key(10_000 + number) for number in range(count)]
    return _loop(lambda key: seen.add(fingerprint_str(key, SECRET)), keys)


def seen_known(count: int) -> Run:
    seen = SeenSet(10_000)
    for number in range(10_000):
        seen.add(fingerprint_str(_key(number), SECRET))
    return _loop(
        lambda key: fingerprint_str(key, SECRET) in seen, [_key(number % 10_000) for number in range(count)]
    )


def ledger_record(count: int) -> Run:
    ledger = ReceiptLedger(10_000)
    marks = [fingerprint_str(_key(number), SECRET) for number in range(10_000)]
    for mark in marks:
        ledger.record(mark, DELIVERED, 1)
    return _loop(
        lambda mark: ledger.record(mark, DELIVERED, 2), [marks[n * 7 % 10_000] for n in range(count)]
    )


def histogram_record(count: int) -> Run:
    return _loop(LatencyHistogram().record_ns, [number * 1009 % 10**8 for number in range(count)])


def head_scanned(count: int) -> Run:
    """What the WebApp sends before a body."""
    scanner = HeadScanner(b"/webhook", 3 << 20)
    head = (
        b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:9080\r\nContent-Type: application/json\r\n"
        b"User-Agent: WhatsApp Business API\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n"
    ) % len(ONPREM)
    assert scanner.scan(head + ONPREM) == HOT
    return _loop(scanner.scan, [head + ONPREM] * count)


def answer_read(count: int) -> Run:
    """What a backend says to a webhook."""
    assert whole_answer(ANSWER) is not None
    return _loop(whole_answer, [ANSWER] * count)


class _Transport:
    """Takes what is written and forgets it; its methods are built in, and cost next to nothing."""

    def __init__(self) -> None:
        self.write = deque[bytes](maxlen=1).append
        self.is_closing = bool
        self.abort = bool
        self.get_extra_info = dict[str, object]().get
        self.set_write_buffer_limits = float


class _Connector:
    """Connects to nobody at once."""

    def __init__(self) -> None:
        self.protocols: list[Any] = []

    async def connect(self, _origin: Origin, factory: Callable[[], Any], _timeout_s: float) -> Any:
        protocol = factory()
        protocol.connection_made(_Transport())
        self.protocols.append(protocol)
        return protocol


def request_answered(count: int) -> Run:
    """Rendered, written to a kept connection, and its answer read and called back; what the system does is left out."""
    loop = asyncio.new_event_loop()
    connector = _Connector()
    answers = deque[Response](maxlen=1)

    async def connected() -> Endpoint:
        http = HttpClient(
            30_000, 1, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), clock=FakeClock(), connector=connector
        )
        endpoint = http.endpoint(
            "POST", "http://127.0.0.1:8000/webhook", {"Content-Type": "application/json"}
        )
        endpoint.start(ONPREM, _SIGNED, answers.append)
        while not connector.protocols:
            await asyncio.sleep(0)
        return endpoint

    endpoint = loop.run_until_complete(connected())
    [protocol] = connector.protocols
    protocol.data_received(ANSWER)

    def step(body: bytes) -> None:
        endpoint.start(body, _SIGNED, answers.append)
        protocol.data_received(ANSWER)

    step(ONPREM)
    assert answers.pop().status == 200
    return _loop(step, [ONPREM] * count)


def gated(count: int) -> Run:
    """What a worker asks before a request, the request let through, and its end; three others are always under way."""
    gate = Gate(Breaker(500, 5_000, random.Random(1)), ConcurrencyLimit(64), FakeClock())
    under_way = deque(gate.enter(0, is_retry=False) for _ in range(3))

    def step(now_ns: int) -> None:
        assert gate.has_room_for_retry
        assert gate.opens_at_ns(now_ns) <= now_ns
        assert not gate.prefers_fresh
        under_way.append(gate.enter(now_ns, is_retry=False))
        gate.succeed(under_way.popleft(), now_ns)

    return _loop(step, range(0, count * 1_000_000, 1_000_000))


class _Wire:
    """A transport whose client takes everything at once."""

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass


class _Told:
    """How each webhook is answered."""

    status = 200
    reason = ""


_TOLD: Final = _Told()


class _Inside:
    """Has nothing to do with a webhook but to answer it."""

    def take(self, _body: bytes, answer: Callable[[Any], object]) -> None:
        answer(_TOLD)


def webhook_answered(count: int) -> Run:
    """From the bytes that the loop brings to those that it sends. The loop does not run, so its time stands still."""
    request = (
        b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:9080\r\nContent-Type: application/json\r\n"
        b"User-Agent: WhatsApp Business API\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%b"
    ) % (len(ONPREM), ONPREM)
    inside: Any = _Inside()
    ingest = Ingest(
        inside, inside, inside, webhook_path="/webhook", webhook_body_max=3 << 20, push_body_max=1 << 20
    )

    async def connected() -> asyncio.Protocol:
        handler: Any = None
        connection = ingest.front(handler, 1, FakeClock()).connection()
        wire: Any = _Wire()
        connection.connection_made(wire)
        return connection

    connection = uvloop.new_event_loop().run_until_complete(connected())
    connection.data_received(request)  # makes the answer with its date
    return _loop(connection.data_received, [request] * count)


def queued(count: int) -> Run:
    """Pushed, taken and settled, each for another customer."""
    clock = FakeClock()
    loop = asyncio.new_event_loop()

    async def made() -> Backlog[InboundRecord]:
        return inbound_backlog(MemoryStore(clock), clock, has_lanes=True)

    backlog = loop.run_until_complete(made())

    def step(record: InboundRecord) -> None:
        backlog.push(record)
        taken = backlog.take()
        assert taken is record
        backlog.settle(record)

    return _loop(step, [_record(number + 1) for number in range(count)])


def _record(seq: int) -> InboundRecord:
    return InboundRecord(
        seq=seq,
        cls=InboundClass.MESSAGE,
        lane=f"1555010{seq % 10_000:04}",
        body=ONPREM,
        counts=pack_counts([Kind.MESSAGE]),
        received_ms=WALL_MS,
    )


def decoded(body: bytes) -> Prepare:
    return lambda count: _loop(decode, [body] * count)


def usual_decoded(count: int) -> Run:
    assert usual(ONPREM) is not None
    return _loop(usual, [ONPREM] * count)


def received(template: bytes) -> Prepare:
    """Decoded, known to be new, charged, made into a change, and pushed on its commit; the disk is a list."""

    def prepare(count: int) -> Run:
        bodies = [template.replace(b"XuSf", f"-{number:012}".encode()) for number in range(count)]
        assert count == 0 or bodies[0] != template
        loop = asyncio.new_event_loop()

        async def receive(rig: Rig) -> None:
            for body in bodies:
                assert await rig.receive(body) == 200

        async def rigged() -> Rig:
            return Rig()

        rig = loop.run_until_complete(rigged())
        return lambda: loop.run_until_complete(receive(rig))

    return prepare


def received_together(count: int) -> Run:
    """The same, as the front gives them, TURN in one turn of the loop and with one change."""
    bodies = [MESSAGE.replace(b"XuSf", f"-{number:012}".encode()) for number in range(count)]
    loop = asyncio.new_event_loop()
    answers = deque[Any](maxlen=1)

    async def receive(rig: Rig) -> None:
        for at, body in enumerate(bodies, 1):
            rig.receiver.take(body, answers.append)
            if at % TURN == 0:
                await asyncio.sleep(0)

    async def rigged() -> Rig:
        return Rig()

    rig = loop.run_until_complete(rigged())
    return lambda: loop.run_until_complete(receive(rig))


def forwarded(count: int) -> Run:
    """From the queue to a transport, and from its answer to the end on a disk that is a list, TURN in one turn of the loop."""
    loop, clock, connector = asyncio.new_event_loop(), FakeClock(), _Connector()

    async def made() -> Forwarder:
        store = MemoryStore(clock)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        http = HttpClient(30_000, 1, tls, clock=clock, connector=connector)
        backlog = inbound_backlog(store, clock, has_lanes=True)
        gate = Gate(Breaker(500, 5_000, random.Random(1)), ConcurrencyLimit(1), clock)
        forwarder = Forwarder(
            "message", HttpBackend(http, "http://127.0.0.1:8000/webhook"), backlog, gate,
            Singles(backlog, gate, LeastWait(), clock), 500, 5_000, store, Books(), clock, random.Random(1),
        )  # fmt: skip
        backlog.starter = forwarder._courier  # noqa: SLF001 - as its `work` does
        backlog.push(_record(1))
        while not connector.protocols:
            await asyncio.sleep(0)
        connector.protocols[0].data_received(ANSWER)
        return forwarder

    forwarder = loop.run_until_complete(made())
    [protocol] = connector.protocols
    records = [_record(number + 2) for number in range(count)]

    async def forward() -> None:
        for at, record in enumerate(records, 1):
            forwarder.backlog.push(record)
            protocol.data_received(ANSWER)
            if at % TURN == 0:
                await asyncio.sleep(0)
        assert forwarder.verdicts[Verdict.DELIVERED] == count + 1

    return lambda: loop.run_until_complete(forward())


def batch_of_receipts(count: int) -> Run:
    """100 bodies of a receipt each made into one."""
    bodies = [RECEIPT.replace(b"gBEGkYiEB1VX", f"gBEG{number:08}".encode()) for number in range(100)]

    def step(_number: int) -> None:
        batch = Batch()
        for body in bodies:
            batch.add(body)
        batch.body()

    return _loop(step, range(count))


def stored(count: int) -> Run:
    """One commit of 64 new records, and of the end of the 64 before: what SQLite and we execute, not the disk's time."""
    file = SqliteFile(Path(tempfile.mkdtemp(prefix="wa-gateway-bench-", dir=_SCRATCH[0])))
    file.recover(WALL_MS)
    changes: list[list[Change]] = []
    before: list[InboundRecord] = []
    for commit in range(count + 1):
        records = [_record(commit * BATCH + at + 1) for at in range(BATCH)]
        new = [
            Change(inbound=[record], fingerprints=bytes([commit % 256, at] * 4))
            for at, record in enumerate(records)
        ]
        changes.append(new + [Change(inbound_done=[record]) for record in before])
        before = records
    file.apply(changes.pop(0), WALL_MS)
    return _loop(lambda batch: file.apply(batch, WALL_MS), changes)


_SCRATCH: Final[list[str | None]] = [None]


def use_scratch(directory: str) -> None:
    """Where files are made."""
    _SCRATCH[0] = directory


STEPS: Final[dict[str, Step]] = {
    "budget: a send granted": Step(budget_granted, 2000),
    "budget: a send refused": Step(budget_refused, 2000),
    "budget: an arrival charged": Step(budget_charge, 2000),
    "ring: push and pop": Step(ring, 2000),
    "seen: a new key": Step(seen_new, 2000),
    "seen: a known key": Step(seen_known, 2000),
    "ledger: a receipt": Step(ledger_record, 2000),
    "histogram: a span": Step(histogram_record, 2000),
    "http: the head of a webhook": Step(head_scanned, 2000),
    "http: a webhook taken and answered": Step(webhook_answered, 2000),
    "http: the answer of a backend": Step(answer_read, 2000),
    "gate: a request through": Step(gated, 2000),
    "http: a request sent and answered": Step(request_answered, 2000),
    "queue: pushed, taken, settled": Step(queued, 500),
    "decode: On-Premises message": Step(decoded(ONPREM), 500),
    "decode: usual On-Premises message": Step(usual_decoded, 2000),
    "decode: Cloud message": Step(decoded(CLOUD), 500),
    "decode: On-Premises receipt": Step(decoded(RECEIPT), 500),
    "receive: On-Premises message": Step(received(MESSAGE), 300),
    "receive: On-Premises receipt": Step(received(RECEIPT.replace(b"1ZEqA1YKPrU", b"XuSf")), 300),
    "receive: 16 messages together, one": Step(received_together, 320),
    "forward: a message to its end": Step(forwarded, 320),
    "compose: 100 receipts into one body": Step(batch_of_receipts, 10),
    "store: commit of 64 new and 64 done": Step(stored, 10),
}

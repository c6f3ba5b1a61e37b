"""The native connection of the hot front does what the plain one does, and its objects are kept and let go as Python's.

What it promises to clients and to the inside is in `test_http_front.py`, `_difference.py` and `_sockets.py`.
"""

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model.front_connection import ConnectionModel, DoorModel

from gateway._fast.front_connection import HEAD_TIMEOUT_S, IDLE_S, UNREAD_S, Connection, Door
from gateway._fast.http_head import HEAD_MAX_BYTES, HeadScanner
from gateway.http.bodies import BODY_TIMEOUT_S, READING_MAX_BYTES, BodyReader

BODY_MAX = 2 * READING_MAX_BYTES
HEAD = b"POST /webhook HTTP/1.1\r\nHost: gw\r\n"


class Told(NamedTuple):
    status: int
    reason: str = ""


class Around:
    """All that one connection touches; keeps a journal of it."""

    def __init__(self, *, asks_signature: bool = False, admits: bool = True) -> None:
        self.journal: list[tuple[Any, ...]] = []
        self.now = 100.5
        self.admits = admits
        self.bodies = BodyReader()
        self.protocol: Any = None
        self.is_closed_now = False
        self.unsent = 0
        self.chokes = False
        self.stale_at = float("-inf")
        self.asked: list[float] = []
        """For the bytes of the 200; the plain one asks each time."""
        self.is_handed_off = False
        self.waiting: list[Callable[[Told], None]] = []
        self.soon: list[Callable[[], None]] = []
        self.arguments: tuple[Any, ...] = (
            self.take,
            HeadScanner(b"/webhook", BODY_MAX),
            (lambda body, signature: body == signature) if asks_signature else None,
            self,
            self,
            self.bodies,
            BODY_TIMEOUT_S,
            self,
            self,
        )

    # The inside

    def take(self, body: bytes, answer: Callable[[Told], None]) -> None:
        assert type(body) is bytes
        self.journal.append(("take", body))
        if body.startswith(b"late"):
            self.waiting.append(answer)
        else:
            answer(Told(503, "full") if body.startswith(b"full") else Told(200))

    # Answers, and what is unusual

    def ok(self, now: float) -> bytes:
        self.asked.append(now)
        self.stale_at = now // 1 + 1
        return b"ok of %d;" % now

    def answer(self, reception: Told, now: float) -> bytes:
        return f"{reception.status} {reception.reason} at {now};".encode()

    def refusal(self, why: str, now: float, closes: bool) -> bytes:
        assert type(closes) is bool
        return f"{why} at {now}, {closes};".encode()

    def hand_off(self, connection: Any, transport: Any, data: bytes, now: float) -> None:
        assert connection is self.protocol
        assert transport is self
        self.is_handed_off = True
        self.journal.append(("hand off", data, now))

    # The table

    def add(self, guest: Any) -> bool:
        assert guest is self.protocol
        self.journal.append(("add", guest.since))
        return self.admits

    def remove(self, guest: Any) -> None:
        assert guest is self.protocol
        self.journal.append(("remove",))

    # The loop

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    # The transport

    def set_write_buffer_limits(self, high: int) -> None:
        self.journal.append(("limits", high))

    def write(self, data: bytes) -> None:
        self.journal.append(("write", data))
        if self.chokes:
            self.unsent += len(data)
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.journal.append(("pause",))

    def resume_reading(self) -> None:
        self.journal.append(("resume",))

    def is_closing(self) -> bool:
        return self.is_closed_now

    def close(self) -> None:
        self.is_closed_now = True
        self.journal.append(("close",))

    def abort(self) -> None:
        self.is_closed_now = True
        self.journal.append(("abort",))


def connected(**options: bool) -> tuple[Connection, Around]:
    """A native connection on a transport."""
    around = Around(**options)
    connection = Connection(Door(*around.arguments))
    around.protocol = connection
    connection.connection_made(around)  # type: ignore[arg-type]
    around.journal.clear()
    return connection, around


def webhook(body: bytes, fields: bytes = b"") -> bytes:
    return HEAD + b"Content-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)


BODIES = st.sampled_from([b"", b"now", b"full", b"late", b"late 2", b"late and long " + b"x" * 200])
ORDINARY = st.one_of(
    BODIES.map(webhook), BODIES.map(lambda body: webhook(body, b"X-Hub-Signature-256: %b\r\n" % body))
)
UNUSUAL = st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", webhook(b"0", b"Expect: 100-continue\r\n")])
RARELY = st.sampled_from([False, False, False, True])
INSTANTS = st.sampled_from([0.0, 0.25])
TIMES = st.sampled_from([0.0, 0.25, 1.0, BODY_TIMEOUT_S, HEAD_TIMEOUT_S, UNREAD_S, IDLE_S])


class NativeAndPlain(RuleBasedStateMachine):
    """Both are brought the same, and must do the same."""

    @initialize(asks_signature=RARELY)
    def begin(self, asks_signature: bool) -> None:
        self.connect(asks_signature, admits=True)

    @precondition(lambda self: not self.is_ours or self.arounds[0].is_closed_now)
    @rule(asks_signature=RARELY, admits=RARELY.map(lambda rarely: not rarely))
    def connect(self, asks_signature: bool, admits: bool) -> None:
        self.arounds = [Around(asks_signature=asks_signature, admits=admits) for _ in range(2)]
        native, plain = self.arounds
        self.native_door, self.plain_door = Door(*native.arguments), DoorModel(*plain.arguments)
        native.protocol, plain.protocol = Connection(self.native_door), ConnectionModel(self.plain_door)
        self.coming = b""
        self.is_ended = False
        for around in self.arounds:
            around.protocol.connection_made(around)

    @property
    def is_ours(self) -> bool:
        return not (self.is_ended or self.arounds[0].is_handed_off)

    @rule(requests=st.lists(ORDINARY, min_size=1, max_size=3))
    def send(self, requests: list[bytes]) -> None:
        self.coming += b"".join(requests)

    @rule(
        requests=st.lists(ORDINARY, min_size=1, max_size=3),
        at_most=st.sampled_from([20, 60, 10_000]),
        seconds=INSTANTS,
    )
    def send_and_bring(self, requests: list[bytes], at_most: int, seconds: float) -> None:
        self.coming += b"".join(requests)
        if self.is_ours:
            self.bring(at_most, seconds)

    @rule(request=UNUSUAL)
    def send_the_unusual(self, request: bytes) -> None:
        self.coming += request

    @precondition(lambda self: self.is_ours and self.coming)
    @rule(size=st.one_of(st.integers(1, 400), st.just(10_000)), seconds=INSTANTS)
    def bring(self, size: int, seconds: float) -> None:
        self.wait(seconds)
        piece, self.coming = self.coming[:size], self.coming[size:]
        for around in self.arounds:
            around.protocol.data_received(piece)

    @precondition(lambda self: self.is_ours and not self.coming)
    @rule(size=st.integers(HEAD_MAX_BYTES - 1, HEAD_MAX_BYTES + 1))
    def bring_a_line_without_end(self, size: int) -> None:
        for around in self.arounds:
            around.protocol.data_received(HEAD + b"X: ")
            if not around.is_handed_off:
                around.protocol.data_received(b"y" * (size - len(HEAD + b"X: ")))

    @precondition(lambda self: self.is_ours and not self.coming)
    @rule()
    def bring_a_body_that_there_is_no_room_for(self) -> None:
        for around in self.arounds:
            around.bodies.reading_bytes += 1
            around.protocol.data_received(HEAD + b"Content-Length: %d\r\n\r\nx" % (READING_MAX_BYTES + 1))
            around.bodies.reading_bytes -= 1

    @precondition(lambda self: self.arounds[0].waiting)
    @rule(status=st.sampled_from([200, 200, 400, 503]), seconds=INSTANTS)
    def answer(self, status: int, seconds: float) -> None:
        self.wait(seconds)
        for around in self.arounds:
            around.waiting.pop()(Told(status, "why"))

    @rule()
    def turn(self) -> None:
        for around in self.arounds:
            due, around.soon = around.soon, []
            for call in due:
                call()

    @precondition(lambda self: self.is_ours)
    @rule(chokes=st.booleans())
    def stop_reading(self, chokes: bool) -> None:
        for around in self.arounds:
            around.chokes = True
            if chokes:
                around.unsent += 1
                around.protocol.pause_writing()

    @precondition(lambda self: self.is_ours)
    @rule()
    def read_again(self) -> None:
        for around in self.arounds:
            around.chokes, around.unsent = False, 0
            if around.protocol.is_choked:
                around.protocol.resume_writing()

    @rule(seconds=TIMES)
    def wait(self, seconds: float) -> None:
        for around in self.arounds:
            around.now += seconds

    @precondition(lambda self: self.is_ours)
    @rule(seconds=TIMES)
    def wait_and_look_after(self, seconds: float) -> None:
        self.wait(seconds)
        for around in self.arounds:
            around.protocol.expire(around.now)

    @precondition(lambda self: self.is_ours)
    @rule(how=st.sampled_from(["close", "evict", "abort"]))
    def shut(self, how: str) -> None:
        for around in self.arounds:
            getattr(around.protocol, how)()

    @precondition(lambda self: self.is_ours)
    @rule()
    def drain(self) -> None:
        self.native_door.drain()
        self.plain_door.drain()

    @precondition(lambda self: self.is_ours)
    @rule()
    def end(self) -> None:
        self.is_ended = True
        for around in self.arounds:
            around.protocol.connection_lost(None)

    @invariant()
    def same(self) -> None:
        native, plain = self.arounds
        assert native.journal == plain.journal
        assert native.protocol.since == plain.protocol.since
        assert native.protocol.is_idle == plain.protocol.is_idle
        assert native.protocol.is_choked == plain.protocol.is_choked
        assert native.bodies.reading_bytes == plain.bodies.reading_bytes
        assert len(native.waiting) == len(plain.waiting)
        assert len(native.soon) == len(plain.soon)


TestNativeAndPlain = NativeAndPlain.TestCase
TestNativeAndPlain.settings = settings(max_examples=300, stateful_step_count=100, deadline=None)


def test_what_it_answers_with_is_itself() -> None:
    """So nothing is made for it, and a native taker may look for a `Connection`."""
    connection, around = connected()
    connection.data_received(webhook(b"late"))
    assert around.waiting == [connection]
    around.waiting[0](Told(200))
    assert around.journal[-1] == ("write", b"ok of 100;")


def test_keeps_what_comes_although_it_has_stopped_reading() -> None:
    """A transport may have more at hand by then: TLS has whole records."""
    connection, around = connected()
    connection.data_received(webhook(b"late 1"))
    for body in (b"2", b"3", b"4"):
        connection.data_received(webhook(body))
    connection(Told(200))
    [go_on] = around.soon
    go_on()
    assert [what[1] for what in around.journal if what[0] == "take"] == [b"late 1", b"2", b"3", b"4"]


def test_a_client_that_reads_again_does_not_get_ahead_of_its_answer() -> None:
    connection, around = connected()
    connection.data_received(webhook(b"late") + webhook(b"2"))
    connection.pause_writing()
    connection.resume_writing()
    assert [what for what in around.journal if what[0] != "pause"] == [("take", b"late")]


def test_success_is_asked_for_once_a_second() -> None:
    connection, around = connected()
    for now in (100.5, 100.75, 100.999, 101.0, 101.5):
        around.now = now
        connection.data_received(webhook(b"now"))
    assert around.asked == [100.5, 101.0]
    written = [what[1] for what in around.journal if what[0] == "write"]
    assert written == [b"ok of 100;"] * 3 + [b"ok of 101;"] * 2


@pytest.mark.parametrize("status", [200, 503])
def test_one_body_is_answered_once(status: int) -> None:
    connection, around = connected()
    with pytest.raises(AssertionError, match="answered twice"):
        connection(Told(status))
    connection.data_received(webhook(b"late"))
    connection(Told(status))
    before = list(around.journal)
    with pytest.raises(AssertionError, match="answered twice"):
        connection(Told(status))
    assert around.journal == before


def test_what_the_taker_raises_reaches_the_transport() -> None:
    around = Around()

    def take(_body: bytes, _answer: object) -> None:
        raise LookupError("inside")

    connection = Connection(Door(take, *around.arguments[1:]))
    around.protocol = connection
    connection.connection_made(around)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="inside"):
        connection.data_received(webhook(b"now"))


def test_takes_nothing_of_another_type() -> None:
    connection, around = connected()
    untyped: Any = connection
    arguments: Any = (around.take, None, *around.arguments[2:])
    for data in (None, "text", bytearray(b"POST")):
        with pytest.raises(TypeError):
            untyped.data_received(data)
    for make in (lambda: Connection(None), lambda: Door(*arguments)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError):
        untyped(None)


def test_requests_leave_no_references_behind() -> None:
    connection, around = connected()
    body = b"now" + bytes(1000)
    late = webhook(b"late" + body)
    pieces = [webhook(body), webhook(body) * 2 + late[:30], late[30:90], late[90:] + webhook(body)[:-1]]

    def play() -> None:
        for piece in pieces:
            connection.data_received(piece)
        around.waiting.pop()(Told(200))
        for call in around.soon:
            call()
        connection.data_received(b"x")
        around.soon.clear()
        around.journal.clear()

    counted = [connection, around, None, True, b"", *pieces]
    play()
    before, blocks = [sys.getrefcount(item) for item in counted], sys.getallocatedblocks()
    for _ in range(200):
        play()
    changes = [sys.getrefcount(item) - count for item, count in zip(counted, before, strict=True)]
    assert all(abs(change) < 20 for change in changes), changes
    assert abs(sys.getallocatedblocks() - blocks) < 100


def test_a_connection_and_its_transport_are_collected_together() -> None:
    connection, around = connected()
    connection.data_received(webhook(b"late") + webhook(b"now")[:-1])
    gone = weakref.ref(around)
    del connection, around
    gc.collect()
    assert gone() is None


def test_one_that_the_collector_has_emptied_raises_and_does_no_harm() -> None:
    """A destructor of what went with it may still call it."""
    connection, _ = connected()
    other, around = connected()
    other.data_received(webhook(b"late"))
    clear_at = ctypes.c_void_p.from_address(id(Connection) + 24 * ctypes.sizeof(ctypes.c_void_p)).value
    assert clear_at is not None
    # The slot `tp_clear` of the type.
    clear: Any = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(clear_at)
    clear(connection)
    clear(other)
    connection.expire(1000)
    connection.close()
    other(Told(200))
    assert around.journal == [("take", b"late")]
    emptied: Any = connection
    for name, given in (
        ("data_received", webhook(b"now")),
        ("connection_lost", None),
        ("connection_made", around),
    ):
        with pytest.raises(AttributeError, match="NoneType"):
            getattr(emptied, name)(given)

"""The native request and its end: what is written, who is told, and what an answer that came whole says."""

import gc
import weakref

import pytest
from http_rig import OK, Rig, play, settle
from hypothesis import example, given
from hypothesis import strategies as st

from gateway._fast.connection import PIECE_BYTES
from gateway._fast.exchange import Exchange
from gateway._fast.response import Response, unsent

BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno"
IN_PIECES = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Told(Exchange):
    """Notes its end, and lets no Response be made of a usual answer."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, bytes, int] | Response] = []

    def answered(self, status: int, whole: bytes, body_at: int) -> None:
        self.ends.append((status, whole, body_at))

    def settled(self, response: Response) -> None:
        self.ends.append(response)


class Heard(Exchange):
    """Notes its end, whatever it is."""

    def __init__(self) -> None:
        self.responses: list[Response] = []

    def settled(self, response: Response) -> None:
        self.responses.append(response)


# -- who is told


@pytest.mark.parametrize(("raw", "status"), [(OK, 200), (BUSY, 503)])
def test_a_usual_answer_is_given_as_it_came_to_who_wants_it_so(raw: bytes, status: int) -> None:
    async def story(rig: Rig) -> None:
        exchange = Told()
        rig.endpoint.start_exchange(exchange, b"body", b"")
        await settle()
        assert (exchange.ends, exchange.is_over) == ([], False)
        rig.wire.say(raw)
        assert (exchange.ends, exchange.is_over) == ([(status, raw, len(raw) - 2)], True)

    play(story)


@pytest.mark.parametrize("raw", [OK, BUSY, IN_PIECES])
def test_whoever_does_not_gets_a_response_of_any(raw: bytes) -> None:
    async def story(rig: Rig) -> None:
        exchange = Heard()
        rig.endpoint.start_exchange(exchange, b"body", b"")
        await settle()
        rig.wire.say(raw)
        [response] = exchange.responses
        assert (response.status, response.body) == (int(raw[9:12]), b"no" if raw == BUSY else b"ok")
        assert response.headers.get("retry-after") == ("7" if raw == BUSY else None)

    play(story)


@pytest.mark.parametrize("how", ["in pieces", "chunked", "hang up", "time out", "never connected"])
def test_any_other_end_is_a_response(how: str) -> None:
    async def story(rig: Rig) -> None:
        exchange = Told()
        rig.network.error = OSError("no") if how == "never connected" else None
        rig.endpoint.start_exchange(exchange, b"body", b"")
        await settle()
        if how == "in pieces":
            rig.wire.say(OK[:-1])
            rig.wire.say(OK[-1:])
        elif how == "chunked":
            rig.wire.say(IN_PIECES)
        elif how == "hang up":
            rig.wire.hang_up()
        elif how == "time out":
            rig.endpoint.pool.look_at_deadlines(exchange.deadline_ns)
        [response] = exchange.ends
        assert isinstance(response, Response)
        is_answer = how in {"in pieces", "chunked"}
        assert (response.status, response.was_sent) == (
            200 if is_answer else None,
            how != "never connected",
        )

    play(story)


def test_a_cancelled_one_is_over_and_told_nothing() -> None:
    async def story(rig: Rig) -> None:
        exchange = Told()
        rig.endpoint.start_exchange(exchange, b"body", b"")
        await settle()
        exchange.cancel()
        await settle()
        assert (exchange.is_over, exchange.ends, rig.wire.is_closing()) == (True, [], True)

    play(story)


def test_an_exchange_begins_once_and_ends_once() -> None:
    async def story(rig: Rig) -> None:
        exchange, cancelled = Told(), Told()
        rig.endpoint.start_exchange(exchange, b"body", b"")
        with pytest.raises(AssertionError, match="begins once"):
            rig.endpoint.start_exchange(exchange, b"body", b"")
        cancelled.cancel()
        with pytest.raises(AssertionError, match="begins once"):
            rig.endpoint.start_exchange(cancelled, b"body", b"")
        await settle()
        rig.wire.say(OK)
        with pytest.raises(AssertionError, match="answered twice"):
            exchange.settle(unsent("again"))
        assert len(exchange.ends) == 1

    play(story)


def test_a_request_that_is_over_holds_nobody() -> None:
    class Caller:
        def done(self, response: Response) -> None:
            self.status = response.status

    async def story(rig: Rig) -> None:
        gc.disable()
        try:
            for ends_by_cancelling in (False, True):
                caller = Caller()
                exchange = rig.endpoint.start(b"body", b"", caller.done)
                seen = weakref.ref(caller)
                del caller
                await settle()
                assert seen() is not None
                if ends_by_cancelling:
                    exchange.cancel()
                else:
                    rig.wire.say(OK)
                assert seen() is None
        finally:
            gc.enable()

    play(story)


# -- what is written


@given(
    body=st.one_of(st.none(), st.binary(max_size=300)),
    names=st.lists(st.sampled_from([b"A: b\r\n", b"webhook-id: 1\r\n", b"X:\r\n"]), max_size=3),
)
@example(body=b"x" * 9, names=[])
@example(body=b"x" * 10, names=[])
@example(body=b"x" * (PIECE_BYTES - 1), names=[])
@example(body=b"x" * PIECE_BYTES, names=[b"A: b\r\n"])
@example(body=b"x" * (PIECE_BYTES + 1), names=[b"A: b\r\n"])
@example(body=b"x" * 1_234_567, names=[])
def test_a_request_is_its_start_its_headers_its_length_and_its_body(
    body: bytes | None, names: list[bytes]
) -> None:
    async def story(rig: Rig) -> None:
        headers = b"".join(names)
        exchange = Told()
        rig.endpoint.start_exchange(exchange, b"", b"")
        await settle()
        start = rig.wire.taken.removesuffix(b"Content-Length: 0\r\n\r\n")
        rig.wire.say(OK)
        rig.wire.taken = b""
        rig.endpoint.start_exchange(Told(), body, headers)
        if body is None:
            assert rig.wire.taken == start + headers + b"\r\n"
        else:
            assert rig.wire.taken == b"%b%bContent-Length: %d\r\n\r\n%b" % (start, headers, len(body), body)

    play(story)


@pytest.mark.parametrize("headers", [b"A", b"\n", b"A: b", b"A: b\r", b"A: b\n"])
def test_headers_that_do_not_end_their_line_are_not_sent(headers: bytes) -> None:
    async def story(rig: Rig) -> None:
        with pytest.raises(AssertionError, match="end in CR LF"):
            rig.endpoint.start(b"body", headers, lambda response: None)
        await settle()
        assert rig.network.dialled == 0

    play(story)


# -- a response


def plain_headers(head: bytes) -> dict[str, str]:
    """What a head says, in plain Python."""
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        if b":" in line:
            name, _, value = line.partition(b":")
            key, text = name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


LINES = st.lists(
    st.tuples(st.sampled_from([b"A", b"a", b"X-\xe9", b"Retry-After"]), st.binary(max_size=8)), max_size=5
)


@given(lines=LINES)
def test_a_head_is_read_when_it_is_asked_for(lines: list[tuple[bytes, bytes]]) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in lines) + b"\r\n"
    response = Response(200, head, b"body")
    assert response.headers == plain_headers(head)
    assert response.headers is response.headers


def test_body_and_head_of_an_answer_are_cut_once() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(BUSY)
        response = rig.answers[0]
        assert response.body is response.body
        assert response.headers == {"retry-after": "7", "content-length": "2"}
        assert (response.status, response.body, response.error, response.was_sent) == (503, b"no", "", True)

    play(story)


def test_a_response_is_what_it_was_made_of() -> None:
    response = Response(None, {"a": "b"}, b"x", "why", was_sent=False)
    assert (response.status, response.headers, response.body) == (None, {"a": "b"}, b"x")
    assert (response.error, response.was_sent) == ("why", False)

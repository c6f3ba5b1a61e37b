"""The HTTP client on a network in memory: what is sent, what an end at any point means, what is used again."""

import asyncio
import base64
from collections import Counter
from collections.abc import Mapping

import pytest
from http_rig import NO_TLS, OK, URL, Rig, Wire, play, settle, told

from gateway import __version__
from gateway._fast.connection import PIECE_BYTES

REQUEST = (
    f"POST /hook HTTP/1.1\r\nHost: backend.test\r\nUser-Agent: wa-gateway/{__version__}\r\nAccept: */*\r\n"
    "Accept-Encoding: identity\r\nContent-Length: 4\r\n\r\nbody"
).encode()


# -- what is sent


def test_a_request_is_one_write_of_head_and_body() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        assert wire.taken == REQUEST
        wire.say(OK)
        assert told(rig.answers[0]) == (200, b"ok", True)
        assert rig.answers[0].headers == {"content-length": "2"}

    play(story)


@pytest.mark.parametrize(
    ("url", "first", "host"),
    [
        ("http://backend.test", "POST / HTTP/1.1", "backend.test"),
        ("http://backend.test:80/a/../b?c=%20d", "POST /a/../b?c=%20d HTTP/1.1", "backend.test"),
        ("http://backend.test:8080/x#y", "POST /x HTTP/1.1", "backend.test:8080"),
        ("http://backend.test?x", "POST /?x HTTP/1.1", "backend.test"),
        ("https://backend.test/x", "POST /x HTTP/1.1", "backend.test"),
        ("https://backend.test:80/x", "POST /x HTTP/1.1", "backend.test:80"),
        ("http://[2001:DB8::1]:9/x", "POST /x HTTP/1.1", "[2001:db8::1]:9"),
        ("http://[fe80::1%25eth0]/x", "POST /x HTTP/1.1", "[fe80::1]"),
        ("http+unix://%2Frun%2Fbackend.sock/x?y", "POST /x?y HTTP/1.1", "localhost"),
    ],
)
def test_a_url_says_what_is_asked_of_whom(url: str, first: str, host: str) -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent(endpoint=rig.http.endpoint("POST", url, {}))
        lines = wire.taken.decode().split("\r\n")
        assert lines[:2] == [first, f"Host: {host}"]

    play(story)


def test_user_and_password_of_a_url_are_basic_authentication() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent(endpoint=rig.http.endpoint("POST", "http://us%40r:p%3Ass:w@backend.test/", {}))
        secret = base64.b64encode(b"us@r:p:ss:w")
        assert b"\r\nAuthorization: Basic " + secret + b"\r\n" in wire.taken
        assert b"Host: backend.test\r\n" in wire.taken

    play(story)


def test_headers_given_take_the_place_of_ours() -> None:
    async def story(rig: Rig) -> None:
        headers = {"user-agent": "x", "Authorization": "Bearer t", "X-Name": "caf\xe9"}
        endpoint = rig.http.endpoint("POST", "http://u:p@backend.test/", headers)
        wire = await rig.sent(endpoint=endpoint)
        names = Counter(line.partition(b":")[0].lower() for line in wire.taken.split(b"\r\n"))
        assert (names[b"user-agent"], names[b"authorization"], names[b"x-name"]) == (1, 1, 1)
        assert b"X-Name: caf\xe9\r\n" in wire.taken

    play(story)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", b"", None), ("GET", b"x", 1), ("HEAD", b"", None), ("POST", b"", 0), ("DELETE", b"", 0)],
)
def test_a_body_has_a_length_and_a_question_without_one_has_none(
    method: str, body: bytes, length: int | None
) -> None:
    async def story(rig: Rig) -> None:
        asking = asyncio.create_task(rig.http.request(method, URL, body))
        await settle()
        assert (b"Content-Length" in rig.wire.taken) == (length is not None)
        if length is not None:
            assert rig.wire.taken.endswith(b"\r\nContent-Length: %d\r\n\r\n" % length + body)
        rig.wire.say(OK[: -2 if method == "HEAD" else None])
        answer = await asking
        assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else b"ok")

    play(story)


def test_an_answer_to_head_with_a_body_all_the_same_has_none_and_ends_the_connection() -> None:
    async def story(rig: Rig) -> None:
        asking = asyncio.create_task(rig.http.request("HEAD", URL))
        await settle()
        rig.wire.say(OK)
        answer = await asking
        assert (answer.status, answer.body, rig.wire.is_closing()) == (200, b"", True)

    play(story)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (URL, {"X-Name": "a\r\nX-Other: b"}),
        (URL, {"X-Name": "a\nb"}),
        (URL, {"X-Name": "a\0"}),
        (URL, {"X-Name": "\u20ac"}),
        (URL, {"X-Name:": "a"}),
        (URL, {"X Name": "a"}),
        (URL, {"": "a"}),
        (URL, {"Content-Length": "5"}),
        (URL, {"transfer-encoding": "chunked"}),
        (URL, {"Host": "other"}),
        ("http://backend.test/a b", {}),
        ("http://backend.test/a\r\nX: y", {}),
        ("http://backend.test/\xe9", {}),
        ("http:///x", {}),
        ("http://backend.test:99999/", {}),
        ("ftp://backend.test/", {}),
        ("backend.test/x", {}),
        ("http+unix://run/x", {}),
        ("http+unix:///x", {}),
    ],
)
def test_what_can_not_be_sent_is_not_and_secrets_are_not_told(url: str, headers: Mapping[str, str]) -> None:
    async def story(rig: Rig) -> None:
        response = await rig.http.request("POST", url, b"", headers)
        assert told(response) == (None, b"", False)
        assert response.error
        assert "X-Other" not in response.error
        assert rig.network.dialled == 0

    play(story)


# -- what an end at any point means


CHUNKED = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(("raw", "status"), [(OK, 200), (CHUNKED, 201)])
@pytest.mark.parametrize("how", ["hang_up", "reset"])
def test_an_answer_that_ends_early_has_at_most_its_status(raw: bytes, status: int, how: str) -> None:
    head_bytes = raw.index(b"\r\n\r\n") + 4

    async def story(rig: Rig) -> None:
        for number in range(len(raw)):
            wire = await rig.sent()
            if number:
                wire.say(raw[:number])
            assert number not in rig.answers
            getattr(wire, how)()
            await settle()
            assert told(rig.answers[number]) == (status if number >= head_bytes else None, b"", True)
            assert rig.answers[number].error
        assert rig.network.dialled == len(raw)

    play(story)


@pytest.mark.parametrize("raw", [OK, CHUNKED])
def test_an_answer_in_two_pieces_leaves_the_connection_ready(raw: bytes) -> None:
    async def story(rig: Rig) -> None:
        for number in range(1, len(raw)):
            wire = await rig.sent()
            wire.say(raw[:number])
            wire.say(raw[number:])
            assert (rig.answers[number - 1].body, rig.answers[number - 1].error) == (b"ok", "")
        assert rig.network.dialled == 1

    play(story)


def test_a_body_that_looks_like_an_answer_is_none() -> None:
    inner = b"HTTP/1.1 500 Bad\r\nContent-Length: 3\r\n\r\nbad"

    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(inner))
        wire.say(inner)
        assert told(rig.answers[0]) == (200, inner, True)
        assert await rig.sent() is wire
        wire.say(OK)
        assert told(rig.answers[1]) == (200, b"ok", True)

    play(story)


def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(b"HTTP/1.1 200 OK\r\n\r\nok")
        assert rig.answers == {}
        wire.hang_up()
        assert (told(rig.answers[0]), rig.answers[0].error) == ((200, b"ok", True), "")

    play(story)


def test_a_body_that_should_end_with_the_connection_and_is_reset_is_none() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(b"HTTP/1.1 200 OK\r\n\r\nok")
        wire.reset()
        await settle()
        assert told(rig.answers[0]) == (200, b"", True)
        assert "reset" in rig.answers[0].error

    play(story)


# -- which connections are used again


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        OK + b"!",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    ],
)
def test_a_connection_that_ends_or_is_in_doubt_is_not_used_again(raw: bytes) -> None:
    async def story(rig: Rig) -> None:
        first = await rig.sent()
        first.say(raw)
        assert first.is_closing()
        second = await rig.sent()
        second.say(OK)
        assert (rig.answers[1].status, rig.network.dialled) == (200, 2)

    play(story)


@pytest.mark.parametrize("how", ["hang_up", "reset", "say"])
def test_an_idle_connection_that_ends_or_speaks_is_not_used(how: str) -> None:
    async def story(rig: Rig) -> None:
        first = await rig.sent()
        first.say(OK)
        if how == "say":
            first.say(OK)
        else:
            getattr(first, how)()
        await settle()
        assert await rig.sent() is not first
        assert (rig.network.dialled, len(first.taken)) == (2, len(REQUEST))

    play(story)


def test_the_connection_used_last_is_used_first() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(3):
            rig.start()
        await settle()
        first, second, third = rig.network.wires
        for wire in (second, third, first):
            wire.say(OK)
        assert [await rig.sent(), await rig.sent(), await rig.sent()] == [first, third, second]

    play(story)


def test_a_write_that_fails_at_once_is_tried_on_another_connection() -> None:
    async def story(rig: Rig) -> None:
        rig.start()
        rig.start()
        await settle()
        for wire in rig.network.wires:
            wire.say(OK)
            wire.is_broken = True
        wire = await rig.sent()
        wire.say(OK)
        assert told(rig.answers[2]) == (200, b"ok", True)
        assert (rig.network.dialled, wire.taken) == (3, REQUEST)

    play(story)


def test_over_tls_a_write_that_fails_at_once_may_have_sent_something() -> None:
    async def story(rig: Rig) -> None:
        rig.network.prepare = lambda wire: setattr(wire, "tls", NO_TLS)
        wire = await rig.sent()
        wire.say(OK)
        wire.is_broken = True
        rig.start()
        await settle()
        assert (told(rig.answers[1]), rig.network.dialled) == ((None, b"", True), 1)

    play(story)


def test_a_new_connection_on_which_nothing_can_be_written_is_an_error() -> None:
    async def story(rig: Rig) -> None:
        rig.network.prepare = lambda wire: setattr(wire, "is_broken", True)
        rig.start()
        await settle()
        assert (told(rig.answers[0]), rig.network.dialled) == ((None, b"", False), 1)

    play(story)


def test_a_request_that_the_kernel_took_is_never_sent_again() -> None:
    """The server may have closed the kept connection before it read the request, or after: we do not know."""

    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(OK)
        assert await rig.sent() is wire
        wire.hang_up()
        await settle()
        assert (told(rig.answers[1]), rig.network.dialled) == ((None, b"", True), 1)

    play(story)


# -- large bodies


def large_body() -> bytes:
    return bytes(range(256)) * (3 * PIECE_BYTES // 256) + b"end"


def test_a_large_body_is_written_as_far_as_it_is_taken() -> None:
    async def story(rig: Rig) -> None:
        body = large_body()
        rig.network.prepare = lambda wire: setattr(wire, "room", 1000)
        wire = await rig.sent(body)
        while len(wire.taken) < len(body):
            assert len(wire.waiting) <= PIECE_BYTES
            wire.give_room(50_000)
        wire.give_room(None)
        head, _, taken = wire.taken.partition(b"\r\n\r\n")
        assert (taken, head[-22:]) == (body, b"Content-Length: %d" % len(body))
        wire.say(OK)
        assert rig.answers[0].status == 200
        assert await rig.sent() is wire

    play(story)


@pytest.mark.parametrize("body", [b"small", large_body()])
def test_an_early_answer_to_half_a_request_counts_and_ends_the_connection(body: bytes) -> None:
    async def story(rig: Rig) -> None:
        rig.network.prepare = lambda wire: setattr(wire, "room", 10)
        wire = await rig.sent(body)
        wire.say(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        assert told(rig.answers[0]) == (413, b"", True)
        assert (wire.is_closing(), len(wire.taken)) == (True, 10)

    play(story)


def test_half_a_request_on_a_connection_that_ends_may_have_been_sent() -> None:
    async def story(rig: Rig) -> None:
        rig.network.prepare = lambda wire: setattr(wire, "room", 10)
        wire = await rig.sent(large_body())
        wire.reset()
        await settle()
        assert told(rig.answers[0]) == (None, b"", True)

    play(story)


def test_wires_take_what_they_have_room_for() -> None:
    """The rig itself: its transports behave as the loop's."""

    async def story(rig: Rig) -> None:
        rig.network.prepare = lambda wire: setattr(wire, "room", 3)
        wire: Wire = await rig.sent()
        assert (wire.taken, len(wire.waiting)) == (b"POS", len(REQUEST) - 3)

    play(story)

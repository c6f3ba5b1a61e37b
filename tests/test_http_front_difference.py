"""The hot front and bare aiohttp are sent the same bytes, and answer the same and tell the inside the same.

Differences that are accepted, all of them:
- aiohttp forgets requests it has read in the same piece as a broken one; the front has answered them by then. So aiohttp
  gets ordinary requests in pieces of their own here.
- What is wrong within a line that comes in pieces is found when the line ends; each test ends all lines.
- The words of aiohttp's own 400 quote the piece they are about, so they depend on where pieces end.
- The front sends no `Server` field (RFC 9110 leaves that open).
- A head or a body that comes too slowly is answered 408 by the front, and the connection closed. aiohttp closes it without a
  word, or lingers. `test_http_front.py` has those times.
"""

import asyncio
import itertools
import random
from typing import NamedTuple

import pytest
from front_rig import BODY_MAX, Answer, Listener, Wire, answers_in, corpus, listening, settle, webhook
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtual

from gateway._fast.http_head import HOT, HeadScanner

CORPUS = corpus()
REQUESTS = {**CORPUS["ordinary"], **CORPUS["unusual"]}
PUSH = b'POST /v1/messages HTTP/1.1\r\nHost: gw\r\nContent-Length: 10\r\n\r\n{"to":"1"}'
QUERY = b"GET /v1/messages/abc HTTP/1.1\r\nHost: gw\r\n\r\n"
CHUNKED = b"POST /webhook HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
LAST = b"GET /v1/messages/last HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n"
"""Behind everything: whoever still reads requests answers it and closes."""

PATTERN = bytes(range(256))

LINGER_S = 12.0
"""More than aiohttp goes on reading what it has refused, less than any limit of ours."""


class Seen(NamedTuple):
    """All that a client and the inside can tell."""

    answers: list[Answer]
    is_closed: bool
    taken: list[tuple[str, bytes]]
    refused: dict[str, int]
    errors: list[Exception]


def comparable(answers: list[Answer]) -> list[Answer]:
    """Without the words of a 400 that are not ours."""
    return [
        answer._replace(body=b"") if answer.status == 400 and answer.body != b"not JSON\n" else answer
        for answer in answers
    ]


async def send(listener: Listener, wire: Wire, pieces: list[bytes]) -> Seen:
    """Send, and wait until nothing happens any more."""
    listener.inside.taken.clear()
    listener.ingest.refused.clear()
    for piece in pieces:
        wire.feed(piece)
        await settle(20)
    await asyncio.sleep(LINGER_S)
    seen = Seen(
        comparable(answers_in(wire.written)),
        wire.is_closed,
        list(listener.inside.taken),
        dict(listener.ingest.refused),
        wire.errors,
    )
    wire.hang_up()
    await settle()
    return seen


def cut(stream: bytes, cuts: set[int]) -> list[bytes]:
    """The pieces of `stream` between `cuts`."""
    places = sorted({0, len(stream)} | {at for at in cuts if 0 < at < len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def ends_of_ordinary(stream: bytes) -> set[int]:
    """Where each of the ordinary requests ends that `stream` begins with."""
    scanner = HeadScanner(b"/webhook", BODY_MAX)
    ends = set()
    at = 0
    while at < len(stream) and scanner.scan(stream, at) == HOT:
        at = scanner.body_start + scanner.body_size
        ends.add(at)
    return ends


async def compare(front: Listener, bare: Listener, stream: bytes, cuts: set[int]) -> Seen:
    """What both have seen of `stream` in pieces."""
    stream += LAST
    hot = await send(front, front.hot(), cut(stream, cuts))
    plain = await send(bare, bare.plain(), cut(stream, cuts | ends_of_ordinary(stream)))
    assert hot == plain, cut(stream, cuts)
    assert not hot.errors
    assert front.ingest.reading_bytes == bare.ingest.reading_bytes == 0
    return hot


@pytest.mark.parametrize("name", REQUESTS)
def test_same_in_one_piece_and_byte_by_byte(name: str) -> None:
    async def main() -> None:
        async with listening() as front, listening() as bare:
            stream = REQUESTS[name]
            whole = await compare(front, bare, stream, set())
            bytewise = await compare(front, bare, stream, set(range(len(stream))))
            if name in CORPUS["ordinary"]:
                assert [kind for kind, _ in whole.taken] == ["webhook"]
                assert len(whole.answers) == len(bytewise.answers) == 2

    run_virtual(main())


@pytest.mark.parametrize("name", REQUESTS)
def test_same_in_two_pieces_wherever_the_first_ends(name: str) -> None:
    async def main() -> None:
        async with listening() as front, listening() as bare:
            for at in range(1, len(REQUESTS[name])):
                await compare(front, bare, REQUESTS[name], {at})

    run_virtual(main())


@pytest.mark.parametrize("name", REQUESTS)
def test_same_between_ordinary_requests(name: str) -> None:
    """In one read: one that is answered later, one that is answered at once, this one, and one more."""

    async def main() -> None:
        async with listening() as front, listening() as bare:
            before = webhook(b"late 1") + webhook(b"2")
            seen = await compare(front, bare, before + REQUESTS[name] + webhook(b"4"), set())
            assert seen.taken[:2] == [("webhook", b"late 1"), ("webhook", b"2")]

    run_virtual(main())


INTERESTING = [
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\x0b",
    b"\x7f",
    b"\xe9",
    b"0",
    b"A",
    b"\r\n",
    b",",
    b"-",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An ordinary request with up to three places changed."""
    request = draw(st.sampled_from(list(CORPUS["ordinary"].values())))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(request)))
        gone = draw(st.integers(0, 2))
        request = request[:at] + draw(st.sampled_from([b"", *INTERESTING])) + request[at + gone :]
    return request


@st.composite
def with_fields(draw: st.DrawFn) -> bytes:
    """Fields that matter, in any order and number."""
    fields = draw(
        st.lists(
            st.sampled_from(
                [
                    b"Host: gw",
                    b"Content-Length: 3",
                    b"Content-Length: 7",
                    b"Transfer-Encoding: chunked",
                    b"Transfer-Encoding: identity",
                    b"Connection: keep-alive",
                    b"Connection: close",
                    b"Expect: 100-continue",
                    b"Content-Encoding: identity",
                    b"Content-Type: application/json",
                    b"User-Agent: x",
                    b"X: " + b"y" * 3000,
                    b"X: " + b"y" * 8100,
                    b"\r\n".join([b"X: y"] * 62),
                ]
            ),
            min_size=1,
            max_size=6,
        )
    )
    body = draw(st.sampled_from([b"", b"abc", b'{"a":1}', b"3\r\nabc\r\n0\r\n\r\n"]))
    return b"\r\n".join([b"POST /webhook HTTP/1.1", *fields, b"", b""]) + body


STREAMS = st.lists(
    st.one_of(
        st.binary(max_size=300).map(webhook),
        st.integers(0, BODY_MAX + 1).map(lambda size: webhook((PATTERN * 17)[:size])),
        st.sampled_from([webhook(b"late"), webhook(b"bad"), webhook(b"full"), PUSH, QUERY, CHUNKED]),
        st.sampled_from(list(REQUESTS.values())),
        mutated(),
        with_fields(),
    ),
    min_size=1,
    max_size=5,
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(STREAMS, st.lists(st.integers(1, 2 * BODY_MAX), max_size=6).map(set))
def test_same_for_any_row_of_requests_in_any_pieces(stream: bytes, cuts: set[int]) -> None:
    async def main() -> None:
        async with listening() as front, listening() as bare:
            await compare(front, bare, stream, cuts)

    run_virtual(main())


def test_same_for_a_thousand_rows_on_listeners_that_live_on() -> None:
    """Nothing that one connection does is left over for the next."""

    async def main() -> None:
        rng = random.Random(6)
        requests = list(REQUESTS.values())
        taken = 0
        async with listening() as front, listening() as bare:
            for _ in range(1000):
                stream = b"".join(rng.choices([webhook(b"x"), PUSH, QUERY, *rng.choices(requests, k=4)], k=4))
                seen = await compare(front, bare, stream, {rng.randrange(len(stream)) for _ in range(3)})
                taken += len(seen.taken)
        assert taken > 1000

    run_virtual(main())


@pytest.mark.parametrize("name", REQUESTS)
def test_same_when_webhooks_must_be_signed(name: str) -> None:
    async def main() -> None:
        async with listening(app_secret="secret") as front, listening(app_secret="secret") as bare:
            seen = await compare(front, bare, REQUESTS[name], set())
            assert all(kind != "webhook" for kind, _ in seen.taken)

    run_virtual(main())


def test_same_while_draining() -> None:
    async def main() -> None:
        async with listening() as front, listening() as bare:
            front.drain()
            bare.drain()
            for request in (webhook(b"x"), webhook(b"x") * 3, PUSH, QUERY, CHUNKED):
                seen = await compare(front, bare, request, set())
                assert not seen.taken
                if request != QUERY:
                    assert seen.answers[0].status == 503
                    assert seen.answers[0].retry_after == "1"
                    assert seen.is_closed

    run_virtual(main())

"""Answers as they arrive: what generated and hand-picked ones mean, however they are cut, and that two readers agree."""

import gzip
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway._fast.answer import whole_answer
from gateway._fast.response import Response
from gateway.http.answer import ANSWER_MAX_BYTES, HEAD_MAX_BYTES, AnswerReader

HEAD = b"HTTP/1.1 200 OK\r\n"


def read(*pieces: bytes, ends: bool = False, is_head_request: bool = False) -> AnswerReader:
    """A reader that has had `pieces` as far as it wanted, and then the connection's end if `ends`."""
    reader = AnswerReader(is_head_request=is_head_request)
    for piece in pieces:
        if reader.feed(piece):
            return reader
    if ends:
        reader.end("")
    return reader


def got(reader: AnswerReader) -> Response:
    assert reader.response is not None, "not over yet"
    return reader.response


@dataclass
class Made:
    """An answer, and what it means."""

    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    can_reuse: bool
    ends_by_closing: bool


TOKENS = st.text("abcXYZ0189-_", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade", "content-encoding", "trailer"}


@st.composite
def made_answers(draw: st.DrawFn) -> Made:
    status = draw(st.integers(200, 599))
    minor = draw(st.sampled_from([b"1", b"1", b"1", b"0"]))
    body = draw(st.binary(max_size=300))
    has_body = status not in {204, 304}
    framing = draw(st.sampled_from(["length", "length", "chunked", "closing"])) if has_body else "none"
    given_headers = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=5))
    lines = [(name, value) for name, value in given_headers if name.lower() not in FRAMING]
    connection = draw(st.sampled_from(["", "", "keep-alive", "close"]))
    if connection:
        lines.append(("Connection", connection))
    wire = body
    if framing == "length":
        lines.append(("Content-Length", str(len(body))))
    elif framing == "chunked":
        lines.append(("Transfer-Encoding", "chunked"))
        wire = draw(chunked(body))
    lines = draw(st.permutations(lines))
    raw = b""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        raw += b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    raw += b"HTTP/1.%b %d %b\r\n" % (minor, status, draw(st.sampled_from([b"OK", b"", b"Not  so \xe9"])))
    raw += b"".join(f"{name}:{value}\r\n".encode("latin-1") for name, value in lines) + b"\r\n"
    headers: dict[str, str] = {}
    for name, value in lines:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip(' ')}" if key in headers else value.strip(" ")
    return Made(
        raw + (wire if has_body else b""),
        status,
        headers,
        body if has_body else b"",
        can_reuse=framing != "closing" and minor == b"1" and connection != "close",
        ends_by_closing=framing == "closing",
    )


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    wire = b""
    while body:
        size = draw(st.integers(1, len(body)))
        extension = draw(st.sampled_from([b"", b"", b";a=b", b';a="b"']))
        wire += (b"%x" if draw(st.booleans()) else b"%X") % size + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    return wire + b"0\r\n" + draw(st.sampled_from([b"", b"Checksum: 7\r\nX: y\r\n"])) + b"\r\n"


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """`raw` in pieces, none of them empty."""
    at = sorted({place % len(raw) for place in places} - {0})
    return [raw[start:end] for start, end in zip([0, *at], [*at, len(raw)], strict=True)]


@given(made=made_answers(), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_an_answer_means_the_same_however_it_is_cut(made: Made, places: list[int]) -> None:
    reader = read(*cut(made.raw, places), ends=made.ends_by_closing)
    response = got(reader)
    assert (response.status, response.headers, response.body, response.error) == (
        made.status,
        made.headers,
        made.body,
        "",
    )
    assert reader.can_reuse == made.can_reuse


@given(made=made_answers())
def test_an_answer_is_over_with_its_last_byte_and_not_before(made: Made) -> None:
    assert read(made.raw[:-1]).response is None
    assert (read(made.raw).response is None) == made.ends_by_closing


@given(made=made_answers())
def test_an_answer_that_breaks_off_has_at_most_its_status(made: Made) -> None:
    for end in range(1, len(made.raw)):
        reader = read(made.raw[:end])
        response = reader.end("")
        assert not reader.can_reuse
        if response.error:
            assert response.body == b""
            assert response.status in {None, made.status}
        else:
            assert made.ends_by_closing
            assert (response.status, made.body.startswith(response.body)) == (made.status, True)


def mutate(raw: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    for place, how, byte in changes:
        at = place % (len(raw) + 1)
        raw = raw[:at] + byte * (how != "delete") + raw[at + (how != "insert") :]
    return raw


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from(["delete", "insert", "replace"]),
        st.binary(min_size=1, max_size=1),
    ),
    max_size=2,
)


@given(made=made_answers(), changes=CHANGES)
@example(Made(HEAD + b"Content-Length: 2\r\n\r\nok", 200, {}, b"", can_reuse=True, ends_by_closing=False), [])
def test_the_quick_reader_never_sees_what_the_parser_does_not(
    made: Made, changes: list[tuple[int, str, bytes]]
) -> None:
    raw = mutate(made.raw, changes)
    found = whole_answer(raw)
    if found is not None:
        status, body_at = found
        quick = Response(status, raw[:body_at], raw[body_at:])
        reader = read(raw)
        response = got(reader)
        assert (quick.status, quick.headers, quick.body) == (response.status, response.headers, response.body)
        assert (response.error, reader.can_reuse) == ("", True)


def test_the_quick_reader_reads_the_usual_answer() -> None:
    raw = HEAD + b"Server: x\r\ncontent-LENGTH:  5\r\nConnection: Keep-Alive\r\nX-Empty:\r\n\r\nhello"
    assert whole_answer(raw) == (200, len(raw) - 5)
    assert whole_answer(HEAD.replace(b" OK", b"") + b"Content-Length: 0\r\n\r\n") == (200, 37 - 2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HEAD,
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhell",
        HEAD + b"Content-Length: 5\r\n\r\nhello!",
        HEAD + b"Content-Length: 0\r\n\r",
        HEAD + b"Content-Length: 0\r\n\rx",
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        HEAD + b"Content-Length: 5 \r\n\r\nhello",
        HEAD + b"Content-Length: 0000000005\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nProxy-Connection: close\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nUpgrade: h2c\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Go\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_the_quick_reader_leaves_the_unusual_to_the_parser(raw: bytes) -> None:
    assert whole_answer(raw) is None


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\n",
        b"200 OK\r\nContent-Length: 2\r\n\r\n",
        b"<html>nothing but trouble</html>",
    ],
)
def test_an_answer_whose_end_is_open_to_dispute_is_none(head: bytes) -> None:
    assert whole_answer(head + b"ok") is None
    for pieces in ([head + b"ok"], [head[:-1], head[-1:] + b"ok"], [bytes([byte]) for byte in head + b"ok"]):
        reader = read(*pieces)
        response = got(reader)
        assert (response.status, response.body, response.was_sent, reader.can_reuse) == (
            None,
            b"",
            True,
            False,
        )
        assert response.error.startswith("no valid answer: ")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"chunked", b"2 \r\nok\r\n0\r\n\r\n"),
        (b"chunked", b"-2\r\nok\r\n0\r\n\r\n"),
        (b"chunked", b"0x2\r\nok\r\n0\r\n\r\n"),
        (b"chunked", b"ffffffffffffffffff\r\nok\r\n0\r\n\r\n"),
        (b"chunked", b"2\nok\r\n0\r\n\r\n"),
        (b"chunked", b"2\r\nokay\r\n0\r\n\r\n"),
        (b"chunked", b"\r\nok\r\n0\r\n\r\n"),
        (b"gzip", b"ok"),
        (b"identity", b"ok"),
        (b"chunked, chunked", b"2\r\nok\r\n0\r\n\r\n"),
        (b"xchunked", b"2\r\nok\r\n0\r\n\r\n"),
        (b"gzip, chunked", b"2\r\nok\r\n0\r\n\r\n"),
        (b"chunked", b"2\r\nok\r\n0\r\nContent-Length: 2\r\n\r\n"),
        (b"chunked", b"2\r\nok\r\n0\r\nX : y\r\n\r\n"),
        (b"chunked\r\nTransfer-Encoding: identity", b"2\r\nok\r\n0\r\n\r\n"),
    ],
)
def test_a_body_that_is_not_cleanly_chunked_leaves_the_status_alone(coding: bytes, body: bytes) -> None:
    raw = HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + body
    for pieces in ([raw], [bytes([byte]) for byte in raw]):
        reader = read(*pieces, ends=True)
        response = got(reader)
        assert (response.status, response.body, reader.can_reuse) == (200, b"", False)
        assert response.error.startswith("body: ")


@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"H", b"garbage", b"\r\nHTTP/1.1 200 OK\r\n"]
)
@pytest.mark.parametrize(
    "first",
    [
        HEAD + b"Content-Length: 2\r\n\r\nok",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_what_follows_an_answer_does_not_change_it_and_ends_the_connection(first: bytes, more: bytes) -> None:
    reader = read(first + more)
    response = got(reader)
    assert (response.status, response.body, response.error) == (200, b"ok", "")
    assert response.headers.get("content-length", "2") == "2"
    assert not reader.can_reuse


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_ends_with_its_head_whatever_length_it_names(status: int) -> None:
    head = b"HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\n" % status
    assert (got(read(head)).status, got(read(head)).body, read(head).can_reuse) == (status, b"", True)
    assert not read(head + b"hello").can_reuse


def test_the_answer_to_head_ends_with_its_head() -> None:
    reader = read(HEAD + b"Content-Length: 5\r\n\r\n", is_head_request=True)
    assert (got(reader).status, got(reader).body, got(reader).error) == (200, b"", "")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nxyz",
        b"HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_switch_of_protocols_is_no_answer(raw: bytes) -> None:
    assert got(read(raw)).status is None
    assert "switches" in got(read(raw)).error


def test_a_head_may_have_64_kib_and_no_more() -> None:
    start = HEAD + b"X: "
    reader = AnswerReader()
    assert not reader.feed(start + b"x" * (HEAD_MAX_BYTES - len(start)))
    assert reader.feed(b"x")
    assert (got(reader).status, "bytes that are not its body" in got(reader).error) == (None, True)


def test_informational_answers_and_trailers_without_end_are_cut_off() -> None:
    endless = AnswerReader()
    count = 0
    while not endless.feed(b"HTTP/1.1 102 Processing\r\n\r\n"):
        count += 1
    assert count * 27 < HEAD_MAX_BYTES + 27
    assert got(endless).status is None
    trailers = read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n")
    count = 0
    while not trailers.feed(b"X: y\r\n"):
        count += 1
    assert count * 6 < HEAD_MAX_BYTES + 100
    assert (got(trailers).status, got(trailers).body) == (200, b"")


def test_chunks_of_one_byte_are_no_waste_of_framing() -> None:
    body = b"x" * 200_000
    reader = AnswerReader()
    reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        assert not reader.feed(b"1\r\nx\r\n" * 1000)
    assert reader.feed(b"0\r\n\r\n")
    assert (got(reader).body, reader.can_reuse) == (body, True)


@pytest.mark.parametrize("framing", ["length", "chunked", "closing"])
def test_a_body_is_cut_off_at_its_limit_and_the_connection_with_it(framing: str) -> None:
    body = b"x" * (ANSWER_MAX_BYTES + 10)
    head = {
        "length": b"Content-Length: %d\r\n\r\n" % len(body),
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body),
        "closing": b"\r\n",
    }[framing]
    raw = HEAD + head + body
    reader = read(*cut(raw, list(range(0, len(raw), 100_000))))
    assert (got(reader).status, got(reader).body, got(reader).error) == (200, body[:ANSWER_MAX_BYTES], "")
    assert not reader.can_reuse


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    reader = read(HEAD + b"Content-Length: %d\r\n\r\n" % ANSWER_MAX_BYTES, b"x" * ANSWER_MAX_BYTES)
    assert (len(got(reader).body), got(reader).error, reader.can_reuse) == (ANSWER_MAX_BYTES, "", True)


def coded(coding: bytes, body: bytes) -> AnswerReader:
    return read(HEAD + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body)) + body)


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(body) + deflater.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(b"hello")),
        (b"GZIP", gzip.compress(b"hello")),
        (b"x-gzip", gzip.compress(b"hello")),
        (b"deflate", zlib.compress(b"hello")),
        (b"deflate", raw_deflate(b"hello")),
        (b"identity", b"hello"),
    ],
)
def test_a_coded_body_is_understood_though_we_asked_for_none(coding: bytes, body: bytes) -> None:
    reader = coded(coding, body)
    assert (got(reader).body, got(reader).error, reader.can_reuse) == (b"hello", "", True)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"br", b"hello"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"hello"))),
        (b"gzip", b"hello"),
        (b"gzip", gzip.compress(b"hello")[:-9]),
        (b"deflate", b"\xff\xff"),
    ],
)
def test_a_coded_body_that_can_not_be_read_is_an_error_with_its_status(coding: bytes, body: bytes) -> None:
    response = got(coded(coding, body))
    assert (response.status, response.body, response.error[:6]) == (200, b"", "body: ")


def test_a_coded_body_does_not_swell_beyond_the_limit() -> None:
    response = got(coded(b"gzip", gzip.compress(b"\0" * (50 << 20))))
    assert (response.body, response.error) == (b"\0" * ANSWER_MAX_BYTES, "")

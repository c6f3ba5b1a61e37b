"""The scanner of heads: what it takes, what it leaves, and that a plain model says the same."""

import pytest
from front_rig import BODY_MAX, END, HEAD, corpus
from hypothesis import example, given
from hypothesis import strategies as st
from model.http_head import Hot, scan_complete

from gateway._fast.http_head import HEAD_MAX_BYTES, HOT, MORE, OTHER, HeadScanner

ORDINARY = corpus()["ordinary"]
UNUSUAL = corpus()["unusual"]
SCANNER = HeadScanner(b"/webhook", BODY_MAX)
LENGTH = b"Content-Length: 7"


def found(data: bytes, start: int = 0) -> Hot | None:
    """What the scanner says of a complete head."""
    if SCANNER.scan(data, start) != HOT:
        return None
    at = SCANNER.signature_start
    signature = data[at : at + SCANNER.signature_size]
    return Hot(SCANNER.body_start - start, SCANNER.body_size, signature)


@pytest.mark.parametrize("name", ORDINARY)
def test_takes_ordinary_heads_once_they_are_complete(name: str) -> None:
    request = ORDINARY[name]
    hot = found(request)
    assert hot is not None
    assert hot == scan_complete(request, b"/webhook", BODY_MAX)
    assert len(request) == hot.head_size + hot.body_size, "the corpus' requests are whole"
    for size in range(hot.head_size):
        assert SCANNER.scan(request[:size]) == MORE
    assert found(b"before" + request, 6) == hot


@pytest.mark.parametrize("name", UNUSUAL)
def test_leaves_unusual_heads(name: str) -> None:
    request = UNUSUAL[name]
    assert SCANNER.scan(request + b"\r\n\r\n") == OTHER
    assert scan_complete(request + b"\r\n\r\n", b"/webhook", BODY_MAX) is None


def test_says_so_as_soon_as_a_byte_is_wrong() -> None:
    for start in (
        b"G",
        b"POST /x",
        HEAD + b"X\0",
        HEAD + b"X: \x7f",
        HEAD + b"X: a\n",
        HEAD + b"X: a\rb",
        HEAD + b" ",
    ):
        assert SCANNER.scan(start[:-1]) in {MORE, OTHER}
        assert SCANNER.scan(start) == OTHER


SPICE = [
    b"",
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\x7f",
    b"\xe9",
    b"0",
    b"7",
    b"\r\n",
    b"\r\n ",
    b"K",
    b"-",
    b"Host: a\r\n",
]


@given(
    st.sampled_from([*ORDINARY.values(), *UNUSUAL.values()]),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 2), st.sampled_from(SPICE)), max_size=3),
)
@example(ORDINARY["least"], [])
def test_takes_what_the_model_takes(request: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for at, gone, put in changes:
        request = request[:at] + put + request[at + gone :]
    model = scan_complete(request, b"/webhook", BODY_MAX)
    assert found(request) == model
    if b"\r\n\r\n" in request and model is None:
        assert SCANNER.scan(request) == OTHER


@given(st.binary(max_size=80))
def test_takes_what_the_model_takes_behind_a_good_line(rest: bytes) -> None:
    request = HEAD + LENGTH + b"\r\n" + rest + b"\r\n\r\n"
    assert found(request) == scan_complete(request, b"/webhook", BODY_MAX)


def test_takes_64_fields_and_no_more() -> None:
    assert SCANNER.scan(HEAD + b"X: y\r\n" * 62 + LENGTH + END) == HOT
    assert SCANNER.scan(HEAD + b"X: y\r\n" * 63 + LENGTH + END) == OTHER


def test_takes_fields_of_8000_bytes_and_no_more() -> None:
    assert SCANNER.scan(HEAD + b"X: " + b"y" * 7997 + b"\r\n" + LENGTH + END) == HOT
    assert SCANNER.scan(HEAD + b"X: " + b"y" * 7998 + b"\r\n" + LENGTH + END) == OTHER


def test_takes_heads_of_16_kib_and_no_more() -> None:
    field = b"X: " + b"y" * 5000 + b"\r\n"
    rest = HEAD_MAX_BYTES - len(HEAD + 3 * field + LENGTH + b"\r\n\r\n")
    head = HEAD + 3 * field + b"Z: " + b"z" * (rest - 5) + b"\r\n" + LENGTH + b"\r\n\r\n"
    assert len(head) == HEAD_MAX_BYTES
    assert SCANNER.scan(head) == HOT
    assert SCANNER.scan(head[:-1]) == MORE
    longer = head.replace(b"Z: ", b"Z:  ")
    assert SCANNER.scan(longer) == OTHER
    assert SCANNER.scan(longer[:HEAD_MAX_BYTES]) == OTHER


@pytest.mark.parametrize(
    ("length", "verdict"), [(b"4096", HOT), (b"4097", OTHER), (b"9" * 12, OTHER), (b"9" * 30, OTHER)]
)
def test_takes_bodies_up_to_the_limit(length: bytes, verdict: int) -> None:
    assert SCANNER.scan(HEAD + b"Content-Length: " + length + b"\r\n\r\n") == verdict


def test_forgets_the_signature_of_the_head_before() -> None:
    signature = b"X-Hub-Signature-256:  sha256=ab \r\n"
    size = len(HEAD + LENGTH + b"\r\n\r\n")
    assert found(HEAD + signature + LENGTH + END) == Hot(size + len(signature), 7, b"sha256=ab")
    assert found(HEAD + LENGTH + END) == Hot(size, 7, b"")


def test_takes_its_own_path_only() -> None:
    scanner = HeadScanner(b"/", 10)
    assert scanner.scan(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n") == HOT
    assert scanner.scan(HEAD + LENGTH + END) == OTHER


def test_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"start is 2, must be 0\.\.1"):
        SCANNER.scan(b"P", 2)
    with pytest.raises(ValueError, match="start is -1"):
        SCANNER.scan(b"P", -1)
    with pytest.raises(ValueError, match="body_max is -1"):
        HeadScanner(b"/", -1)
    with pytest.raises(TypeError):
        SCANNER.scan(None)  # type: ignore[arg-type]
    assert SCANNER.scan(b"") == MORE

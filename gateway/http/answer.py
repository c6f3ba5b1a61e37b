"""An answer as it arrives, piece by piece: what llhttp makes of it, and our bounds.

Strictness is llhttp's: an answer with two lengths, a length beside chunks, a bare line feed or a folded line is
refused, so nobody can make us see another end of an answer than its sender meant. Beyond that we refuse a transfer
coding that is not exactly `chunked`, and 101, which we never ask for.
"""

import zlib
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway._fast.response import Response, add_header, unanswered

ANSWER_MAX_BYTES: Final = 1 << 20
"""Of an answer's body that is read; a backend's or a node's is a few hundred bytes. The rest is cut off."""

HEAD_MAX_BYTES: Final = 64 << 10
"""Of head, informational answers and trailers together; servers send at most 8 to 16 KiB of head."""

FRAMING_SHARE_MAX: Final = 8
"""Bytes of framing beside one of a body: chunks of a single byte need 5."""

_DEFLATE_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE_WBITS: Final = -15


class AnswerReader:
    """Takes the bytes of one answer; `response` is there once it is over."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_fed_bytes",
        "_has_head",
        "_headers",
        "_is_head_request",
        "_parser",
        "_status",
        "can_reuse",
        "response",
    )

    def __init__(self, *, is_head_request: bool = False) -> None:
        """After a HEAD request, the answer is over with its head, whatever length it names."""
        self._parser = HttpResponseParser(self)
        self._is_head_request = is_head_request
        self._status = 0
        self._headers: dict[str, str] = {}
        self._has_head = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._fed_bytes = 0
        self.response: Response | None = None
        self.can_reuse = False
        """Whether the connection is ready for the next request."""

    def feed(self, data: bytes) -> bool:
        """Read on; True when the answer is over."""
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail("it switches to a protocol that we did not ask for")
        except HttpParserError as error:
            # After the end, it is about bytes that belong to no answer: then the connection is not used again.
            self._fail(str(error) or type(error).__name__)
            self.can_reuse = False
        framing_bytes = self._fed_bytes - self._body_bytes
        if framing_bytes > HEAD_MAX_BYTES + FRAMING_SHARE_MAX * self._body_bytes:
            self._fail(f"more than {HEAD_MAX_BYTES} bytes that are not its body")
        return self.response is not None

    def end(self, error: str) -> Response:
        """The connection has ended, with `error` or (empty) as it should: the answer as far as it came."""
        ends_by_closing = not self._headers.keys() & {"content-length", "transfer-encoding"}
        if self.response is None and self._has_head and ends_by_closing and not error:
            self._complete()
        self._fail(error or "the connection was closed before its end")
        assert self.response is not None
        return self.response

    def _fail(self, why: str) -> None:
        if self.response is None:
            if self._has_head:
                self.response = Response(self._status, self._headers, b"", f"body: {why}")
            else:
                self.response = unanswered(f"no valid answer: {why}")

    def _complete(self) -> None:
        body = b"".join(self._body)[:ANSWER_MAX_BYTES]
        coding = self._headers.get("content-encoding", "identity").strip().lower()
        if body and coding != "identity":
            try:
                body = _decode(body, coding)
            except (ValueError, zlib.error) as error:
                self._fail(str(error))
                return
        self.response = Response(self._status, self._headers, body)

    # -- called by the parser

    def on_message_begin(self) -> None:
        if self.response is not None:
            self.can_reuse = False  # a second answer, to nothing

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            add_header(self._headers, name, value)

    def on_headers_complete(self) -> None:
        if self._has_head:
            return
        status = self._parser.get_status_code()
        if status == 101:
            self._fail("it switches to a protocol that we did not ask for")
        elif status < 200:
            self._headers = {}
        else:
            self._status = status
            self._has_head = True
            if self._is_head_request:
                self._complete()
            elif self._headers.get("transfer-encoding", "chunked").lower() != "chunked":
                self._fail("its transfer coding is not chunked")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self.response is None:
            self._body.append(data)
            if self._body_bytes > ANSWER_MAX_BYTES:
                self._complete()

    def on_message_complete(self) -> None:
        if self.response is None and self._has_head:
            self._complete()
            parser = self._parser
            self.can_reuse = parser.should_keep_alive() and parser.get_http_version() == "1.1"


def _decode(body: bytes, coding: str) -> bytes:
    """At most `ANSWER_MAX_BYTES` of what `body` stands for. Raises ValueError or zlib.error."""
    if coding not in _DEFLATE_WBITS:
        raise ValueError(f"content coding {coding[:40]!r}, though we accept none")
    try:
        return _inflate(body, _DEFLATE_WBITS[coding])
    except zlib.error:
        # Some servers take "deflate" for deflate without its zlib wrapping.
        if coding != "deflate":
            raise
        return _inflate(body, _RAW_DEFLATE_WBITS)


def _inflate(body: bytes, wbits: int) -> bytes:
    inflater = zlib.decompressobj(wbits)
    plain = inflater.decompress(body, ANSWER_MAX_BYTES)
    if len(plain) < ANSWER_MAX_BYTES and not inflater.eof:
        raise ValueError("its compressed data breaks off")
    return plain

"""What a request of ours came to."""


class Response:
    """An answer: `status` is None when there was none, and `error` says why.

    `status` with an `error` is an answer whose body broke off; the body is empty then.
    """

    __slots__ = ("_headers", "body", "error", "status", "was_sent")

    def __init__(
        self,
        status: int | None,
        headers: dict[str, str] | bytes,
        body: bytes,
        error: str = "",
        *,
        was_sent: bool = True,
    ) -> None:
        """`headers` are a mapping with names in lower case, or a head as it came, which is read when asked for."""
        self.status = status
        self._headers = headers
        self.body = body
        self.error = error
        self.was_sent = was_sent
        """False when the request certainly did not reach the other side."""

    @property
    def headers(self) -> dict[str, str]:
        """By name in lower case; values of one name are joined by a comma."""
        if isinstance(self._headers, bytes):
            self._headers = _read_head(self._headers)
        return self._headers


def add_header(headers: dict[str, str], name: bytes, value: bytes) -> None:
    """Put one into `headers` as `Response.headers` has them."""
    key, text = name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")
    headers[key] = f"{headers[key]}, {text}" if key in headers else text


def unsent(error: str) -> Response:
    """No answer, as nothing was sent."""
    return Response(None, {}, b"", error, was_sent=False)


def unanswered(error: str) -> Response:
    """No answer to what was sent, at least in part."""
    return Response(None, {}, b"", error)


def _read_head(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            add_header(headers, name, value)
    return headers

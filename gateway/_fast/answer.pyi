"""The answer nearly every server gives, read in one pass."""

def whole_answer(data: bytes) -> tuple[int, int] | None:
    """Status and start of the body of an HTTP/1.1 answer with one Content-Length that `data` is exactly; else None.

    None does not say that `data` is wrong: it may be chunked, encoded, cut short, of a status without a body, or followed
    by something. Then `gateway.http.answer` reads it.
    """

"""What a request of ours came to."""

from typing import final

@final
class Response:
    """An answer: `status` is None when there was none, and `error` says why.

    `status` with an `error` is an answer whose body broke off; the body is empty then.
    """

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

    @property
    def status(self) -> int | None:
        """As the server said it."""

    @property
    def headers(self) -> dict[str, str]:
        """By name in lower case; values of one name are joined by a comma. Read when first asked for."""

    @property
    def body(self) -> bytes:
        """All of it, or as much as is read of one."""

    @property
    def error(self) -> str:
        """Why there is no answer or no body; empty when all is well."""

    @property
    def was_sent(self) -> bool:
        """False when the request certainly did not reach the other side."""

def add_header(headers: dict[str, str], name: bytes, value: bytes) -> None:
    """Put one into `headers` as `Response.headers` has them."""

def unsent(error: str) -> Response:
    """No answer, as nothing was sent."""

def unanswered(error: str) -> Response:
    """No answer to what was sent, at least in part."""

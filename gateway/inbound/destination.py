"""A destination of the backend as a forwarder sees it: what is asked of it, and what it says."""

from collections.abc import Callable
from typing import Protocol

from gateway._fast.endpoint import BaseEndpoint
from gateway._fast.response import Response
from gateway.events import InboundRecord
from gateway.store.protocol import Change


class BackendAnswer:
    """What the backend said; `status` None when it said nothing."""

    __slots__ = ("body", "error", "retry_after", "status", "was_sent")

    def __init__(
        self,
        status: int | None,
        body: bytes = b"",
        retry_after: str | None = None,
        error: str = "",
        *,
        was_sent: bool = True,
    ) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.error = error
        self.was_sent = was_sent
        """False when the request certainly did not reach the backend."""

    @property
    def reason(self) -> str:
        """It in a few words."""
        return f"no answer: {self.error}" if self.status is None else f"HTTP {self.status}"


class Request(Protocol):
    """A request under way."""

    def cancel(self) -> object:
        """Wait for its answer no longer."""


class Route(Protocol):
    """The native way to a destination."""

    @property
    def endpoint(self) -> BaseEndpoint:
        """Where requests begin."""

    def answer_of(self, response: Response, /) -> BackendAnswer:
        """What an endpoint's response says."""


class Backend(Protocol):
    """How a destination is called."""

    route: Route | None
    """The native way, where there is one: then it is taken, and not `post_soon`."""

    def post_soon(self, body: bytes, headers: bytes, done: Callable[[BackendAnswer], None], /) -> Request:
        """POST `body`, with header lines that end in CR LF beside the backend's own.

        `done` is called once, later and on the loop, and does not raise; after `cancel` never.
        """


class ReplySink(Protocol):
    """Who takes the instant replies. Handed in, because inbound does not know outbound."""

    def add_replies(self, record: InboundRecord, answer: bytes, change: Change) -> None:
        """Put the replies in `answer` to `record` into `change`, which also settles the record."""

"""One request on its way, and the answer it waits for."""

from collections.abc import Callable
from typing import Protocol

from gateway.http.response import Response

Done = Callable[[Response], None]
"""Takes the answer. It must not raise: it runs inside the connection's protocol."""


class Holder(Protocol):
    """Who has an exchange at the moment: the pool's queue, a connection being made, or a connection."""

    def abandon(self, exchange: "Exchange") -> None:
        """Its caller does not want it any more."""


class Exchange:
    """A request and who waits for its answer, which comes exactly once, or never after `cancel`."""

    __slots__ = ("_done", "body", "deadline_ns", "head", "holder", "is_head_request")

    def __init__(self, head: bytes, body: bytes, deadline_ns: int, done: Done, is_head_request: bool) -> None:
        """`head` may have a small body behind it already; then `body` is empty."""
        self.head = head
        self.body = body
        self.deadline_ns = deadline_ns
        self.is_head_request = is_head_request
        self.holder: Holder | None = None
        self._done: Done | None = done

    @property
    def is_over(self) -> bool:
        return self._done is None

    def settle(self, response: Response) -> None:
        """Give the answer."""
        done, self._done, self.holder = self._done, None, None
        assert done is not None, "answered twice"
        done(response)

    def cancel(self) -> None:
        """Want no answer: nobody is called, and a connection that it uses is closed. Harmless when it is over."""
        holder, self.holder = self.holder, None
        self._done = None
        if holder is not None:
            holder.abandon(self)

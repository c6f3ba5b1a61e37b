"""Where many requests go to, and their heads."""

from collections.abc import Callable
from typing import Self

from typing_extensions import disjoint_base

from gateway._fast.connection import BasePool
from gateway._fast.exchange import Exchange
from gateway._fast.response import Response

@disjoint_base
class BaseEndpoint:
    """One method of one URL. What is the same for all requests to it is rendered once."""

    def __new__(cls, pool: BasePool, start: bytes, is_head_request: bool) -> Self:
        """`start` is the request line and the headers of all requests, each line with its CR LF."""

    @property
    def pool(self) -> BasePool:
        """Its connections."""

    def start(self, body: bytes, headers: bytes, done: Callable[[Response], None]) -> Exchange:
        """Begin a request; `done` gets the answer, later and once, and must not raise.

        `headers` are lines as `render_headers` makes them, and not checked again. The exchange can be cancelled.
        """

    def start_exchange(self, exchange: Exchange, body: bytes | None, headers: bytes) -> None:
        """As `start`, with an exchange that tells its end itself. A request has no body and no length with None."""

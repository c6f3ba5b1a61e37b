"""A connection to a server: one request at a time, and its answer.

The usual answer arrives whole and is read in one call, in `_fast.connection`, as all that a connection does besides.
Anything else goes to an `AnswerReader`.

Not done: pipelining. And no second try of a request of which the kernel took bytes, even where the server closed a
kept connection without a word, which RFC 9112 9.3.1 allows for idempotent requests only. Ours are POSTs that
make people's phones ring. It stays rare: an idle connection that the server closes leaves the pool at once.
"""

import asyncio

from gateway._fast.connection import BaseConnection
from gateway.http.answer import AnswerReader


class Connection(BaseConnection, asyncio.Protocol):
    """Owned by a pool."""

    __slots__ = ()

    def new_reader(self, is_head_request: bool) -> AnswerReader:
        """For an answer that is not the usual one."""
        return AnswerReader(is_head_request=is_head_request)

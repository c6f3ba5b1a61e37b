"""One request on its way, and the answer it waits for."""

from typing import Protocol

from typing_extensions import disjoint_base

from gateway._fast.response import Response

class _Holder(Protocol):
    """Who has an exchange at the moment: the pool's queue, a connection being made, or a connection."""

    def abandon(self, exchange: Exchange, /) -> None:
        """Its caller does not want it any more."""

@disjoint_base
class Exchange:
    """A request and who waits for its answer, which comes exactly once, or never after `cancel`.

    `Endpoint.start` makes those that call a function. To be told without one, override `settled` and give an instance
    to `start_exchange`, once. Neither `settled` nor `answered` may raise: they run inside the connection's protocol.
    """

    @property
    def deadline_ns(self) -> int:
        """When it ends without an answer."""

    @property
    def is_head_request(self) -> bool:
        """Whether the answer is a head alone."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended or was cancelled."""

    def held_by(self, holder: _Holder) -> None:
        """Who is told when it is cancelled, from now on."""

    def settle(self, response: Response) -> None:
        """Give the answer, once: AssertionError when it is over."""

    def cancel(self) -> None:
        """Want no answer: nobody is called, and a connection that it uses is closed. Harmless when it is over."""

    def answered(self, status: int, whole: bytes, body_at: int) -> None:
        """Called with a usual answer: all of it as it came, and where its body starts. By default, `settled` gets it."""

    def settled(self, response: Response) -> None:
        """Called with any answer that `answered` does not keep to itself, and when there is none. By default, calls `done`."""

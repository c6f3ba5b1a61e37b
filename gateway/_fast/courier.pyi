"""From the queue to the backend and to the end on disk, in one step each: the usual record of the usual destination."""

from collections.abc import Callable
from typing import Any, Self, final

from gateway._fast.backlog import HotBacklog, Starter
from gateway._fast.books import BookTotals
from gateway._fast.endpoint import BaseEndpoint
from gateway._fast.exchange import Exchange
from gateway._fast.gate import GateCore
from gateway._fast.histogram import LatencyHistogram
from gateway._fast.limit import Passage
from gateway._fast.sieve import ReceiptSieve
from gateway._fast.stamps import Stamper
from gateway._fast.waits import LeastWait

@final
class Courier(Starter):
    """Carries records to one destination. All calls on the loop."""

    is_draining: bool
    """Nothing is started any more, and `ended` is called at each end."""
    gives_way: bool
    """Nothing is started while what was taken before waits for its place."""

    def __new__(
        cls,
        *,
        backlog: HotBacklog[Any],
        gate: GateCore,
        waits: LeastWait | None,
        sieve: ReceiptSieve | None,
        endpoint: BaseEndpoint | None,
        post_soon: Callable[[bytes, bytes, Any], Any],
        stamper: Stamper | None,
        lines: Callable[[list[Any], bytes, int], bytes],
        clock: Any,
        gather: Callable[[Callable[[], Any]], object],
        hurry: Callable[[], object],
        make_change: Callable[..., Any],
        entry_of: Callable[[Any, Any, int], Any],
        kinds: tuple[Any, ...],
        delivered: Any,
        books: BookTotals,
        unusual: Callable[[Errand, Any], object],
        recovered: Callable[[], object],
        ended: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> Self:
        """Takes from `backlog` through `gate`, and posts to `endpoint`, or (None) by `post_soon(body, lines, errand)`.

        `waits`: told how long each that was never tried has waited; None: nothing is started but what `carry` is given.
        `sieve`: which records go as they are; None: all do.
        `lines(records, body, wall_ms)` are a request's own header lines; of a single record they are the stamper's, if there
        is one. `gather` and `hurry` are the store's; `make_change` and `entry_of(kind, outcome, count)` make a Change and a
        BookEntry, of `kinds` (all inbound ones, else ValueError) and with the outcome `delivered`, which go to `books`.
        `unusual(errand, answer)` gets what is no plain success: a Response from an endpoint, or what `post_soon` has answered.
        `recovered()`: an answer has ended a time of trouble. `failed(error)`: one of these raised.
        """

    @property
    def under_way(self) -> set[Errand]:
        """Errands without an answer."""

    @property
    def settling(self) -> int:
        """Ends that are not on disk yet."""

    @property
    def delivered(self) -> int:
        """Plain successes."""

    @property
    def latency(self) -> LatencyHistogram:
        """From acceptance to the backend's 2xx, of each request's first record."""

    def want_bodies(self) -> None:
        """A success whose body says anything is not plain."""

    def start_ready(self) -> bool:
        """Start what may go, each record as a request of its own, until the gate closes or nothing is ready.

        Whether it starts what becomes ready: not where it is not to, nor while one is left that the sieve does not let through.
        """

    def take_left(self) -> tuple[Any, bool] | None:
        """The record that was taken and does not go as it is, and whether it has been tried before; nothing starts until then."""

    def carry(self, records: list[Any], body: bytes, parcel: Any, passage: Passage) -> None:
        """Post `body` for `records`, which are taken; `parcel` None: it is one record, byte for byte."""

    def cancel(self) -> None:
        """Want no answers any more."""

@final
class Errand(Exchange):
    """One request of a courier. Called with what `post_soon` answers."""

    @property
    def records(self) -> list[Any]: ...
    @property
    def parcel(self) -> Any: ...
    @property
    def passage(self) -> Passage: ...
    def __call__(self, answer: Any) -> None: ...

@final
class Ends:
    """Records that were delivered in one turn of the loop."""

    @property
    def records(self) -> list[Any]: ...
    def stored(self) -> None:
        """That is on disk: the queue lets them go."""

    def failed(self, error: object) -> None:
        """It can't be stored."""

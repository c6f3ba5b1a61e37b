"""The usual webhook on its way in, in one step, and many of them in one change."""

from collections.abc import Callable
from typing import Any, Self, final

from gateway._fast.backlog import HotBacklog
from gateway._fast.books import BookTotals
from gateway._fast.ledger import ReceiptLedger
from gateway._fast.seen import SeenSet
from gateway._fast.waits import LeastWait

@final
class Intake:
    """Where webhooks come in. All calls on the loop."""

    pending: int
    """Webhooks waiting for the disk; whoever takes unusual ones counts them here too."""
    on_webhook: Any
    """Called for each unusual one, and once for the usual ones of a batch; None: nobody is."""

    def __new__(
        cls,
        *,
        take_unusual: Callable[[bytes, Any, int], object],
        plain_kinds: Callable[[], int],
        gather: Callable[[Callable[[], Any]], object],
        make_change: Callable[..., Any],
        next_seq: Callable[[], int],
        clock: Any,
        charge: Callable[[Any, int, int], object],
        tell: Callable[[Any, str, str, int], object],
        make_record: Callable[..., Any],
        entry_of: Callable[[Any, None, int], Any],
        note_receipt: Callable[[int], object],
        refusal_of: Callable[[Any], Any],
        ok: Any,
        books: BookTotals,
        waits: LeastWait,
        forms: tuple[tuple[Any, bytes, Any, Any], ...],
        backlogs: list[HotBacklog[Any]],
        seen: SeenSet,
        charged: SeenSet,
        ledger: ReceiptLedger,
        secret: bytes,
        pending_max: int,
    ) -> Self:
        """`take_unusual(body, answer, now_ns)` takes what is not usual, and everything beyond `pending_max`.

        `plain_kinds()`, asked once for each batch: a bit for each usual event of which nothing has to be decided, at
        2 x kind, or one higher in groups. `gather` is `Store.gather`. `make_change`, `make_record` and
        `entry_of(kind, None, count)` make a Change, an InboundRecord and a BookEntry. `note_receipt(received_ms)` is
        told of the first receipt of a batch that is entered in `ledger` and is on the way to its log.
        `forms` has class, counts, budget kind (None: it costs nothing) and kind of each of the five usual events, and
        `backlogs` the queue of each of the three classes. `ok` is what is answered, or `refusal_of(error)` when it can't be
        stored. `waits` is told how long, in ms, the last of a batch waited for the disk. `seen`, `ledger`, `books` and
        `secret` (16 bytes, else ValueError) are those of the receiver; so is `charged`, and what is in it is not usual.
        """

    @property
    def webhooks(self) -> int:
        """All that came."""

    def take(self, body: bytes, answer: Callable[[Any], object]) -> None:
        """Take one webhook body. `answer` is called once, with `ok` when what came is on disk."""

@final
class Batch:
    """Usual webhooks that came in one turn of the loop."""

    @property
    def records(self) -> list[Any]: ...
    @property
    def answers(self) -> list[Callable[[Any], object]]: ...
    @property
    def fingerprints(self) -> bytearray:
        """Little-endian u64 each."""

    @property
    def ledger_items(self) -> bytearray:
        """As `ReceiptLedger.apply_log` reads them."""

    @property
    def latest_ns(self) -> int:
        """When the last of them came."""

    def stored(self) -> None:
        """They are on disk: into the queues, and answer."""

    def failed(self, error: object) -> None:
        """They can't be stored: refuse them."""

"""A receiver on a store in memory, with two queues, for the tests of it."""

from builders import MemoryStore, inbound_backlog

from gateway._fast.ledger import ReceiptLedger
from gateway._fast.seen import SeenSet, fingerprint
from gateway.clock import FakeClock
from gateway.events import InboundClass, Kind, TpsKind
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.receipt_book import ReceiptBook
from gateway.inbound.receive import Receiver
from gateway.overload.ladder import Ladder, Policies
from gateway.store.books import Books

STORE_MAX = 1_000_000
SECRET = bytes(16)


class Rig:
    """A receiver on a store in memory, with two queues."""

    def __init__(
        self,
        *,
        holds_commits: bool = False,
        seen_max: int = 1000,
        policies: Policies | None = None,
        dry_run: frozenset[str] = frozenset(),
        wall_ms: int = 1_700_000_000_000,
    ) -> None:
        self.clock = FakeClock(wall_ms=wall_ms)
        self.store = MemoryStore(self.clock, holds_commits=holds_commits)
        self.messages = inbound_backlog(self.store, self.clock)
        self.events = inbound_backlog(self.store, self.clock)
        self.books = Books()
        self.charged: list[tuple[TpsKind, int, int]] = []
        self.told: list[tuple[TpsKind, str, str]] = []
        seen = SeenSet(seen_max)
        self.ladder = Ladder(policies or Policies(), self.clock.now_ns(), dry_run)
        self.receipts = ReceiptBook(ReceiptLedger(1000), SECRET, 3_600_000)
        self.gatekeeper = Gatekeeper(
            self.ladder,
            self.receipts.mask_of,
            lambda key: fingerprint(key.encode(), SECRET) in seen,
        )
        self.receiver = Receiver(
            self.store,
            STORE_MAX,
            {
                InboundClass.MESSAGE: self.messages,
                InboundClass.FAILURE: self.events,
                InboundClass.RECEIPT: self.events,
            },
            seen,
            SECRET,
            self.books,
            self.gatekeeper,
            self.receipts,
            lambda kind, count, now_ns: self.charged.append((kind, count, now_ns)),
            self.clock,
            lambda kind, message_id, participant, now_ns: self.told.append((kind, message_id, participant)),
        )

    async def receive(self, body: bytes) -> int:
        return (await self.receiver.receive(body)).status

    def assert_books_balance(self) -> None:
        waiting = {
            kind: self.messages.waiting().get(kind, 0) + self.events.waiting().get(kind, 0) for kind in Kind
        }
        assert self.books.difference(waiting) == 0

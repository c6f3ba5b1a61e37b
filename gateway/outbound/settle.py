"""The end of a send: its outcome, the books, the queue and the status told of it, in one change of the store."""

from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.events import Kind, Outcome, SendRecord
from gateway.store.backlog import Backlog
from gateway.store.books import Books, outcome_entries
from gateway.store.protocol import Change, Settled, Store


class Ended(Protocol):
    """Who tells the backend of sends that did not reach WhatsApp. Handed in: outbound does not know inbound."""

    def tell(
        self, record: SendRecord, outcome: Outcome, reason: str, code: int | None, change: Change
    ) -> None:
        """Put the status that tells of it into `change`, or nothing when nobody wants it.

        `code` is the node's; None where it named none. It takes a sequence number: submit `change` before anything
        is awaited.
        """


class Settler:
    """Settles sends. All calls on the loop."""

    def __init__(self, store: Store, backlog: Backlog[SendRecord], books: Books, clock: Clock) -> None:
        self._store = store
        self._backlog = backlog
        self._books = books
        self._clock = clock
        self.ended: Ended | None = None
        """Told of sends that failed, expired or were cancelled; None: nobody is."""
        self.on_named: Callable[[SendRecord, str], bytes] = lambda _record, _node_id: b""
        """Given a send and the id that WhatsApp gave it: items for the receipt ledger, kept with the send's end."""
        self.on_settled: Callable[[Settled], None] = lambda _settled: None
        """Called once an end is on disk."""

    async def settle(
        self,
        record: SendRecord,
        outcome: Outcome,
        node_id: str = "",
        reason: str = "",
        code: int | None = None,
    ) -> bool:
        """End a send that was taken from the queue. Waits for the disk; False when it failed.

        Then the send stays taken and on disk, and the process is about to end.
        """
        change = self.add(Change(), record, outcome, node_id, reason, code)
        try:
            await self._store.submit(change)
        except StoreError:
            return False
        return True

    def add(
        self,
        change: Change,
        record: SendRecord,
        outcome: Outcome,
        node_id: str = "",
        reason: str = "",
        code: int | None = None,
        let_go: Callable[[SendRecord], None] | None = None,
    ) -> Change:
        """`change`, with the end of a send in it. Submit it before anything is awaited.

        `let_go` takes it out of the queue once that is on disk; by default it is one that was taken.
        """
        books = outcome_entries([(Kind.SEND, 1)], outcome)
        let_go = let_go or self._backlog.settle
        settled = Settled(record, outcome, node_id, reason, self._clock.wall_ms())

        def on_commit() -> None:
            self._books.apply(books)
            let_go(record)
            self.on_settled(settled)

        change.settled.append(settled)
        change.books += books
        change.on_commit.append(on_commit)
        if node_id:
            change.ledger_items += self.on_named(record, node_id)
        if outcome is not Outcome.DELIVERED and self.ended is not None:
            self.ended.tell(record, outcome, reason, code, change)
        return change

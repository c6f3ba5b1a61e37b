"""Dead letters back into their queues, or away for good.

Accepted anew. A dead letter that is retried gets a new sequence number, and with it a new id and a place at the end of its
class: queues and tables are in that order, and the books count it as accepted once more, beside the outcome it had. Its
time is that of the retry: were it the old one, the queue would seem to have waited for days, and receipts be shed for it.
The row leaves `parked` in the transaction that makes it waiting again, so it is never in both and never in none.

Bounds. Pages of 256 rows or 4 MB, one after the other.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.events import InboundClass, InboundRecord, SendRecord
from gateway.outbound.accept import Acceptor
from gateway.store.backlog import Backlog
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change, OpenStore, Parked, ParkedQuery

PAGE: Final = 256
"""Rows read, and moved by one change."""


class DeadLetters:
    """What an operator may do with them. Calls are made on the loop."""

    def __init__(
        self,
        store: OpenStore,
        backlogs: Mapping[InboundClass, Backlog[InboundRecord]],
        acceptor: Acceptor,
        books: Books,
        clock: Clock,
    ) -> None:
        self._store = store
        self._backlogs = backlogs
        self._acceptor = acceptor
        self._books = books
        self._clock = clock
        self._changing = asyncio.Lock()
        """One retry or discard at a time, so that what was read is still there when it is moved."""

    async def retry(self, query: ParkedQuery, limit: int) -> dict[int, int]:
        """Accept at most `limit` anew, oldest first; their sequence numbers, old to new. Raises StoreError."""
        moved: dict[int, int] = {}
        async with self._changing:
            # What fails again while we are at it has a higher number: it is not tried twice.
            query = msgspec.structs.replace(query, upto_seq=self._store.next_seq() - 1)
            while page := await self._page(query, limit - len(moved)):
                now_ms = self._clock.wall_ms()
                # From here to the submission without a wait, so that queues get them in the order of their numbers.
                change = Change()
                for parked in page:
                    moved[parked.record.seq] = self._add(change, parked, now_ms)
                await self._store.submit(change)
        return moved

    async def discard(self, query: ParkedQuery, limit: int) -> int:
        """Delete at most `limit`, oldest first; how many. Raises StoreError."""
        count = 0
        async with self._changing:
            query = msgspec.structs.replace(query, upto_seq=self._store.next_seq() - 1)
            while page := await self._page(query, limit - count):
                count += len(page)
                await self._store.submit(Change(unparked=[parked.record.seq for parked in page]))
        return count

    async def _page(self, query: ParkedQuery, left: int) -> list[Parked]:
        """The oldest: those before them are gone."""
        return await self._store.read_parked(query, 0, min(PAGE, left)) if left else []

    def _add(self, change: Change, parked: Parked, now_ms: int) -> int:
        """Put it into `change` as accepted now; its new sequence number."""
        seq = self._store.next_seq()
        change.unparked.append(parked.record.seq)
        if isinstance(parked.record, InboundRecord):
            self._add_inbound(
                change, msgspec.structs.replace(parked.record, seq=seq, received_ms=now_ms, attempts=0)
            )
        else:
            self._acceptor.add(change, [self._send_anew(parked.record, seq, now_ms)])
        return seq

    def _add_inbound(self, change: Change, record: InboundRecord) -> None:
        books = accepted_entries(record.kind_counts())

        def on_commit() -> None:
            self._books.apply(books)
            self._backlogs[record.cls].push(record)

        change.inbound.append(record)
        change.books += books
        change.on_commit.append(on_commit)

    def _send_anew(self, record: SendRecord, seq: int, now_ms: int) -> SendRecord:
        ttl_ms = record.expires_ms - record.accepted_ms
        return msgspec.structs.replace(
            record,
            seq=seq,
            id=self._store.send_id(seq),
            accepted_ms=now_ms,
            expires_ms=now_ms + ttl_ms if record.expires_ms else 0,
            batch="",  # it is a send of its own, and its batch has ended
            attempts=0,
            is_uncertain=False,
        )

"""Ends of sends that never go: expired, or cancelled."""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.clock import Clock
from gateway.events import Outcome, SendRecord
from gateway.outbound.queue import SendQueue
from gateway.outbound.settle import Settler
from gateway.store.protocol import Change, Store

_EXPIRED: Final = "its time to live is over"


class Endings:
    """Ends sends without the node. All calls on the loop."""

    def __init__(self, store: Store, queue: SendQueue, settler: Settler, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._settler = settler
        self._clock = clock

    def has_expired(self, record: SendRecord) -> bool:
        """Whether it is too late to send it."""
        return 0 < record.expires_ms <= self._clock.wall_ms()

    def expire(self, record: SendRecord) -> None:
        """A send that was taken from the queue is not sent any more. Does not wait for the disk."""
        change = self._settler.add(Change(), record, Outcome.EXPIRED, reason=_EXPIRED)
        # If the disk fails the process ends, and the store has said why: the send is read back and expires again.
        self._store.submit(change).add_done_callback(lambda done: done.cancelled() or done.exception())

    def expire_all(self, records: Sequence[SendRecord]) -> asyncio.Future[None]:
        """As `cancel`, of sends whose time to live is over."""
        return self._end(records, Outcome.EXPIRED, _EXPIRED)

    def cancel(self, records: Sequence[SendRecord]) -> asyncio.Future[None]:
        """Sends that were withdrawn from the queue, or are scheduled, are not wanted any more.

        The future is done when that is on disk; it raises StoreError when the disk fails.
        """
        return self._end(records, Outcome.CANCELLED, "cancelled")

    def _end(self, records: Sequence[SendRecord], outcome: Outcome, reason: str) -> asyncio.Future[None]:
        change = Change()
        for record in records:
            let_go = self._queue.unschedule if record.is_scheduled else self._queue.drop
            self._settler.add(change, record, outcome, reason=reason, let_go=let_go)
        return self._store.submit(change)

"""The push API, built and connected: from its door to the queue of sends, and what is asked and changed of them."""

import asyncio

import msgspec

from gateway.app.send_rate import SendRate
from gateway.clock import Clock
from gateway.config import Settings
from gateway.dialects.dialect import Dialect
from gateway.events import SendClass
from gateway.inbound.receipt_book import ReceiptBook
from gateway.outbound.accept import Acceptor, Bounds
from gateway.outbound.answers import PushAnswer, Refusals
from gateway.outbound.batches import Batches
from gateway.outbound.changes import Changes
from gateway.outbound.door import Door
from gateway.outbound.endings import Endings
from gateway.outbound.expiry import Expiry
from gateway.outbound.idempotency import Keys
from gateway.outbound.node_answers import NodeAnswers
from gateway.outbound.options import UNCERTAIN_POLICIES
from gateway.outbound.pace import Pacer
from gateway.outbound.push import Pushes
from gateway.outbound.queries import Queries
from gateway.outbound.queue import SendQueue
from gateway.outbound.schedule import Schedule
from gateway.outbound.send import Sender
from gateway.outbound.settle import Settler
from gateway.outbound.waits import Waits
from gateway.outbound.withdrawals import Withdrawals
from gateway.store.books import Books
from gateway.store.protocol import OpenStore, Settled


class PushParts:
    """The parts, as attributes."""

    def __init__(
        self,
        settings: Settings,
        store: OpenStore,
        books: Books,
        queue: SendQueue,
        dialect: Dialect,
        clock: Clock,
        rate: SendRate,
        receipts: ReceiptBook,
    ) -> None:
        self._clock = clock
        self._receipts = receipts
        self.refusals = Refusals(dialect)
        self._door = Door(tuple(token.reveal() for token in settings.push_tokens), self.refusals)
        self.authorise = self._door.authorise
        self.waits = Waits(queue, rate)
        bounds = Bounds(
            store_max_bytes=settings.store_max_bytes,
            queue_max=settings.send_queue_max,
            ttl_ms=settings.send_ttl_ms,
            wait_max_ms=settings.send_wait_max_ms,
        )
        self.acceptor = Acceptor(store, queue, bounds, dialect, books, clock, self.refusals, self.waits)
        self.acceptor.on_uncertain = UNCERTAIN_POLICIES[settings.uncertain]
        self.keys = Keys(store, settings.idempotency_age_ms, clock)
        self.node_answers = NodeAnswers(dialect)
        self.pushes = Pushes(
            self.acceptor,
            self.keys,
            self.node_answers,
            store,
            dialect,
            clock,
            self.refusals,
            wait_ms=settings.push_wait_ms,
        )
        self.batches = Batches(self.acceptor, self.keys, clock, self.refusals)
        self.queries = Queries(store, self.refusals, self._receipts_of)
        self._store = store
        self._queue = queue
        for cls, count in store.recovered.scheduled_counts.items():
            queue.restore_scheduled(cls, count)

    def connect(self, pacer: Pacer, sender: Sender, settler: Settler) -> None:
        """Connect with what sends. Once, before anything is pushed."""
        changing = asyncio.Lock()
        front = pacer.front
        endings = Endings(self._store, self._queue, settler, self._clock)
        front.has_expired = endings.has_expired
        front.expire = endings.expire
        withdrawals = Withdrawals(self._queue, self._clock)
        withdrawals.release = front.release
        withdrawals.forget = front.forget
        self.changes = Changes(
            self._store, self._queue, endings, self.queries, self.refusals, withdrawals, changing
        )
        self.expiry = Expiry(self._store, self._queue, withdrawals, endings, self._clock, changing)
        self.schedule = Schedule(self._store, self._queue, self._clock, changing)
        sender.on_answer = self.node_answers.answered

        def on_settled(settled: Settled) -> None:
            sender.forget(settled.record.seq)
            self.node_answers.ended(settled)

        settler.on_settled = on_settled

        def paused_ms(cls: SendClass) -> int:
            return max(pacer.paused_ms(), pacer.bulk_paused_ms() if cls is SendClass.BULK else 0)

        self.waits.paused_ms = paused_ms

    def refuse_large(self, limit_bytes: int) -> PushAnswer:
        """The refusal of a body over `limit_bytes`."""
        return self.refusals.answer(self.refusals.large(limit_bytes))

    def _receipts_of(self, node_id: str) -> object:
        known = self._receipts.look(node_id, self._clock.wall_ms())
        return None if known is None else msgspec.to_builtins(known)

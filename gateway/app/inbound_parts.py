"""The inbound side, from the webhook's door to the backend: every part of it, built and connected."""

import random
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Final

from gateway._fast.breaker import Breaker
from gateway._fast.ledger import ReceiptLedger
from gateway._fast.limit import ConcurrencyLimit
from gateway._fast.seen import SeenSet, fingerprint
from gateway._fast.sieve import ReceiptSieve
from gateway._fast.waits import LeastWait
from gateway.clock import Clock
from gateway.config import OFF, Settings
from gateway.config.values import parse_signing_key
from gateway.events import InboundClass, InboundRecord, TpsKind
from gateway.inbound.admit import Gatekeeper
from gateway.inbound.compose import Composer
from gateway.inbound.destination import Backend
from gateway.inbound.early import EarlyReceipts
from gateway.inbound.forward import UNDER_WAY_SHARE, Forwarder
from gateway.inbound.gate import Gate
from gateway.inbound.limit import partition
from gateway.inbound.monitor import Monitor
from gateway.inbound.picks import BatchBounds, Batches, Picks, Singles
from gateway.inbound.rate import BackendRate
from gateway.inbound.receipt_book import ReceiptBook
from gateway.inbound.receive import Receiver
from gateway.inbound.signature import Signer
from gateway.ops.memory import MemoryGauge
from gateway.overload.ladder import Ladder, Policies
from gateway.overload.pressure import Pressure, Sample
from gateway.store.backlog import Backlog
from gateway.store.books import Books
from gateway.store.lanes import Lanes
from gateway.store.protocol import OpenStore, Place

PROBE_MAX_MS: Final = 5_000
"""Longest wait between two probes of a destination: so late at most is a message once the backend is back,
and one request in five seconds hurts nobody."""

_contact_of: Final[Callable[[InboundRecord], str]] = attrgetter("lane")
"""Whose messages keep their order: the contact's, or the group's; a body of several goes by its first."""


class InboundParts:
    """The parts, as attributes. Make it on the loop."""

    def __init__(
        self,
        settings: Settings,
        store: OpenStore,
        books: Books,
        clock: Clock,
        rng: random.Random,
        message_backend: Backend,
        event_backend: Backend,
    ) -> None:
        self._settings = settings
        self._store = store
        self._books = books
        self._clock = clock
        self._rng = rng
        self.messages = self._backlog(InboundClass.MESSAGE)
        self.events = self._backlog(InboundClass.FAILURE, InboundClass.RECEIPT)
        self.backlogs = {
            InboundClass.MESSAGE: self.messages,
            InboundClass.FAILURE: self.events,
            InboundClass.RECEIPT: self.events,
        }
        """By the class of what goes into them."""
        self.early = EarlyReceipts(self.events, clock)
        self.message_waits, self.receipt_waits = LeastWait(), LeastWait()
        self.seen = SeenSet(settings.dedupe_keys)
        self.seen.add_packed(store.recovered.fingerprints)
        self.receipts = ReceiptBook(
            ReceiptLedger(settings.ledger_messages), store.secret, settings.ledger_age_ms
        )
        self.receipts.restore(store.recovered)
        self.gatekeeper = self._gatekeeper()
        self.pressure = Pressure(settings.receipts_wait_max_ms)
        self._memory = MemoryGauge()
        self.rate: BackendRate | None = None
        if settings.backend_tps:
            self.rate = BackendRate(
                settings.backend_tps, clock.now_ns(), is_dry_run="backend_tps" in settings.dry_run
            )
        self.message_forwarder, self.event_forwarder = self._forwarders(message_backend, event_backend)
        self.forwarders = [self.message_forwarder, self.event_forwarder]
        self.receiver: Receiver
        self.monitor = Monitor(self.pressure, self.gatekeeper, self._look, self._has_work, clock)

    def open_door(
        self,
        charge: Callable[[TpsKind, int, int], None],
        tell: Callable[[TpsKind, str, str, int], None],
    ) -> Receiver:
        """The receiver; what it is given says `charge` and `tell` of it."""
        self.receiver = Receiver(
            self._store,
            self._settings.store_max_bytes,
            self.backlogs,
            self.seen,
            self._store.secret,
            self._books,
            self.gatekeeper,
            self.receipts,
            charge,
            self._clock,
            tell,
        )
        self.receiver.on_webhook = self.monitor.wake
        return self.receiver

    def _backlog(self, *classes: InboundClass) -> Backlog[InboundRecord]:
        settings, store = self._settings, self._store

        async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
            return await store.read_inbound(InboundClass(cls), after_seq, limit)

        async def read_behind(places: Sequence[Place]) -> list[InboundRecord]:
            return await store.find_inbound(places)

        made: Backlog[InboundRecord] = Backlog(
            len(InboundClass),
            settings.queue_slots,
            settings.queue_slots + UNDER_WAY_SHARE * settings.backend_concurrency,
            read_page,
            attrgetter("received_ms"),
            self._clock,
            lanes=Lanes(_contact_of, read_behind) if InboundClass.MESSAGE in classes else None,
        )
        for cls in classes:
            made.restore(cls, store.recovered.inbound_counts[cls], store.recovered.inbound_kinds[cls])
        return made

    def _gatekeeper(self) -> Gatekeeper:
        settings, seen, secret = self._settings, self.seen, self._store.secret

        def mark_of(key: str) -> int:
            return fingerprint(key.encode(errors="surrogatepass"), secret)

        policies = Policies(
            sent=settings.receipts_sent,
            delivered=settings.receipts_delivered,
            read=settings.receipts_read,
            group=settings.receipts_group,
            digests=settings.receipts_digest,
        )
        return Gatekeeper(
            Ladder(policies, self._clock.now_ns(), settings.dry_run),
            self.receipts.mask_of,
            lambda key: mark_of(key) in seen,
            is_off=settings.event_webhook_url == OFF,
            mark_of=mark_of,
        )

    # -- to the backend

    def _forwarders(self, message_backend: Backend, event_backend: Backend) -> tuple[Forwarder, Forwarder]:
        settings, clock = self._settings, self._clock
        message_max, event_max = partition(
            settings.backend_concurrency, settings.message_webhook_url, settings.event_webhook_url
        )
        message_gate = self._gate(message_max, lambda _: False)
        message = self._forwarder(
            "message",
            message_backend,
            self.messages,
            message_gate,
            Singles(self.messages, message_gate, self.message_waits, clock),
        )
        event_gate = self._gate(event_max, message.needs_token)
        event = self._forwarder("event", event_backend, self.events, event_gate, self._batches(event_gate))
        return message, event

    def _gate(self, highest: int, yields_to: Callable[[int], bool]) -> Gate:
        settings = self._settings
        wait_max_ms = min(settings.backend_backoff_max_ms, PROBE_MAX_MS)
        return Gate(
            Breaker(settings.backend_backoff_min_ms, wait_max_ms, self._rng),
            ConcurrencyLimit(highest),
            self._clock,
            self.rate,
            yields_to,
            is_dry_run="concurrency" in settings.dry_run,
        )

    def _forwarder(
        self, name: str, backend: Backend, backlog: Backlog[InboundRecord], gate: Gate, picks: Picks
    ) -> Forwarder:
        settings = self._settings
        return Forwarder(
            name,
            backend,
            backlog,
            gate,
            picks,
            settings.backend_backoff_min_ms,
            settings.backend_backoff_max_ms,
            self._store,
            self._books,
            self._clock,
            self._rng,
            attempts_max=settings.backend_attempts,
            signer=Signer(
                self._store.send_id,
                [parse_signing_key(secret.reveal()) for secret in settings.webhook_secret],
            ),
        )

    def _batches(self, gate: Gate) -> Batches:
        settings = self._settings
        return Batches(
            Singles(self.events, gate, self.receipt_waits, self._clock),
            self.events,
            Composer(
                self.gatekeeper,
                self.receipts.tally,
                settings.receipts_age_max_ms,
                drops_old="age" not in settings.dry_run,
            ),
            self.gatekeeper,
            BatchBounds(settings.batch_receipts, settings.batch_bytes, settings.batch_delay_ms),
            self._clock,
            self.early,
            ReceiptSieve(
                self.receipts.ledger,
                self._store.secret,
                settings.receipts_age_max_ms,
                self.gatekeeper.forwards_each,
                self.early.may_be_nameless,
            ),
        )

    # -- how hard it is pressed

    def _look(self, late_ms: float) -> Sample:
        settings, receiver = self._settings, self.receiver
        # What no commit ended in this interval waits at least as long as the interval.
        stuck_ms = self._store.oldest_wait_ms() if receiver.pending else 0.0
        depth = self.events.depth(InboundClass.RECEIPT)
        receipt_wait_ms = self.receipt_waits.take(lambda: self._age_ms(self.events, InboundClass.RECEIPT))
        if self.gatekeeper.ladder.batches_at_rest:
            receipt_wait_ms -= settings.batch_delay_ms  # a wait that the operator asked for is no pressure
        if self.event_forwarder.gate.closed_by:
            receipt_wait_ms = 0.0  # nor is this one: what he isolated is kept, as long as there is room
        return Sample(
            receipt_wait_ms=max(0.0, receipt_wait_ms),
            message_wait_ms=self.message_waits.take(
                lambda: self._age_ms(self.messages, InboundClass.MESSAGE)
            ),
            store_lag_ms=receiver.waits.take(lambda: stuck_ms),
            loop_lag_ms=late_ms,
            queue_fill=depth / settings.queue_slots,
            disk_fill=self._store.used_bytes() / settings.store_max_bytes,
            memory_fill=self._memory.fill(),
        )

    def _age_ms(self, backlog: Backlog[InboundRecord], cls: InboundClass) -> float:
        """How old the next is that was never tried. One that fails again and again is no reason to shed others."""
        first_ms = backlog.first_stamp(cls)
        return 0.0 if first_ms < 0 else self._clock.wall_ms() - first_ms

    def _has_work(self) -> bool:
        return bool(self.receiver.pending or self.messages.total() or self.events.total())

    # -- what is kept of receipts

    async def checkpoint(self) -> None:
        """Put the receipt ledger on disk as pages, which take the place of its log; without what is too old, if all is."""
        self.receipts.forget(self._clock.wall_ms())
        change = self.receipts.checkpoint()
        if change is not None:
            await self._store.submit(change)

    def would_have(self) -> Mapping[str, int]:
        """What limiters in a dry run would have held or dropped, by name."""
        return {
            "concurrency": sum(forwarder.gate.would_have for forwarder in self.forwarders),
            "backend_tps": self.rate.would_have if self.rate is not None else 0,
            **self.gatekeeper.would_have,
        }

"""Every part of the gateway, built from Settings and connected. Nothing here waits or runs."""

import random
import ssl
from collections.abc import Callable

from gateway._fast.seen import SeenSet
from gateway.app.bridges import HttpBackend, InstantReplies
from gateway.budget.tps import TpsBudget
from gateway.clock import Clock
from gateway.config import Settings
from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, Kind, SendClass, SendRecord, TpsKind
from gateway.http.client import HttpClient, tls_context
from gateway.inbound.forward import Forwarder
from gateway.inbound.receive import Receiver
from gateway.node.client import NodeClient
from gateway.ops.metrics import Queue
from gateway.outbound.accept import Acceptor
from gateway.outbound.alarm import KernelAlarm
from gateway.outbound.pace import Pacer
from gateway.outbound.send import Sender
from gateway.store.backlog import Backlog
from gateway.store.books import Books
from gateway.store.sqlite_store import SqliteStore


class Parts:
    """The parts, as attributes. Make it on the loop; `close` at the end."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        on_store_failure: Callable[[StoreError], None],
    ) -> None:
        """Open the store and build everything on it.

        Raises StoreError, and OSError or ssl.SSLError for certificates that can't be read.
        """
        self.settings = settings
        self.clock = clock
        self.dialect: Dialect = Cloud() if settings.dialect == "cloud" else OnPrem()
        # What can fail comes before what must be closed; the store is last of these and undoes itself.
        node_tls = tls_context(settings.node_ca, verifies=settings.node_tls_verify)
        backend_tls = tls_context(settings.backend_ca)
        self.store = SqliteStore(settings.store_path, clock, on_store_failure)
        self.node = self._node(node_tls)
        self.backend_clients = {
            name: HttpClient(settings.backend_timeout_ms, settings.backend_concurrency, backend_tls)
            for name in ("message", "event")
        }
        self.books = Books(self.store.recovered.books)
        costs = {kind: settings.tps_cost.of(kind) for kind in TpsKind}
        self.budget = TpsBudget(settings.tps, costs, settings.tps_headroom_percent, clock.now_ns())
        self._build_inbound(rng)
        self._build_outbound(rng)
        self._build_doors()
        self.queues = [
            Queue("inbound", {InboundClass.MESSAGE: "message"}, self.messages),
            Queue("inbound", {InboundClass.FAILURE: "failure", InboundClass.RECEIPT: "receipt"}, self.events),
            Queue("outbound", {cls: cls.label for cls in SendClass}, self.sends),
        ]
        self.forwarders = [self.message_forwarder, self.event_forwarder]

    def _node(self, tls: ssl.SSLContext) -> NodeClient:
        settings = self.settings
        http = HttpClient(settings.node_timeout_ms, settings.node_connections, tls)
        if settings.dialect == "cloud":
            token = settings.node_token.reveal() if settings.node_token else ""
            return NodeClient(
                http, settings.node_url, f"/{settings.node_phone_id}/messages", self.dialect, token=token
            )
        password = settings.node_password.reveal() if settings.node_password else ""
        return NodeClient(
            http, settings.node_url, "/v1/messages", self.dialect, user=settings.node_user, password=password
        )

    def _build_inbound(self, rng: random.Random) -> None:
        settings, store, clock = self.settings, self.store, self.clock

        def backlog(*classes: InboundClass) -> Backlog[InboundRecord]:
            async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
                return await store.read_inbound(InboundClass(cls), after_seq, limit)

            made: Backlog[InboundRecord] = Backlog(
                len(InboundClass),
                settings.queue_slots,
                settings.queue_slots,
                read_page,
                lambda record: record.received_ms,
                clock,
            )
            for cls in classes:
                made.restore(cls, store.recovered.inbound_counts[cls], store.recovered.inbound_kinds[cls])
            return made

        self.messages = backlog(InboundClass.MESSAGE)
        self.events = backlog(InboundClass.FAILURE, InboundClass.RECEIPT)

        def forwarder(name: str, url: str, backlog: Backlog[InboundRecord]) -> Forwarder:
            return Forwarder(
                name,
                HttpBackend(self.backend_clients[name], url),
                backlog,
                settings.backend_concurrency,
                settings.backend_backoff_min_ms,
                settings.backend_backoff_max_ms,
                store,
                self.books,
                clock,
                rng,
            )

        self.message_forwarder = forwarder("message", settings.message_webhook_url, self.messages)
        self.event_forwarder = forwarder("event", settings.event_webhook_url, self.events)

    def _build_outbound(self, rng: random.Random) -> None:
        settings, store, clock = self.settings, self.store, self.clock

        async def read_page(cls: int, after_seq: int, limit: int) -> list[SendRecord]:
            return await store.read_sends(SendClass(cls), after_seq, limit)

        self.sends: Backlog[SendRecord] = Backlog(
            len(SendClass),
            settings.queue_slots,
            settings.queue_slots,
            read_page,
            lambda record: record.accepted_ms,
            clock,
        )
        for send_class, count in store.recovered.send_counts.items():
            self.sends.restore(send_class, count, {Kind.SEND: count})
        self._alarm = KernelAlarm()
        self.pacer = Pacer(self.sends, self.budget, self._alarm, clock)
        self.sender = Sender(
            self.node, self.pacer, self.sends, settings.send_attempts, store, self.books, clock, rng
        )

    def _build_doors(self) -> None:
        settings, store = self.settings, self.store
        seen = SeenSet(settings.dedupe_keys)
        seen.add_packed(store.recovered.fingerprints)
        self.receiver = Receiver(
            store,
            settings.store_max_bytes,
            {
                InboundClass.MESSAGE: self.messages,
                InboundClass.FAILURE: self.events,
                InboundClass.RECEIPT: self.events,
            },
            seen,
            store.secret,
            self.books,
            self.budget.charge,
            self.clock,
        )
        self.acceptor = Acceptor(
            store,
            settings.store_max_bytes,
            self.sends,
            settings.send_queue_max,
            tuple(token.reveal() for token in settings.push_tokens),
            self.dialect,
            self.books,
            self.clock,
        )
        self.instant_replies = InstantReplies(self.acceptor, self.dialect)
        self.message_forwarder.replies = self.instant_replies

    async def close(self) -> None:
        """Close the store, with what was submitted on disk, and all connections."""
        await self.store.close()
        self._alarm.close()
        await self.node.close()
        for client in self.backend_clients.values():
            await client.close()

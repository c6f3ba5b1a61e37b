"""Every part of the gateway, built from Settings and connected. Nothing here waits or runs."""

import random
import ssl
from collections.abc import Callable
from typing import Final

from gateway._fast.seen import SeenSet
from gateway.app.bridges import HttpBackend, InstantReplies
from gateway.budget.classes import ClassShares
from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.history import SecondsHistory
from gateway.budget.metered import MeteredBudget
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.budget.shards import shard_part
from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_MS, Clock
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
from gateway.node.groups import GroupAsker
from gateway.node.watch import NodeWatch
from gateway.ops.metrics import Queue
from gateway.outbound.accept import Acceptor
from gateway.outbound.alarm import KernelAlarm
from gateway.outbound.front import Front
from gateway.outbound.pace import Pacer
from gateway.outbound.send import Sender
from gateway.store.backlog import Backlog
from gateway.store.books import Books
from gateway.store.sqlite_store import SqliteStore

OTHER_CALLS: Final = 3
"""Calls to the node beside sends, at most at once: a login, a group's size, the statistics."""

SENDS_DELAYED_MAX: Final = 65_536
"""Sends of a class that may wait for a retry or for their recipient's slot: at one each 6 s, four days for one
recipient, before its class waits with it."""


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
        self.plan_tps = settings.tps
        """The whole number's plan; `set_plan` changes it."""
        self.budget = TpsBudget(
            shard_part(settings.tps, int(settings.shards), settings.shard_index),
            costs,
            settings.tps_headroom_percent,
            clock.now_ns(),
            send_floor_percent=settings.send_floor_percent,
        )
        self.history = SecondsHistory(clock.now_ns())
        self._metered = MeteredBudget(self.budget, self.history)
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
        # Login, group sizes and statistics have their own: a granted send must not wait for a connection.
        http = HttpClient(settings.node_timeout_ms, settings.node_connections + OTHER_CALLS, tls)
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
            max(settings.queue_slots, SENDS_DELAYED_MAX),
            read_page,
            lambda record: record.accepted_ms,
            clock,
        )
        for send_class, count in store.recovered.send_counts.items():
            self.sends.restore(send_class, count, {Kind.SEND: count})
        self._alarm = KernelAlarm()
        self._build_fan_out()
        shares = ClassShares(settings.bulk_floor_percent, settings.reply_share_percent)
        front = Front(self.sends, self.fanout, self.sizes, self.pairs)
        self.pacer = Pacer(self.sends, self._metered, self._alarm, clock, front, shares)
        self.asker = GroupAsker(self.node, self.sizes, self.pacer.ring, clock)
        self.sizes.on_wanted = self.asker.wake
        if self.fanout is not None:
            self.fanout.on_room = self.pacer.ring
        self.watch: NodeWatch | None = None
        if settings.dialect == "onprem":
            self.watch = NodeWatch(
                self.node, lambda: self.budget.tps, lambda: self.budget.slow_down(clock.now_ns())
            )
            self.pacer.on_success = self.watch.sent
        self.sender = Sender(
            self.node, self.pacer, self.sends, settings.send_attempts, store, self.books, clock, rng
        )

    def _build_fan_out(self) -> None:
        """What holds a send back besides the budget: receipts that groups owe, and the pair limit."""
        settings = self.settings
        cost = settings.tps_cost.delivered
        self.fanout = FanOut(self.budget.tps, cost, self.clock.now_ns()) if cost else None
        # Without a window nobody needs the size of a group.
        self.sizes = GroupSizes(Ratios(), asks=settings.dialect == "onprem" and self.fanout is not None)
        self.pairs: PairLimit | None = None
        if settings.pair_limit_interval_ms:
            self.pairs = PairLimit(settings.pair_limit_interval_ms * NS_PER_MS, settings.pair_limit_burst)

    def _charge_arrival(self, kind: TpsKind, count: int, now_ns: int) -> None:
        self._metered.charge(kind, count, now_ns)
        if self.fanout is not None:
            self.fanout.charge_arrival(count * self.settings.tps_cost.of(kind), now_ns)

    def _tell_receipt(self, kind: TpsKind, message_id: str, participant: str, now_ns: int) -> None:
        is_read = kind is TpsKind.READ
        self.sizes.ratios.arrived(message_id, is_read=is_read)
        # Without a name a read can't be told from the delivered of the same phone.
        if self.fanout is not None and (participant or not is_read):
            self.fanout.arrived(message_id, participant, now_ns)

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
            self._charge_arrival,
            self.clock,
            self._tell_receipt,
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

    def set_plan(self, plan_tps: int) -> None:
        """Change the number's plan (events a second) until the next start; the next grant already keeps it."""
        settings = self.settings
        part = shard_part(plan_tps, int(settings.shards), settings.shard_index)
        self.plan_tps = plan_tps
        self.budget.set_tps(part, self.clock.now_ns())
        if self.fanout is not None:
            self.fanout.tps = part
        self.pacer.ring()

    async def close(self) -> None:
        """Close the store, with what was submitted on disk, and all connections."""
        await self.store.close()
        self._alarm.close()
        await self.node.close()
        for client in self.backend_clients.values():
            await client.close()

"""Every part of the gateway, built from Settings and connected. Nothing here waits or runs."""

import random
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from gateway._fast.arrivals import ArrivalMeter
from gateway._fast.history import SecondsHistory
from gateway.app.bridges import EndedSends, HttpBackends, InstantReplies
from gateway.app.dead_letters import DeadLetters
from gateway.app.inbound_parts import InboundParts
from gateway.app.push_parts import PushParts
from gateway.app.send_rate import SendRate
from gateway.budget.ceiling import Ceiling
from gateway.budget.classes import ClassShares
from gateway.budget.fanout import FanOut
from gateway.budget.groups import GroupSizes
from gateway.budget.metered import MeteredBudget
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.budget.recipients import Recipients
from gateway.budget.shards import shard_part
from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_MS, Clock
from gateway.config import OFF, Settings
from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Dialect
from gateway.dialects.onprem import OnPrem
from gateway.errors import StoreError
from gateway.events import InboundClass, Kind, ReceiptMask, SendClass, SendRecord, TpsKind
from gateway.http.client import HttpClient, tls_context
from gateway.inbound.receipt_answers import ReceiptAnswers
from gateway.node.client import NodeClient
from gateway.node.groups import GroupAsker
from gateway.node.switches import ReceiptSwitches
from gateway.node.valve import NOTE, ReceiptValve
from gateway.node.watch import NodeWatch
from gateway.ops.metrics import Queue
from gateway.outbound.alarm import KernelAlarm
from gateway.outbound.front import Front
from gateway.outbound.pace import Pacer
from gateway.outbound.pacing_memory import PacingMemory
from gateway.outbound.queue import SendQueue, lane_of
from gateway.outbound.send import Sender
from gateway.outbound.settle import Settler
from gateway.outbound.unnamed import Unnamed
from gateway.store.books import Books
from gateway.store.lanes import Lanes
from gateway.store.protocol import Change, Place, Sync
from gateway.store.room import DiskRoom, EndlessRoom
from gateway.store.sqlite_store import SqliteStore

OTHER_CALLS: Final = 4
"""Calls to the node beside sends, at most at once: a login, a group's size, the statistics, a setting."""

SENDS_ASIDE_MAX: Final = 65_536
"""Sends of a class that may stand aside, for a retry, for receipts of groups or for their recipient's slot, before the
class waits with them. One recipient with so many queued (four days of them at one each 6 s) makes his class wait."""


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
        self.dialect: Dialect = (
            Cloud(settings.node_phone_id or "") if settings.dialect == "cloud" else OnPrem()
        )
        # What can fail comes before what must be closed; the store is last of these and undoes itself.
        node_tls = tls_context(settings.node_ca, verifies=settings.node_tls_verify)
        backend_tls = tls_context(settings.backend_ca)
        self.pair_window_ms = settings.pair_limit_interval_ms * settings.pair_limit_burst
        """How long the pair limit needs to know of a send."""
        self.store = SqliteStore(
            settings.store_path,
            clock,
            on_store_failure,
            recent_ms=self.pair_window_ms,
            sync=Sync(settings.store_sync),
        )
        self.room = EndlessRoom() if settings.store_sync == "off" else DiskRoom(settings.store_path, clock)
        self.room.on_lost = lambda error: on_store_failure(
            StoreError(f"the store {settings.store_path} is gone: {error}")
        )
        self._memory = PacingMemory(self.store.recovered, self.store, clock)
        self.node = self._node(node_tls)
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
            ceiling=Ceiling(self._memory.ceiling_share()),
        )
        self.budget.ceiling.on_kept = self._memory.keep_ceiling
        self.history = SecondsHistory(clock.now_ns())
        self._metered = MeteredBudget(self.budget, self.history)
        self.backends = HttpBackends(settings, backend_tls)
        self.inbound = InboundParts(
            settings, self.store, self.books, clock, rng, self.backends.message, self.backends.event
        )
        self._build_outbound(rng)
        self._build_doors()
        self.queues = [
            Queue("inbound", {InboundClass.MESSAGE: "message"}, self.inbound.messages),
            Queue(
                "inbound",
                {InboundClass.FAILURE: "failure", InboundClass.RECEIPT: "receipt"},
                self.inbound.events,
            ),
            Queue("outbound", {cls: cls.label for cls in SendClass}, self.sends),
        ]

    def _node(self, tls: ssl.SSLContext) -> NodeClient:
        settings = self.settings
        # Login, group sizes, statistics and settings have their own: a granted send must not wait for a connection.
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

    def _build_outbound(self, rng: random.Random) -> None:
        settings, store, clock = self.settings, self.store, self.clock

        async def read_page(cls: int, after_seq: int, limit: int) -> list[SendRecord]:
            return await store.read_sends(SendClass(cls), after_seq, limit)

        async def read_behind(places: Sequence[Place]) -> list[SendRecord]:
            return await store.find_sends(places)

        self.sends = SendQueue(
            len(SendClass),
            settings.queue_slots,
            max(settings.queue_slots, SENDS_ASIDE_MAX),
            read_page,
            lambda record: record.accepted_ms,
            clock,
            lanes=Lanes(lane_of, read_behind),
        )
        self.sends.first_new_seq = store.recovered.next_seq
        for send_class, count in store.recovered.send_counts.items():
            self.sends.restore(send_class, count, {Kind.SEND: count})
        self._alarm = KernelAlarm()
        self._build_fan_out()
        shares = ClassShares(settings.bulk_floor_percent, settings.reply_share_percent)
        front = Front(self.sends, self.fanout, self.sizes, self.pairs)
        self.pacer = Pacer(
            self.sends,
            self._metered,
            self._alarm,
            clock,
            front,
            shares,
            bulk_paused_until_ns=self._memory.bulk_paused_until_ns(),
        )
        self.pacer.on_bulk_paused = self._memory.keep_bulk_pause
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
        self.valve = self._valve()
        self.settler = Settler(store, self.sends, self.books, clock)
        self.unnamed = Unnamed(store.next_seq, store.secret)
        self.sender = Sender(
            self.node,
            self.pacer,
            self.sends,
            settings.send_attempts,
            store,
            self.settler,
            self.unnamed,
            clock,
            rng,
        )

    def _valve(self) -> ReceiptValve | None:
        if self.settings.dialect != "onprem":
            return None
        store = self.store
        # Disabled too: what a run before this one has switched off is switched on again.
        return ReceiptValve(
            ReceiptSwitches(self.node),
            store.recovered.notes.get(NOTE, b""),
            lambda note: store.submit(Change(notes={NOTE: note})),
            self.clock,
            is_enabled=self.settings.node_receipt_valve,
        )

    def _build_fan_out(self) -> None:
        """What holds a send back besides the budget: receipts that groups owe, and the pair limit."""
        settings = self.settings
        cost, window_ms = settings.tps_cost.delivered, settings.fanout_window_ms
        self.fanout: FanOut | None = None
        if cost and window_ms:
            self.fanout = FanOut(self.budget.tps, cost, self.clock.now_ns(), window_ms=window_ms)
        # Without a window nobody needs the size of a group.
        self.sizes = GroupSizes(Ratios(), asks=settings.dialect == "onprem" and self.fanout is not None)
        self.recipients = Recipients(self.clock.now_ns())
        self.sizes.ratios.on_sent = self.recipients.sent
        self.pairs: PairLimit | None = None
        if settings.pair_limit_interval_ms:
            self.pairs = PairLimit(settings.pair_limit_interval_ms * NS_PER_MS, settings.pair_limit_burst)
            self._memory.restore_pairs(self.pairs)

    def _tell_receipt(self, kind: TpsKind, message_id: str, participant: str, now_ns: int) -> None:
        is_read = kind is TpsKind.READ
        self.sizes.ratios.arrived(message_id, is_read=is_read)
        # Without a name a read can't be told from the delivered of the same phone.
        if self.fanout is not None and (participant or not is_read):
            self.fanout.arrived(message_id, participant, now_ns)

    def _build_doors(self) -> None:
        settings, store = self.settings, self.store
        receive, send, delivered, read = (settings.tps_cost.of(kind) for kind in TpsKind)
        arrivals = None if self.fanout is None else self.fanout.arrivals
        meter = ArrivalMeter(self.budget.core, self.history, (receive, send, delivered, read), arrivals)
        self.receiver = self.inbound.open_door(meter.charge, self._tell_receipt)
        self.send_rate = SendRate(self.clock)
        self.push = PushParts(
            settings,
            store,
            self.books,
            self.sends,
            self.dialect,
            self.clock,
            self.send_rate,
            self.inbound.receipts,
        )
        self.push.connect(self.pacer, self.sender, self.settler)
        self.acceptor = self.push.acceptor
        self.receiver.free_bytes = self.acceptor.free_bytes = self.room.free_bytes
        self.dead_letters = DeadLetters(store, self.inbound.backlogs, self.acceptor, self.books, self.clock)
        self.receipt_answers = ReceiptAnswers(self.inbound.receipts, store, self.dialect, self.clock)
        self.settler.on_named = self._named
        self.ended_sends = EndedSends(self.dialect, store, self.inbound.events, self.books, self.clock)
        if settings.event_webhook_url != OFF:
            self.settler.ended = self.ended_sends
        self.inbound.early.nameless = self.unnamed
        self.unnamed.on_answer = self.inbound.early.release
        if self.valve is not None:
            self.inbound.monitor.on_look = self.valve.note
        self.instant_replies = InstantReplies(self.acceptor, self.dialect)
        self.inbound.message_forwarder.replies = self.instant_replies

    def _named(self, record: SendRecord, node_id: str) -> bytes:
        """The node calls a send `node_id`: what the ledger is to know of it, as log items."""
        return self.inbound.receipts.want(node_id, ReceiptMask(record.mask)) if record.mask else b""

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
        await self.backends.close()

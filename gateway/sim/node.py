"""A whole simulated On-Premises node: WebApp and Coreapp around one number, over real HTTP on loopback.

    async with SimNode(tps=20, seed=1) as node:
        node.set_webhook("http://127.0.0.1:9080/webhook")
        node.receive_text("15550100111", "hello")

What it saw is in `journal`, what goes wrong in `faults`. Everything random comes from `seed`.
"""

import asyncio
import random
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from gateway.clock import NS_PER_S, Clock, SystemClock
from gateway.events import Kind, TpsKind
from gateway.sim import bodies
from gateway.sim.callbackqueue import QUEUE_MAX
from gateway.sim.coreapp import TIMEOUT_S, CoreApp
from gateway.sim.faults import Faults
from gateway.sim.groups import Groups
from gateway.sim.journal import Callback, Journal, SendEntry
from gateway.sim.messages import MessagesEndpoint
from gateway.sim.number import BACKLOG_MAX, Event, Number
from gateway.sim.operations import Operations
from gateway.sim.receipts import ReceiptModel
from gateway.sim.reporting import callback_of
from gateway.sim.resources import Resources
from gateway.sim.serving import Server
from gateway.sim.settings import Settings
from gateway.sim.tokens import Tokens
from gateway.sim.webapp import WebApp

WA_ID: Final = "15550100999"
"""The business number: of the range that is reserved for fiction."""


class SimNode:
    """One node for one number on a plan of `tps`; an async context manager, used once."""

    def __init__(
        self,
        *,
        tps: int = 20,
        seed: int = 0,
        user: str = "admin",
        password: str = "secret-of-the-sim",  # noqa: S107 (a simulated node has no secret)
        receipts: ReceiptModel | None = None,
        backlog_max: int = BACKLOG_MAX,
        callback_queue_max: int = QUEUE_MAX,
        callback_timeout_s: float = TIMEOUT_S,
        time_scale: float = 1.0,
        webhook_url: str = "",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        """`time_scale` multiplies the back-off of callbacks; receipts have their own in `receipts`."""
        self._clock = clock or SystemClock()
        self.faults = Faults()
        self.settings = Settings(webhook_url)
        self.journal = Journal()
        self.groups = Groups(WA_ID)
        self._ids = random.Random(f"{seed} ids")
        self.tokens = Tokens(user, password, random.Random(f"{seed} tokens"))
        self.number = Number(
            tps, random.Random(f"{seed} customers"), receipts=receipts, backlog_max=backlog_max
        )
        self.coreapp = CoreApp(
            self._clock,
            random.Random(f"{seed} callbacks"),
            self.settings,
            self.faults,
            self.journal,
            queue_max=callback_queue_max,
            timeout_s=callback_timeout_s,
            time_scale=time_scale,
        )
        contacts: set[str] = set()
        webapp = WebApp(
            self._clock,
            self.tokens,
            self.faults,
            MessagesEndpoint(
                random.Random(f"{seed} requests"), self.faults, self.journal, contacts, self._try_send
            ),
            Resources(self._clock, self._ids, self.groups, contacts),
            Operations(self.faults, self.settings, self.journal, self.coreapp, self.number),
        )
        self._server = Server(webapp.make_app, port=port)
        self._wake = asyncio.Event()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Base URL of the WebApp."""
        return self._server.url

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        await self._server.start()
        self._stack.push_async_callback(self._server.stop)
        self._tasks = [
            group.create_task(self._pump(), name="sim number"),
            group.create_task(self.coreapp.run(), name="sim coreapp"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        for task in self._tasks:
            task.cancel()
        return await self._stack.__aexit__(kind, error, trace)

    def set_webhook(self, url: str) -> None:
        """What a PATCH of `webhooks.url` does."""
        self.settings.document["webhooks"]["url"] = url
        self.coreapp.notify()

    def expire_tokens(self) -> None:
        """Fault: every token ends now; the next request answers 401 with 1005."""
        self.tokens.expire_all()

    def create_group(self, members: int, subject: str = "group") -> str:
        """A group of so many invented members; returns its id."""
        start = 15550200000 + 1000 * len(self.groups.ids())
        wa_ids = tuple(str(start + n) for n in range(members))
        return self.groups.create(wa_ids, self._clock.wall_ms(), subject)

    def receive_text(self, sender: str, text: str, *, group: str = "") -> str:
        """A customer writes a text; see `receive`."""
        return self.receive(sender, bodies.text(text), group=group)

    def receive(self, sender: str, content: bodies.Json, *, group: str = "") -> str:
        """A customer sends `content`, `{"type": "image", "image": {...}}` say.

        Returns the id of the message, or "" when it was lost at WhatsApp's end.
        """
        id_ = bodies.make_id("ABGG", self._ids)
        if not self.number.offer_message(self._clock.now_ns(), id_, sender, group=group, payload=content):
            return ""
        self._wake.set()
        return id_

    def report_error(self, code: int, title: str, details: str = "") -> None:
        """The client reports trouble of its own: an item of `errors`, which costs no TPS."""
        item = {"code": code, "title": title, "details": details}
        now_ns = self._clock.now_ns()
        self.coreapp.offer(Callback(Kind.ERROR, str(code), "", item, made_ns=now_ns, served_ns=now_ns))

    def _try_send(self, to: str, is_group: bool, text: str) -> SendEntry | str:
        """Hand a send to the number; the answer is its journal entry, or what stands against it."""
        if self.coreapp.queue.is_full:
            return "The callback queue is full"
        members = self.groups.members(to) if is_group else None
        if is_group and members is None:
            return "group"
        now_ns = self._clock.now_ns()
        entry = SendEntry(now_ns, bodies.make_id("gBEG", self._ids), to, text, len(members or (to,)))
        if not self.number.offer_send(now_ns, entry.id, to, members=members):
            return "Too many events wait at the number"
        self.journal.sends.append(entry)
        self._wake.set()
        return entry

    async def _pump(self) -> None:
        """Turn what the number serves into callbacks, each at its slot."""
        while True:
            self.number.is_reported[TpsKind.DELIVERED] = self.settings.is_reported("delivered")
            self.number.is_reported[TpsKind.READ] = self.settings.is_reported("read")
            for event in self.number.advance(self._clock.now_ns()):
                self._report(event)
            next_ns = self.number.next_ns()
            timeout_s = None if next_ns is None else max(0.0, (next_ns - self._clock.now_ns()) / NS_PER_S)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _report(self, event: Event) -> None:
        callback = callback_of(event, self._clock.now_ns(), self._clock.wall_ms())
        if callback.kind is Kind.SENT and not self.settings.is_reported("sent"):
            return
        self.coreapp.offer(callback)

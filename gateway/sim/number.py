"""The WhatsApp end of one number: a single FIFO served at the plan's TPS, and what customers do.

Every event (an incoming message, a send, a delivered, a read) waits in one queue and costs one slot of
1/TPS seconds. A `sent` or `failed` status costs nothing: it comes with the send. A served send schedules
its receipts, which enter the same queue when their time comes. The queue is bounded: an incoming message
that finds it full is lost for ever, which is the loss a gateway exists to prevent.

Pure: time and randomness are handed in, nothing waits. So the same code runs under the real clock in
`node.py` and in virtual time, a simulated day in seconds: 2 to 4 µs an event, memory per waiting event.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final

from gateway.clock import NS_PER_S
from gateway.events import TpsKind
from gateway.sim.receipts import ReceiptModel

BACKLOG_MAX: Final = 10_000
"""Events that wait at WhatsApp's end before it loses them: 500 s at 20 TPS. Our assumption; nobody says."""
SCHEDULED_MAX: Final = 2_000_000
"""Receipts still to come; those beyond are lost and counted. A campaign at 80 TPS keeps below 50,000."""

_FAR_NS: Final = 1 << 62


class Event:
    """One event of the number, from when it was made until it was served."""

    __slots__ = ("group", "id", "is_failed", "kind", "made_ns", "members", "payload", "peer", "served_ns")

    def __init__(self, kind: TpsKind, made_ns: int, id_: str, peer: str, group: str = "") -> None:
        self.kind = kind
        self.made_ns = made_ns
        """When it entered the queue: the customer wrote, the send came in, the phone sent its receipt."""
        self.served_ns = -1
        self.id = id_
        self.peer = peer
        """The customer: who wrote, who is written to (the group id for a group send), whose receipt."""
        self.group = group
        self.members: Sequence[str] = ()
        self.payload: Any = None
        self.is_failed = False

    @property
    def wait_ns(self) -> int:
        """How long it waited at the number."""
        return self.served_ns - self.made_ns


@dataclass(frozen=True, slots=True)
class NumberStatistics:
    """What the number has done and what waits. Counts of events since it was made."""

    backlog: int
    scheduled: int
    oldest_wait_ns: int
    served: dict[TpsKind, int]
    lost_messages: int
    lost_receipts: int
    refused_sends: int


class Number:
    """One phone number on a plan of `tps` events a second (1 to 1000), receive and send together."""

    def __init__(
        self,
        tps: int,
        rng: random.Random,
        *,
        receipts: ReceiptModel | None = None,
        backlog_max: int = BACKLOG_MAX,
    ) -> None:
        assert 1 <= tps <= 1000, tps
        assert backlog_max >= 1, backlog_max
        self.tps = tps
        self.receipts = receipts or ReceiptModel()
        self.backlog_max = backlog_max
        self.is_reported = {TpsKind.DELIVERED: True, TpsKind.READ: True}
        """Receipts switched off are never made, so they cost nothing: that is what the switch is for."""
        # Rounded up, so that no second ever holds more than `tps` slots.
        self._slot_ns = -(-NS_PER_S // tps)
        self._rng = rng
        self._now_ns = 0
        self._free_ns = 0
        self._fifo: deque[Event] = deque()
        self._scheduled: list[tuple[int, int, TpsKind, str, str, str]] = []
        self._tie = 0
        self._done: list[Event] = []
        self._served = dict.fromkeys(TpsKind, 0)
        self._lost_messages = 0
        self._lost_receipts = 0
        self._refused_sends = 0

    def offer_message(
        self, now_ns: int, id_: str, peer: str, *, group: str = "", payload: Any = None
    ) -> bool:
        """A customer writes. False: the backlog is full, the message is lost for ever and counted."""
        self._run(now_ns)
        if len(self._fifo) >= self.backlog_max:
            self._lost_messages += 1
            return False
        event = Event(TpsKind.RECEIVE, now_ns, id_, peer, group)
        event.payload = payload
        self._fifo.append(event)
        return True

    def offer_send(
        self, now_ns: int, id_: str, to: str, *, members: Sequence[str] | None = None, payload: Any = None
    ) -> bool:
        """The node sends; `members` are a group's, each of whom makes receipts. False: refused, backlog full."""
        self._run(now_ns)
        if len(self._fifo) >= self.backlog_max:
            self._refused_sends += 1
            return False
        event = Event(TpsKind.SEND, now_ns, id_, to, to if members is not None else "")
        event.members = (to,) if members is None else members
        event.payload = payload
        self._fifo.append(event)
        return True

    def advance(self, now_ns: int) -> list[Event]:
        """Serve what has a slot up to and including `now_ns` (never backwards), in the order served."""
        self._run(now_ns)
        done, self._done = self._done, []
        return done

    def next_ns(self) -> int | None:
        """When `advance` has something to do next, if nothing more is offered."""
        if self._done:
            return self._now_ns
        next_ns = min(self._next_serve_ns(), self._scheduled[0][0] if self._scheduled else _FAR_NS)
        return None if next_ns == _FAR_NS else next_ns

    def statistics(self) -> NumberStatistics:
        """Counts as of the last call that was given the time."""
        return NumberStatistics(
            backlog=len(self._fifo),
            scheduled=len(self._scheduled),
            oldest_wait_ns=self._now_ns - self._fifo[0].made_ns if self._fifo else 0,
            served=dict(self._served),
            lost_messages=self._lost_messages,
            lost_receipts=self._lost_receipts,
            refused_sends=self._refused_sends,
        )

    def _next_serve_ns(self) -> int:
        if not self._fifo:
            return _FAR_NS
        return max(self._fifo[0].made_ns, self._free_ns)

    def _run(self, now_ns: int) -> None:
        """Play everything up to `now_ns` in its own order: receipts enter when due, slots serve the queue."""
        assert now_ns >= self._now_ns, (now_ns, self._now_ns)
        scheduled = self._scheduled
        while True:
            serve_ns = self._next_serve_ns()
            due_ns = scheduled[0][0] if scheduled else _FAR_NS
            if min(serve_ns, due_ns) > now_ns:
                break
            if due_ns <= serve_ns:
                self._enter_receipt()
            else:
                self._serve(serve_ns)
        self._now_ns = now_ns

    def _enter_receipt(self) -> None:
        due_ns, _, kind, id_, peer, group = heappop(self._scheduled)
        if not self.is_reported[kind]:
            return
        if len(self._fifo) >= self.backlog_max:
            self._lost_receipts += 1
            return
        self._fifo.append(Event(kind, due_ns, id_, peer, group))

    def _serve(self, serve_ns: int) -> None:
        event = self._fifo.popleft()
        event.served_ns = serve_ns
        self._free_ns = serve_ns + self._slot_ns
        self._served[event.kind] += 1
        if event.kind is TpsKind.SEND:
            event.is_failed = self.receipts.draw_is_failed(self._rng)
            if not event.is_failed:
                self._schedule_receipts(event)
        self._done.append(event)

    def _schedule_receipts(self, event: Event) -> None:
        rng, draw = self._rng, self.receipts.draw_delays_ns
        for member in event.members:
            delivered_ns, read_ns = draw(rng)
            if delivered_ns >= 0:
                self._schedule(event, TpsKind.DELIVERED, member, delivered_ns)
            if read_ns >= 0:
                self._schedule(event, TpsKind.READ, member, read_ns)

    def _schedule(self, event: Event, kind: TpsKind, member: str, delay_ns: int) -> None:
        if len(self._scheduled) >= SCHEDULED_MAX:
            self._lost_receipts += 1
            return
        # The tie keeps equal times in the order they were made: a read never overtakes its delivered.
        self._tie += 1
        heappush(
            self._scheduled,
            (event.served_ns + delay_ns, self._tie, kind, event.id, member, event.group),
        )

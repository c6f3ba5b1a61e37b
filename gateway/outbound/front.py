"""The front of the send queue: what of each class may go, and what must stand aside so that others go on.

A class has at most one record *in hand*: taken from the backlog, looked at, and free to go when the budget allows.
Looking at it has set aside those before it that must wait:
- a group send with receipts to wait for is *held*, FIFO within its class, up to HELD_MAX. Beyond that the next
  one stays in hand, and its class waits with it.
- one whose recipient has used up its pair limit is given back to the backlog until the slot booked for it.

Order. A class goes before those below it; within one, what is held goes before what is in hand. While a held send waits
for receipts, group sends below it wait too, else they would take the room that it waits for.
Bounds: one in hand a class, HELD_MAX held a class; booked sends are delayed in the backlog, which has its own bound.
"""

from collections import deque
from typing import Final, NamedTuple, Protocol

from gateway.budget.fanout import FanOut, Verdict
from gateway.budget.groups import GroupSizes
from gateway.events import SendClass, SendRecord
from gateway.store.backlog import Backlog

HELD_MAX: Final = 256
"""Group sends in memory, a class: at 10 TPS and 256 members five hours of them. Each class has its own, for one
that floods the number with group sends must not make those above it wait."""

NEVER_NS: Final = (1 << 63) - 1

_CLASSES: Final = tuple((cls, 1 << cls) for cls in SendClass)


class Slots(Protocol):
    """The pair limit."""

    def reserve(self, to: str, now_ns: int) -> int:
        """Book the next slot of a recipient, and return when it is."""


class Look(NamedTuple):
    """The classes that have something to go, as a bit mask, and when time alone may add one (NEVER_NS: it won't)."""

    ready: int
    until_ns: int


class Front:
    """What stands between the backlog and the pacer. Never waits; calls are made on the loop."""

    def __init__(
        self,
        backlog: Backlog[SendRecord],
        fanout: FanOut | None = None,
        sizes: GroupSizes | None = None,
        pairs: Slots | None = None,
    ) -> None:
        """Without `fanout` groups are as other recipients, without `pairs` there is no pair limit."""
        assert fanout is None or sizes is not None, "the window needs the sizes of groups"
        self._backlog = backlog
        self._fanout = fanout
        self._sizes = sizes
        self._pairs = pairs
        self._hand: list[SendRecord | None] = [None] * len(SendClass)
        self._held: list[deque[SendRecord]] = [deque() for _ in SendClass]
        self._is_held_next = [False] * len(SendClass)
        """Whether what `look` found of a class is the first one held, not the one in hand."""
        self._emptied = 0
        """Bit mask of the classes of which nothing was ready when they were last looked at."""
        self._hushed_from = SendClass.BULK
        """The class of the last large group send: it and those below wait for the end of its hush."""
        self._booked: set[int] = set()
        """Sequence numbers of sends that are delayed until their slot."""
        self._opened: dict[int, tuple[int, int]] = {}
        """Sends at the node, by sequence number: token in the window, and members."""

    def look(self, allowed: int, now_ns: int, *, prefers_fresh: bool = False) -> Look:
        """What may go now, of the classes in the bit mask `allowed`; `take` then gives one of them.

        `prefers_fresh`: what was never tried goes before retries, whatever the class.
        """
        if prefers_fresh:
            look = self._look(allowed, now_ns, only_fresh=True)
            if look.ready:
                return look
        while True:
            look = self._look(allowed, now_ns, only_fresh=False)
            # The classes were looked at one after the other: what has become due in one while we looked at the next
            # wakes nobody, so one look at all of them must find nothing.
            if look.ready or not self._backlog.has_ready(self._emptied):
                return look

    def _look(self, allowed: int, now_ns: int, *, only_fresh: bool) -> Look:
        ready = 0
        until_ns = NEVER_NS
        groups_wait = False
        self._emptied = 0
        if self._fanout is not None and now_ns < self._fanout.hush_until_ns:
            allowed &= (1 << self._hushed_from) - 1
            until_ns = self._fanout.hush_until_ns
        for cls, bit in _CLASSES:
            if not allowed & bit:
                continue
            if self._hand[cls] is None:
                there = self._backlog.depth(cls) if only_fresh else self._backlog.in_memory(cls)
                if there:
                    self._fill(cls, now_ns, prefers_fresh=only_fresh)
            self._is_held_next[cls] = False
            if self._held[cls] and not groups_wait:
                verdict, at_ns = self._rule(self._held[cls][0], now_ns)
                if verdict is Verdict.GO:
                    self._is_held_next[cls] = True
                    ready |= bit
                    continue
                until_ns = min(until_ns, at_ns)
                if verdict is Verdict.CLEAR:
                    break
                groups_wait = True
            record = self._hand[cls]
            if record is not None and not self._is_tracked(record):
                ready |= bit
        return Look(ready, until_ns)

    def _fill(self, cls: SendClass, now_ns: int, *, prefers_fresh: bool) -> None:
        """Take from a class until one is in hand, or nothing of it is ready."""
        while self._hand[cls] is None:
            record = self._backlog.take(1 << cls, prefers_fresh=prefers_fresh)
            if record is None:
                self._emptied |= 1 << cls
                return
            if self._is_tracked(record):
                self._hold(record)
            elif (slot_ns := self._slot_ns(record, now_ns)) > now_ns:
                self._booked.add(record.seq)
                self._backlog.defer(record, slot_ns)
            else:
                self._hand[cls] = record

    def _is_tracked(self, record: SendRecord) -> bool:
        return record.is_group and self._fanout is not None

    def _hold(self, record: SendRecord) -> None:
        if len(self._held[record.cls]) < HELD_MAX:
            self._held[record.cls].append(record)
        else:
            self._hand[record.cls] = record

    def _slot_ns(self, record: SendRecord, now_ns: int) -> int:
        if self._pairs is None or record.is_group:
            return now_ns
        if record.seq in self._booked:
            # It comes back for the slot it has booked. If it comes again after that, it books another.
            self._booked.discard(record.seq)
            return now_ns
        return self._pairs.reserve(record.to, now_ns)

    def _rule(self, record: SendRecord, now_ns: int) -> tuple[Verdict, int]:
        assert self._fanout is not None
        assert self._sizes is not None
        members, known_at_ns = self._sizes.look(record.to, now_ns)
        if known_at_ns > now_ns:
            return Verdict.WAIT, known_at_ns
        return self._fanout.verdict(self._sizes.ratios.expected(members), now_ns)

    def take(self, cls: SendClass, now_ns: int) -> SendRecord:
        """What the last `look` found ready of a class goes: it is the caller's, and what it will cause is expected."""
        if self._is_held_next[cls]:
            return self._take_held(cls, now_ns)
        record = self._hand[cls]
        assert record is not None, "only what is ready is taken"
        self._hand[cls] = None
        return record

    def _take_held(self, cls: SendClass, now_ns: int) -> SendRecord:
        assert self._fanout is not None
        assert self._sizes is not None
        self._is_held_next[cls] = False
        record = self._held[cls].popleft()
        members, _ = self._sizes.look(record.to, now_ns)
        hushed_before_ns = self._fanout.hush_until_ns
        token = self._fanout.open(self._sizes.ratios.expected(members), now_ns)
        if self._fanout.hush_until_ns != hushed_before_ns:
            self._hushed_from = cls
        self._opened[record.seq] = token, members
        in_hand = self._hand[cls]
        if in_hand is not None and self._is_tracked(in_hand):  # there is room for it now
            self._held[cls].append(in_hand)
            self._hand[cls] = None
        return record

    def named(self, record: SendRecord, message_id: str, now_ns: int) -> None:
        """The node took a send and calls it `message_id`."""
        token, members = self._opened.pop(record.seq, (0, 0 if record.is_group else 1))
        if token and self._fanout is not None:
            self._fanout.name(token, message_id, now_ns)
        if members and self._sizes is not None:
            self._sizes.ratios.sent(message_id, record.to, members, now_ns)

    def refused(self, record: SendRecord, now_ns: int) -> None:
        """The node did not take a send: it causes nothing."""
        token, _ = self._opened.pop(record.seq, (0, 1))
        if token and self._fanout is not None:
            self._fanout.cancel(token, now_ns)

    def unanswered(self, record: SendRecord) -> None:
        """Nobody knows whether the node took a send: what it may have caused is expected until it expires."""
        self._opened.pop(record.seq, None)

    def give_back(self, now_ns: int) -> None:
        """Give everything set aside back to the backlog, to be handed out at once."""
        for cls in SendClass:
            for record in (*self._held[cls], self._hand[cls]):
                if record is not None:
                    self._backlog.defer(record, now_ns)
            self._held[cls].clear()
            self._hand[cls] = None
            self._is_held_next[cls] = False

    def held(self) -> int:
        """Group sends that wait for receipts, out of HELD_MAX a class."""
        return sum(map(len, self._held))

    def booked(self) -> int:
        """Sends that wait for the slot of their recipient."""
        return len(self._booked)

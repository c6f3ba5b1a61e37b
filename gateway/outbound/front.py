"""The front of the send queue: what of each class may go, and what must stand aside so that others go on.

A class has at most one record *in hand*: taken from the backlog, looked at, and free to go when the budget allows.
Looking for it has set aside those before it that must wait:
- a group send is *held* until its turn and until the receipts of those before it leave room, FIFO within its class.
- one whose recipient has used up its pair limit is given back to the backlog until the slot booked for it.
- one to a recipient who has another at the node, in whatever class, waits for the answer to that: two under way at once
  may arrive in either order. Of one class there is only one anyway: the backlog's lanes keep the rest behind it. A group
  send keeps its turn meanwhile.

Order. A class goes before those below it; within one, what is held goes before what is in hand. While a held send waits
for receipts, group sends below it wait too, else they would take the room that it waits for.

Bounds. One in hand a class. What is held and what is booked counts as aside in the backlog, whose `aside_max` and
`memory_max_bytes` are the bounds of both: at one of them the class as a whole waits until one of its own has gone (a
held one for which there is room, a booked one whose slot has come), single chats of it too; other classes go on.
Cost: about 2 us a record that is set aside, once; a look sets aside no more than the backlog has in memory.

Change of class. What is set aside or in hand has not begun: `release` gives it back, so that it can be withdrawn. The
slot booked for it stays its own, whatever its class: it is the recipient's limit, and others have booked after it.
In its new class it is behind the group sends held there, and before what was never looked at.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from gateway.budget.fanout import FanOut, Verdict
from gateway.budget.groups import GroupSizes
from gateway.events import SendClass, SendRecord
from gateway.store.backlog import Backlog

NEVER_NS: Final = (1 << 63) - 1

_CLASSES: Final = tuple((cls, 1 << cls) for cls in SendClass)


class Slots(Protocol):
    """The pair limit."""

    def reserve(self, to: str, now_ns: int) -> int:
        """Book the next slot of a recipient, and return when it is."""

    def free_at_ns(self, to: str, now_ns: int) -> int:
        """When a send to a recipient may go, by what went to him and when: later than its slot if others were late."""

    def went(self, to: str, now_ns: int) -> None:
        """A send to a recipient goes now, at its slot or later."""


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
        self._held: list[OrderedDict[int, SendRecord]] = [OrderedDict() for _ in SendClass]
        """Group sends of each class by sequence number, the next to go first."""
        self._turns: dict[int, int] = {}
        """Of group sends that were looked at and have not gone, by sequence number: the order in which they are held."""
        self._next_turn = itertools.count()
        self._is_held_next = [False] * len(SendClass)
        """Whether what `look` found of a class is the first one held, not the one in hand."""
        self._emptied = 0
        """Bit mask of the classes of which nothing was ready when they were last looked at."""
        self._hushed_from = SendClass.BULK
        """The class of the last large group send: it and those below wait for the end of its hush."""
        self._booked: set[int] = set()
        """Sequence numbers of sends in the backlog that have a slot."""
        self._under_way: dict[str, list[tuple[SendRecord, bool]]] = {}
        """Recipients with a send at the node: those that wait for its answer, and whether each has its slot."""
        self._opened: dict[int, tuple[int, int]] = {}
        """Sends at the node, by sequence number: token in the window, and members."""
        self.has_expired: Callable[[SendRecord], bool] = lambda _record: False
        self.expire: Callable[[SendRecord], None] = lambda _record: None
        """Given a send that has expired in place of going, and that is taken from the backlog: it is to end."""

    def look(self, allowed: int, now_ns: int, *, prefers_fresh: bool = False) -> Look:
        """What may go now, of the classes in the bit mask `allowed`; `take` then gives one of them.

        `prefers_fresh`: what was never looked at goes before all that is delayed, whatever the class. Meanwhile a send
        may overtake one to the same recipient whose slot has come.
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
            self._drop_expired(cls)
            self._clear_front(cls)
            self._check_hand(cls, now_ns)
            if self._hand[cls] is None:
                there = self._backlog.depth(cls) if only_fresh else self._backlog.in_memory(cls)
                if there:
                    self._fill(cls, now_ns, prefers_fresh=only_fresh)
            self._is_held_next[cls] = False
            if self._held[cls] and not groups_wait:
                verdict, at_ns = self._rule(_first(self._held[cls]), now_ns)
                if verdict is Verdict.GO:
                    self._is_held_next[cls] = True
                    ready |= bit
                    continue
                until_ns = min(until_ns, at_ns)
                if verdict is Verdict.CLEAR:
                    break
                groups_wait = True
            if self._hand[cls] is not None:
                ready |= bit
        return Look(ready, until_ns)

    def _fill(self, cls: SendClass, now_ns: int, *, prefers_fresh: bool) -> None:
        """Take from a class until one is in hand, or nothing of it is ready."""
        while self._hand[cls] is None:
            record = self._backlog.take(1 << cls, prefers_fresh=prefers_fresh)
            if record is None:
                self._emptied |= 1 << cls
                return
            if self.has_expired(record):
                self._booked.discard(record.seq)
                self.expire(record)
                continue
            if self._waits_held(record):
                self._turns.setdefault(record.seq, next(self._next_turn))
            if (waiting := self._under_way.get(_recipient(record))) is not None:
                waiting.append((record, record.seq in self._booked))
            elif self._waits_held(record):
                self._hold(record)
            elif (slot_ns := self._slot_ns(record, now_ns)) > now_ns:
                self._booked.add(record.seq)
                self._backlog.defer(record, slot_ns)
            else:
                self._hand[cls] = record

    def _waits_held(self, record: SendRecord) -> bool:
        return record.is_group and self._fanout is not None

    def _hold(self, record: SendRecord) -> None:
        """Hold a group send in its turn: last, unless it stood aside meanwhile."""
        held, turn = self._held[record.cls], self._turns[record.seq]
        later = list(itertools.takewhile(lambda seq: self._turns[seq] > turn, reversed(held)))
        held[record.seq] = record
        for seq in reversed(later):
            held.move_to_end(seq)

    def _slot_ns(self, record: SendRecord, now_ns: int) -> int:
        if self._pairs is None or record.is_group:
            return now_ns
        if record.seq in self._booked:
            # It comes back with the slot it has booked. If it comes again after that, it books another.
            self._booked.discard(record.seq)
            return self._pairs.free_at_ns(record.to, now_ns)
        return self._pairs.reserve(record.to, now_ns)

    def _drop_expired(self, cls: SendClass) -> None:
        """What is next of a class ends if it has expired since it came there."""
        record = self._hand[cls]
        if record is not None and self.has_expired(record):
            self._hand[cls] = None
            self.expire(record)
        while self._held[cls] and self.has_expired(_first(self._held[cls])):
            self.expire(self._pop_held(cls))

    def _clear_front(self, cls: SendClass) -> None:
        """What is next of a class steps aside while another to its recipient is at the node."""
        record = self._hand[cls]
        if record is not None and (waiting := self._under_way.get(_recipient(record))) is not None:
            waiting.append((record, True))
            self._hand[cls] = None
        while self._held[cls]:
            first = _first(self._held[cls])
            waiting = self._under_way.get(_recipient(first))
            if waiting is None:
                return
            del self._held[cls][first.seq]  # and keeps its turn
            waiting.append((first, False))

    def _pop_held(self, cls: SendClass) -> SendRecord:
        """Take the next of those held, for good."""
        seq, record = self._held[cls].popitem(last=False)
        del self._turns[seq]
        return record

    def _landed(self, record: SendRecord, now_ns: int) -> None:
        """A send has its answer, or will have none: whoever waits for that goes on."""
        for waiting, has_slot in self._under_way.pop(_recipient(record), ()):
            if self._waits_held(waiting):
                self._hold(waiting)
                self._backlog.wake_all()  # it may go at once, and is nothing new there
            else:
                self._put_back(waiting, now_ns, has_slot=has_slot)

    def _check_hand(self, cls: SendClass, now_ns: int) -> None:
        """What is in hand goes back when another to its recipient has gone meanwhile, later than its own slot."""
        record = self._hand[cls]
        if record is None or self._pairs is None or record.is_group:
            return
        free_at_ns = self._pairs.free_at_ns(record.to, now_ns)
        if free_at_ns > now_ns:
            self._hand[cls] = None
            self._booked.add(record.seq)
            self._backlog.defer(record, free_at_ns)

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
        self._under_way[_recipient(record)] = []
        if self._pairs is not None and not record.is_group:
            self._pairs.went(record.to, now_ns)
        return record

    def _take_held(self, cls: SendClass, now_ns: int) -> SendRecord:
        assert self._fanout is not None
        assert self._sizes is not None
        self._is_held_next[cls] = False
        record = self._pop_held(cls)
        self._under_way[_recipient(record)] = []
        members, _ = self._sizes.look(record.to, now_ns)
        hushed_before_ns = self._fanout.hush_until_ns
        token = self._fanout.open(self._sizes.ratios.expected(members), now_ns)
        if self._fanout.hush_until_ns != hushed_before_ns:
            self._hushed_from = cls
        self._opened[record.seq] = token, members
        return record

    def named(self, record: SendRecord, message_id: str, now_ns: int) -> None:
        """The node took a send and calls it `message_id`."""
        self._landed(record, now_ns)
        token, members = self._opened.pop(record.seq, (0, 0 if record.is_group else 1))
        if token and self._fanout is not None:
            self._fanout.name(token, message_id, now_ns)
        if members and self._sizes is not None:
            self._sizes.ratios.sent(message_id, record.to, members, now_ns)

    def refused(self, record: SendRecord, now_ns: int) -> None:
        """The node did not take a send: it causes nothing."""
        self._landed(record, now_ns)
        token, _ = self._opened.pop(record.seq, (0, 1))
        if token and self._fanout is not None:
            self._fanout.cancel(token, now_ns)

    def unanswered(self, record: SendRecord, now_ns: int) -> None:
        """Nobody knows whether the node took a send: what it may have caused is expected until it expires."""
        self._landed(record, now_ns)
        self._opened.pop(record.seq, None)

    def release(self, seq: int, now_ns: int) -> None:
        """Give a send that is held or in hand back to the backlog, due at once; of any other this changes nothing."""
        for cls in SendClass:
            record = self._held[cls].pop(seq, None)
            if record is None and (in_hand := self._hand[cls]) is not None and in_hand.seq == seq:
                record, self._hand[cls] = in_hand, None
            if record is not None:
                self._is_held_next[cls] = False
                self._put_back(record, now_ns, has_slot=True)
                return
        for waiting in self._under_way.values():
            for at, (record, has_slot) in enumerate(waiting):
                if record.seq == seq:
                    del waiting[at]
                    self._put_back(record, now_ns, has_slot=has_slot)
                    return

    def forget(self, seq: int) -> None:
        """A send was withdrawn for good. The slot booked for it stays taken: others have booked after it."""
        self._booked.discard(seq)

    def give_back(self, now_ns: int) -> None:
        """Give everything held or in hand back to the backlog, due at once."""
        for cls in SendClass:
            for record in (*self._held[cls].values(), self._hand[cls]):
                if record is not None:
                    self._put_back(record, now_ns, has_slot=True)
            self._held[cls].clear()
            self._hand[cls] = None
            self._is_held_next[cls] = False
        for waiting in self._under_way.values():
            for record, has_slot in waiting:
                self._put_back(record, now_ns, has_slot=has_slot)
            waiting.clear()

    def _put_back(self, record: SendRecord, now_ns: int, *, has_slot: bool) -> None:
        self._turns.pop(record.seq, None)
        if has_slot and self._pairs is not None and not record.is_group:
            self._booked.add(record.seq)  # the slot that it had when it came into hand
        self._backlog.defer(record, now_ns)

    def held(self) -> int:
        """Group sends that wait for their turn, or for receipts."""
        return sum(map(len, self._held))

    def booked(self) -> int:
        """Sends that wait for the slot of their recipient."""
        return len(self._booked)


def _first(held: OrderedDict[int, SendRecord]) -> SendRecord:
    return next(iter(held.values()))


def _recipient(record: SendRecord) -> str:
    """Who gets one send at a time, with or without the plus sign of a phone number."""
    return record.to.lstrip("+")

"""The front of the send queue and the backlog behind it as plain lists, all in memory."""

import itertools
from collections.abc import Callable

from gateway.budget.fanout import Verdict
from gateway.events import SendClass, SendRecord
from gateway.outbound.front import Slots


class FrontModel:
    """What waits, stands aside, is in hand and under way, and what must go next."""

    def __init__(self, slots: Slots, aside_max: int, verdict: Callable[[str], Verdict]) -> None:
        """`verdict` is what the window says to the next send to a group."""
        self.slots = slots
        self.verdict = verdict
        self.aside_max = aside_max
        self.fresh: list[list[SendRecord]] = [[] for _ in SendClass]
        self.later: list[list[tuple[int, SendRecord]]] = [[] for _ in SendClass]
        """(due_ns, record)"""
        self.held: list[list[SendRecord]] = [[] for _ in SendClass]
        self.turns: dict[int, int] = {}
        """Of group sends that were looked at, by sequence number."""
        self.turns_given = itertools.count()
        self.hand: list[SendRecord | None] = [None for _ in SendClass]
        self.is_held_next = [False for _ in SendClass]
        self.booked: set[int] = set()
        self.blocked: list[tuple[SendRecord, bool]] = []
        """Those whose recipient has another under way, and whether each has a slot."""
        self.under_way: list[SendRecord] = []
        self.at_node: list[SendRecord] = []
        """Of these, those without an answer."""

    def push(self, record: SendRecord) -> None:
        self.fresh[record.cls].append(record)

    def look(self, allowed: int, now_ns: int, *, prefers_fresh: bool) -> int:
        """Bit mask of the classes of which something is ready."""
        if prefers_fresh and (ready := self._look(allowed, now_ns, only_fresh=True)):
            return ready
        return self._look(allowed, now_ns, only_fresh=False)

    def _look(self, allowed: int, now_ns: int, *, only_fresh: bool) -> int:
        ready = 0
        group_waits = False
        for cls in SendClass:
            if not allowed >> cls & 1:
                continue
            self._step_aside(cls, now_ns)
            if self.fresh[cls] or not only_fresh:
                self._fill(cls, now_ns, prefers_fresh=only_fresh)
            self.is_held_next[cls] = False
            if self.held[cls] and not group_waits:
                verdict = self.verdict(self.held[cls][0].to)
                if verdict is Verdict.CLEAR:
                    break
                self.is_held_next[cls] = verdict is Verdict.GO
                group_waits = verdict is Verdict.WAIT
            if self.is_held_next[cls] or self.hand[cls]:
                ready |= 1 << cls
        return ready

    def _fill(self, cls: SendClass, now_ns: int, *, prefers_fresh: bool) -> None:
        while self.hand[cls] is None:
            record = self._next(cls, now_ns, prefers_fresh=prefers_fresh)
            if record is None:
                return
            if record.is_group and record.seq not in self.turns:
                self.turns[record.seq] = next(self.turns_given)
            if self.is_busy(record):
                self.blocked.append((record, record.seq in self.booked))
                continue
            if record.is_group:
                self._hold(record)
                continue
            if record.seq in self.booked:
                slot_ns = self.slots.free_at_ns(record.to, now_ns)
            else:
                slot_ns = self.slots.reserve(record.to, now_ns)
            if slot_ns > now_ns:
                self.booked.add(record.seq)
                self.later[cls].append((slot_ns, record))
            else:
                self.booked.discard(record.seq)
                self.hand[cls] = record

    def _hold(self, record: SendRecord) -> None:
        self.held[record.cls].append(record)
        self.held[record.cls].sort(key=lambda other: self.turns[other.seq])

    def is_busy(self, record: SendRecord) -> bool:
        return any(other.to == record.to for other in self.at_node)

    def _step_aside(self, cls: SendClass, now_ns: int) -> None:
        in_hand = self.hand[cls]
        if in_hand is not None and self.is_busy(in_hand):
            self.blocked.append((in_hand, True))
            self.hand[cls] = None
        elif in_hand is not None and (free_ns := self.slots.free_at_ns(in_hand.to, now_ns)) > now_ns:
            self.hand[cls] = None
            self.booked.add(in_hand.seq)
            self.later[cls].append((free_ns, in_hand))
        while self.held[cls] and self.is_busy(self.held[cls][0]):
            self.blocked.append((self.held[cls].pop(0), False))

    def land(self, record: SendRecord, now_ns: int) -> None:
        """The node has answered."""
        self.at_node.remove(record)
        for other, has_slot in [item for item in self.blocked if item[0].to == record.to]:
            self.blocked.remove((other, has_slot))
            if other.is_group:
                self._hold(other)
                continue
            if has_slot:
                self.booked.add(other.seq)
            self.later[other.cls].append((now_ns, other))

    def _next(self, cls: SendClass, now_ns: int, *, prefers_fresh: bool) -> SendRecord | None:
        due = sorted((due_ns, record.seq) for due_ns, record in self.later[cls] if due_ns <= now_ns)
        has_fresh = bool(self.fresh[cls]) and not self.is_closed(cls)
        if due and not (prefers_fresh and has_fresh):
            return self._remove(due[0][1])
        return self.fresh[cls].pop(0) if has_fresh else None

    def is_closed(self, cls: SendClass) -> bool:
        aside = len(self.later[cls]) + len(self.held[cls]) + (self.hand[cls] is not None)
        aside += sum(record.cls is cls for record, _ in self.blocked)
        return aside + sum(record.cls is cls for record in self.under_way) >= self.aside_max

    def take(self, cls: SendClass, now_ns: int) -> SendRecord:
        record = self.held[cls].pop(0) if self.is_held_next[cls] else self.hand[cls]
        assert record is not None
        if not self.is_held_next[cls]:
            self.hand[cls] = None
        self.is_held_next[cls] = False
        self.turns.pop(record.seq, None)
        if not record.is_group:
            self.slots.went(record.to, now_ns)
        self.under_way.append(record)
        self.at_node.append(record)
        return record

    def fail(self, record: SendRecord, due_ns: int) -> None:
        self.under_way.remove(record)
        self.later[record.cls].append((due_ns, record))

    def move(self, record: SendRecord, moved: SendRecord, now_ns: int) -> None:
        """A send that is not under way is `moved` now: before what is fresh in its class, and when it was due."""
        due_ns = max([now_ns, *(due for due, other in self.later[record.cls] if other.seq == record.seq)])
        if self.hand[record.cls] is record or (record, True) in self.blocked:
            self.booked.add(record.seq)
        self._remove(record.seq)
        self.turns.pop(record.seq, None)
        self.later[moved.cls].append((due_ns, moved))

    def give_back(self, now_ns: int) -> None:
        """All that is held or in hand waits again, due now, with the slots it has."""
        self.turns.clear()
        for cls in SendClass:
            in_hand = self.hand[cls]
            if in_hand is not None:
                self.booked.add(in_hand.seq)
                self.later[cls].append((now_ns, in_hand))
            self.later[cls] += [(now_ns, record) for record in self.held[cls]]
            self.held[cls].clear()
            self.hand[cls] = None
            self.is_held_next[cls] = False
        for record, has_slot in self.blocked:
            if has_slot:
                self.booked.add(record.seq)
            self.later[record.cls].append((now_ns, record))
        self.blocked.clear()

    def _remove(self, seq: int) -> SendRecord:
        record = next(record for record in self.waiting() if record.seq == seq)
        cls = record.cls
        self.fresh[cls] = [other for other in self.fresh[cls] if other.seq != seq]
        self.later[cls] = [item for item in self.later[cls] if item[1].seq != seq]
        self.held[cls] = [other for other in self.held[cls] if other.seq != seq]
        self.blocked = [item for item in self.blocked if item[0].seq != seq]
        if self.hand[cls] is record:
            self.hand[cls] = None
        return record

    def waiting(self) -> list[SendRecord]:
        """All that is not under way."""
        lists = [*self.fresh, *([record for _, record in later] for later in self.later), *self.held]
        lists.append([record for record, _ in self.blocked])
        return [record for of_class in lists for record in of_class] + [rec for rec in self.hand if rec]

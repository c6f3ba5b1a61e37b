"""The front beside plain lists: none lost, repeated or out of order, classes changed at any moment, and all given back."""

from collections import Counter

import msgspec
import pytest
from builders import MemoryStore, send, send_backlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model.front import FrontModel

from gateway.budget.fanout import FanOut, Ruling, Verdict
from gateway.budget.groups import GroupSizes
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.clock import NS_PER_S, FakeClock
from gateway.events import SendClass
from gateway.outbound.front import Front


class Gate(FanOut):
    """A window that says what the test says, and always GO to one group, which is small."""

    says = Verdict.GO
    asked = ""
    """The group that the next verdict is about."""

    def of(self, group_id: str) -> Verdict:
        return Verdict.GO if group_id == "group a" else self.says

    def verdict(self, k: int, now_ns: int) -> Ruling:
        verdict = self.of(self.asked)
        return Ruling(verdict, now_ns if verdict is Verdict.GO else now_ns + NS_PER_S)


class Sizes(GroupSizes):
    """Tells the gate whose size was asked for."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(Ratios(), asks=False)
        self._gate = gate

    def look(self, group_id: str, now_ns: int) -> tuple[int, int]:
        self._gate.asked = group_id
        return super().look(group_id, now_ns)


class NotedSlots(PairLimit):
    """Two at once to a recipient, then one in 6 s; notes what it booked."""

    def __init__(self) -> None:
        super().__init__(6 * NS_PER_S, 2)
        self.booked_ns: dict[str, list[int]] = {}

    def reserve(self, to: str, now_ns: int) -> int:
        slot_ns = super().reserve(to, now_ns)
        self.booked_ns.setdefault(to, []).append(slot_ns)
        return slot_ns


_WHICH = st.integers(0, 1000)
_CLASS = st.sampled_from(SendClass)


class FrontBesideModel(RuleBasedStateMachine):
    """A front that sends to few recipients, changes classes at any moment and is drained at the end."""

    @initialize(aside_max=st.sampled_from([2, 3, 5, 1000]), has_outages=st.booleans())
    def start(self, aside_max: int, has_outages: bool) -> None:
        self.clock = FakeClock()
        self.queue = send_backlog(MemoryStore(self.clock), self.clock, slots=4096, aside_max=aside_max)
        self.gate = Gate(1000)
        self.slots = NotedSlots()
        self.front = Front(self.queue, self.gate, Sizes(self.gate), self.slots)
        self.model = FrontModel(NotedSlots(), aside_max, self.gate.of)
        self.has_outages = has_outages
        self.last_seq = 0
        self.gone: Counter[str] = Counter()
        """Sends of single chats that went, by recipient."""
        self.went: set[int] = set()
        self.stayed: set[int] = set()
        """Sequence numbers of sends that have always been in one class, and never failed."""

    @rule(cls=_CLASS, to=st.sampled_from(["a", "b", "c"]), is_group=st.booleans(), count=st.integers(1, 4))
    def sends_are_pushed(self, cls: SendClass, to: str, is_group: bool, count: int) -> None:
        for _ in range(count):
            self.last_seq += 1
            record = send(self.last_seq, cls, f"group {to}" if is_group else to, is_group=is_group)
            self.stayed.add(record.seq)
            self.queue.push(record)
            self.model.push(record)

    @rule(
        allowed=st.sampled_from([0b1111, 0b1111, 0b0111, 0b1000]),
        which=_WHICH,
        prefers_fresh=st.booleans(),
        is_granted=st.booleans(),
    )
    def the_pacer_looks(self, allowed: int, which: int, prefers_fresh: bool, is_granted: bool) -> None:
        now_ns = self.clock.now_ns()
        prefers_fresh = prefers_fresh and self.has_outages
        ready, until_ns = self.front.look(allowed, now_ns, prefers_fresh=prefers_fresh)
        assert ready == self.model.look(allowed, now_ns, prefers_fresh=prefers_fresh)
        assert ready or until_ns > now_ns
        classes = [cls for cls in SendClass if ready >> cls & 1]
        if self.gate.says is not Verdict.CLEAR and not prefers_fresh:
            # A class of which nothing may go has nothing left behind what waits, whatever is held: unless it is full.
            for cls in SendClass:
                if allowed >> cls & 1 and cls not in classes:
                    assert not self.queue.depth(cls) or self.model.is_closed(cls)
        if classes and is_granted:
            self._take(classes[which % len(classes)])

    def _take(self, cls: SendClass) -> None:
        now_ns = self.clock.now_ns()
        record = self.front.take(cls, now_ns)
        assert record is self.model.take(cls, now_ns)
        earlier = [
            other
            for other in self.model.waiting()
            if (other.cls, other.is_group) == (cls, record.is_group) and other.seq < record.seq
        ]
        if not record.is_group:
            self.gone[record.to] += 1
            slots_ns = sorted(self.slots.booked_ns[record.to])
            assert slots_ns[self.gone[record.to] - 1] <= now_ns, "each goes in a slot of its own"
            earlier = [other for other in earlier if other.to == record.to]
        # Of other groups only those that wait for no answer; to its own recipient none may be left.
        earlier = [other for other in earlier if other.to == record.to or not self.model.is_busy(other)]
        # With outages what is fresh goes first, and only lanes, which this queue has not, keep its order then.
        if record.seq in self.stayed and not self.has_outages:
            assert not self.stayed & {other.seq for other in earlier}, "first come, first gone"

    @precondition(lambda self: self.model.under_way)
    @rule(which=_WHICH, delay_s=st.integers(0, 10))
    def a_send_fails_and_waits_for_its_retry(self, which: int, delay_s: int) -> None:
        record = self.model.under_way[which % len(self.model.under_way)]
        now_ns = self.clock.now_ns()
        self.stayed.discard(record.seq)
        self.front.refused(record, now_ns)
        self.model.land(record, now_ns)
        self.queue.defer(record, now_ns + delay_s * NS_PER_S)
        self.model.fail(record, now_ns + delay_s * NS_PER_S)

    @precondition(lambda self: self.model.under_way)
    @rule(which=_WHICH)
    def the_node_takes_a_send(self, which: int) -> None:
        record = self.model.under_way.pop(which % len(self.model.under_way))
        self.front.named(record, f"gBGG{record.seq}", self.clock.now_ns())
        self.model.land(record, self.clock.now_ns())
        self.queue.settle(record)
        assert record.seq not in self.went
        self.went.add(record.seq)

    @precondition(lambda self: self.model.waiting())
    @rule(which=_WHICH, new=_CLASS)
    def a_send_is_given_another_class(self, which: int, new: SendClass) -> None:
        record = sorted(self.model.waiting(), key=lambda rec: rec.seq)[which % len(self.model.waiting())]
        assert bool(self.queue.moves.room(new)) != self.model.is_closed(new)
        if record.cls is new or self.model.is_closed(new):
            return
        self.stayed.discard(record.seq)
        now_ns = self.clock.now_ns()
        self.front.release(record.seq, now_ns)
        assert self.queue.moves.withdraw(record.seq, record.cls) is record
        changed = msgspec.structs.replace(record, cls=new)
        self.queue.moves.reinstate(changed)
        self.model.move(record, changed, now_ns)

    @precondition(lambda self: self.model.under_way)
    @rule(which=_WHICH)
    def a_send_under_way_keeps_its_class(self, which: int) -> None:
        record = self.model.under_way[which % len(self.model.under_way)]
        self.front.release(record.seq, self.clock.now_ns())
        with pytest.raises(KeyError):
            self.queue.moves.withdraw(record.seq, record.cls)

    @rule(says=st.sampled_from(Verdict))
    def the_window_changes(self, says: Verdict) -> None:
        self.gate.says = says

    @rule(seconds=st.sampled_from([0, 1, 5, 6, 30]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance_ns(seconds * NS_PER_S)

    @invariant()
    def every_send_is_somewhere_once(self) -> None:
        if not hasattr(self, "front"):
            return
        model = self.model
        there = [record.seq for record in (*model.waiting(), *model.under_way)] + list(self.went)
        assert sorted(there) == list(range(1, self.last_seq + 1))
        assert self.queue.total() == self.last_seq - len(self.went)
        in_hand = sum(record is not None for record in model.hand)
        assert self.front.held() == sum(map(len, model.held))
        assert self.queue.taken() == self.front.held() + in_hand + len(model.under_way) + len(model.blocked)
        assert self.front.booked() == len(model.booked)
        blocked = {rec.seq for rec, has_slot in model.blocked if has_slot}
        with_slot = Counter(
            rec.to for rec in model.waiting() if rec.seq in model.booked | blocked or rec in model.hand
        )
        for to, slots_ns in self.slots.booked_ns.items():
            assert len(slots_ns) == self.gone[to] + with_slot[to], "one slot for each time a send goes"

    def teardown(self) -> None:
        """All comes back: drained, everything that is not at the node can be taken from the queue."""
        if not hasattr(self, "front"):
            return
        self.front.give_back(self.clock.now_ns())
        self.model.give_back(self.clock.now_ns())
        self.every_send_is_somewhere_once()
        for record in self.model.under_way:
            self.queue.settle(record)
        self.clock.advance_ns(10**15)
        taken = []
        while (left := self.queue.take()) is not None:
            taken.append(left.seq)
            self.queue.settle(left)
        assert sorted(taken) == sorted(record.seq for record in self.model.waiting())
        assert self.queue.total() == 0


TestFrontBesideModel = FrontBesideModel.TestCase
TestFrontBesideModel.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)


def test_a_group_send_that_waits_for_an_answer_keeps_its_turn() -> None:
    """Another class has a send to the same group at the node; a later send to another group is held meanwhile."""
    state = FrontBesideModel()
    state.start(aside_max=2, has_outages=False)
    state.the_window_changes(says=Verdict.GO)
    state.sends_are_pushed(cls=SendClass.REPLY, count=1, is_group=False, to="a")
    state.sends_are_pushed(cls=SendClass.HIGH, count=1, is_group=True, to="c")
    state.sends_are_pushed(cls=SendClass.HIGH, count=1, is_group=True, to="a")
    state.sends_are_pushed(cls=SendClass.NORMAL, count=1, is_group=True, to="c")
    state.the_pacer_looks(allowed=15, which=2, prefers_fresh=False, is_granted=True)
    state.the_pacer_looks(allowed=15, which=0, prefers_fresh=False, is_granted=False)
    assert [record.seq for record in state.model.held[SendClass.HIGH]] == [3]
    state.the_node_takes_a_send(which=0)
    state.the_pacer_looks(allowed=15, which=1, prefers_fresh=False, is_granted=True)
    assert [record.seq for record in state.model.under_way] == [2]

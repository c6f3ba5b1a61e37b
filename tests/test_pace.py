"""The pacer grants sends one by one, on time, the most urgent first, and is silent while paused."""

import asyncio

import pytest
from builders import FakeAlarm, MemoryStore, send, send_backlog, turns

from gateway.budget.classes import ClassShares
from gateway.budget.fanout import CLEAR_MAX_NS, EXPIRY_NS, HUSH_NS, FanOut
from gateway.budget.groups import ASK_WAIT_NS, MEMBERS_ASSUMED, GroupSizes
from gateway.budget.pairs import PairLimit
from gateway.budget.ratios import Ratios
from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock, SystemClock
from gateway.events import SendClass, SendRecord, TpsKind
from gateway.outbound.alarm import KernelAlarm
from gateway.outbound.front import HELD_MAX, Front, Look
from gateway.outbound.pace import PAUSE_BULK_MS, PAUSE_MAX_MS, PAUSE_MIN_MS, Pacer

REPLY, HIGH, NORMAL, BULK = SendClass


class FakeBudget:
    """Grants one send each `interval_ns`."""

    def __init__(self, interval_ns: int = 0) -> None:
        self.interval_ns = interval_ns
        self.next_ns = 0
        self.granted = 0
        self.slowed = 0
        self.successes = 0

    def try_send(self, now_ns: int) -> int:
        if now_ns < self.next_ns:
            return self.next_ns
        self.granted += 1
        self.next_ns = now_ns + self.interval_ns
        return now_ns

    def slow_down(self, now_ns: int) -> None:
        self.slowed += 1

    def succeeded(self, now_ns: int) -> None:
        self.successes += 1


class Rig:
    """A pacer whose time stands still until the alarm is reached."""

    def __init__(self, interval_ns: int = 0) -> None:
        self.clock = FakeClock()
        self.queue = send_backlog(MemoryStore(self.clock), self.clock)
        self.budget = FakeBudget(interval_ns)
        self.alarm = FakeAlarm(self.clock)
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock)
        self._seq = 0

    def push(self, *classes: SendClass) -> None:
        for cls in classes:
            self._seq += 1
            self.queue.push(send(self._seq, cls))

    def ask(self) -> "asyncio.Task[SendRecord | None]":
        return asyncio.create_task(self.pacer.next())

    async def next_class(self) -> SendClass:
        record = await self.pacer.next()
        assert record is not None
        return record.cls


async def test_grants_in_strict_order_of_class_and_then_of_age() -> None:
    rig = Rig()
    rig.push(BULK, NORMAL, HIGH, NORMAL, REPLY)
    granted = [await rig.pacer.next() for _ in range(5)]
    assert [(record.cls, record.seq) for record in granted if record] == [
        (REPLY, 5), (HIGH, 3), (NORMAL, 2), (NORMAL, 4), (BULK, 1),
    ]  # fmt: skip


async def test_a_send_is_chosen_when_its_moment_comes_and_not_before() -> None:
    """What arrives in a higher class while the pacer sleeps goes first."""
    rig = Rig(interval_ns=1000)
    rig.push(BULK, BULK)
    assert await rig.next_class() is BULK
    asking = rig.ask()
    await turns()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + 1000
    rig.push(REPLY)
    rig.alarm.reach()
    record = await asking
    assert record is not None
    assert record.cls is REPLY


async def test_an_alarm_that_rings_early_grants_nothing() -> None:
    rig = Rig(interval_ns=1000)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    rig.clock.advance_ns(999)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    assert rig.budget.granted == 1
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    assert await asking is not None


async def test_nothing_is_taken_from_the_budget_without_work() -> None:
    rig = Rig()
    asking = rig.ask()
    await turns()
    assert rig.budget.granted == 0
    rig.push(NORMAL)
    assert await asking is not None
    assert rig.budget.granted == 1


async def test_those_who_wait_are_served_in_order() -> None:
    rig = Rig()
    first, second = rig.ask(), rig.ask()
    await turns()
    rig.push(NORMAL)
    await turns()
    assert first.done()
    assert not second.done()
    rig.push(NORMAL)
    assert await second is not None


@pytest.mark.parametrize("is_asleep", [False, True])
async def test_cancelling_loses_no_send_and_no_grant(is_asleep: bool) -> None:
    rig = Rig(interval_ns=1000)
    if is_asleep:
        rig.push(NORMAL)
        await rig.pacer.next()
        rig.push(NORMAL)
    granted = rig.budget.granted
    asking = rig.ask()
    await turns()
    asking.cancel()
    await turns()
    assert asking.cancelled()
    assert rig.budget.granted == granted
    rig.clock.advance_ns(1000)
    if not is_asleep:
        rig.push(NORMAL)
    assert await rig.pacer.next() is not None


# -- pauses


async def test_a_pause_holds_everything_until_its_end() -> None:
    rig = Rig()
    rig.push(REPLY)
    until_ns = rig.pacer.pause_all(None)
    assert until_ns == rig.clock.now_ns() + PAUSE_MIN_MS * NS_PER_MS
    assert rig.pacer.paused_ms() == PAUSE_MIN_MS
    asking = rig.ask()
    await turns()
    assert rig.alarm.deadline_ns == until_ns
    assert rig.budget.granted == 0
    rig.alarm.reach()
    assert await asking is not None
    assert rig.pacer.paused_ms() == 0


async def test_a_pause_that_begins_while_the_pacer_sleeps_counts() -> None:
    rig = Rig(interval_ns=1000)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    until_ns = rig.pacer.pause_all(None)
    rig.alarm.reach()
    await turns()
    assert not asking.done()
    assert rig.alarm.deadline_ns == until_ns
    rig.alarm.reach()
    assert await asking is not None


async def test_the_time_the_node_names_is_kept() -> None:
    rig = Rig()
    assert rig.pacer.pause_all(7.5) == rig.clock.now_ns() + 7_500 * NS_PER_MS
    assert rig.pacer.pause_all(3.0) == rig.clock.now_ns() + 7_500 * NS_PER_MS
    assert rig.pacer.pause_all(9.0) == rig.clock.now_ns() + 9_000 * NS_PER_MS


async def test_a_time_beyond_the_bound_is_not_believed() -> None:
    rig = Rig()
    assert rig.pacer.pause_all(86_400.0) == rig.clock.now_ns() + PAUSE_MAX_MS * NS_PER_MS


async def test_pauses_in_a_row_double_up_to_a_bound_until_a_send_succeeds() -> None:
    rig = Rig()

    def pause_ms() -> int:
        ms = (rig.pacer.pause_all(None) - rig.clock.now_ns()) // NS_PER_MS
        rig.clock.advance_ns(ms * NS_PER_MS)
        return ms

    assert [pause_ms() for _ in range(7)] == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    rig.pacer.succeeded()
    assert [pause_ms() for _ in range(2)] == [2_000, 4_000]
    assert rig.pacer.pauses == 9


@pytest.mark.parametrize("retry_after_s", [None, 2.0])
async def test_answers_to_sends_that_were_under_way_are_one_pause(retry_after_s: float | None) -> None:
    """Sixteen connections, one overload: the next pause is the second, not the seventeenth."""
    rig = Rig()
    for _ in range(16):
        rig.pacer.pause_all(retry_after_s)
    assert rig.pacer.pauses == 1
    rig.clock.advance_ns(2_000 * NS_PER_MS)
    assert rig.pacer.pause_all(None) == rig.clock.now_ns() + 4_000 * NS_PER_MS


async def test_a_pause_of_bulk_leaves_the_other_classes() -> None:
    rig = Rig()
    rig.push(BULK, NORMAL)
    until_ns = rig.pacer.pause_bulk()
    assert until_ns == rig.clock.now_ns() + PAUSE_BULK_MS * NS_PER_MS
    assert await rig.next_class() is NORMAL
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.push(REPLY)
    record = await asking
    assert record is not None
    assert record.cls is REPLY
    rig.clock.advance_ns(PAUSE_BULK_MS * NS_PER_MS - 1)
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.queue.wake_all()
    record = await asking
    assert record is not None
    assert record.cls is BULK


async def test_bulk_that_becomes_allowed_is_not_slept_over() -> None:
    """Nobody pushes at the end of the pause: the pacer must wake by itself."""
    rig = Rig()
    rig.push(BULK)
    rig.pacer.pause_bulk()
    rig.clock.advance_ns(PAUSE_BULK_MS * NS_PER_MS - NS_PER_MS)
    asking = rig.ask()
    await turns()
    assert not asking.done()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + NS_PER_MS
    rig.alarm.reach()
    assert await asking is not None


# -- sends that step aside: groups

TPS = 10
SMALL, LARGE = 40, 256
"""Members: receipts of two small groups don't fit into 5 s of the plan, those of a large one alone don't."""


class GroupRig(Rig):
    """A pacer with the fan-out window, groups of any size, and a count of its wake-ups."""

    def __init__(self, interval_ns: int = 0, *, asks: bool = False) -> None:
        super().__init__(interval_ns)
        self.queue = send_backlog(MemoryStore(self.clock), self.clock, slots=512, delayed_max=512)
        self.fanout = FanOut(TPS)
        self.sizes = GroupSizes(Ratios(), asks=asks)
        self.sizes.ratios.delivered_ratio = 1.0
        self.front = Front(self.queue, self.fanout, self.sizes)
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock, self.front)
        self.fanout.on_room = self.pacer.ring
        self.looks = 0
        look = self.front.look

        def counted(allowed: int, now_ns: int, *, prefers_fresh: bool = False) -> Look:
            self.looks += 1
            return look(allowed, now_ns, prefers_fresh=prefers_fresh)

        self.front.look = counted  # type: ignore[method-assign]

    def push_group(self, cls: SendClass = NORMAL, members: int = SMALL, name: str = "") -> int:
        self._seq += 1
        group_id = name or f"group {self._seq}"
        self.sizes.told(group_id, members, self.clock.now_ns())
        self.queue.push(send(self._seq, cls, group_id, is_group=True))
        return self._seq

    async def next_seq(self) -> int:
        record = await asyncio.wait_for(self.pacer.next(), 1)
        assert record is not None
        return record.seq

    async def send_group(self, cls: SendClass = NORMAL, members: int = SMALL) -> SendRecord:
        """Let a group send go, which the node calls by its number."""
        seq = self.push_group(cls, members)
        record = await self.pacer.next()
        assert record is not None
        assert record.seq == seq
        self.front.named(record, str(seq), self.clock.now_ns())
        return record

    def arrive(self, record: SendRecord, count: int, first: int = 0) -> None:
        for at in range(first, first + count):
            self.fanout.arrived(str(record.seq), f"member {at}", self.clock.now_ns())

    async def asks_in_vain(self) -> "asyncio.Task[SendRecord | None]":
        asking = self.ask()
        await turns()
        assert not asking.done()
        return asking


async def test_a_group_waits_for_the_receipts_of_the_one_before_while_others_go_on() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group()
    rig.push(NORMAL, NORMAL)
    assert [await rig.next_seq() for _ in range(2)] == [held + 1, held + 2]
    assert rig.front.held() == 1
    assert rig.queue.taken() == 4
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + EXPIRY_NS
    rig.arrive(first, 29)
    await turns()
    assert not asking.done()
    rig.arrive(first, 1, first=29)
    record = await asking
    assert record is not None
    assert record.seq == held
    assert rig.fanout.outstanding == 10 + SMALL
    assert rig.front.held() == 0


async def test_without_receipts_a_group_goes_when_they_expire_and_not_before() -> None:
    rig = GroupRig()
    await rig.send_group()
    held = rig.push_group()
    asking = await rig.asks_in_vain()
    rig.clock.advance_ns(EXPIRY_NS - 1)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    record = await asking
    assert record is not None
    assert record.seq == held


async def test_a_pacer_that_waits_for_receipts_wakes_for_what_matters_only() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group()
    asking = await rig.asks_in_vain()
    looks = rig.looks
    await turns(50)
    assert rig.looks == looks
    rig.arrive(first, 29)
    await turns(50)
    assert rig.looks == looks, "receipts that make no room wake nobody"
    rig.push(BULK)
    assert await asking is not None
    assert rig.looks == looks + 1
    asking = await rig.asks_in_vain()
    looks = rig.looks
    rig.arrive(first, 11, first=29)
    record = await asking
    assert record is not None
    assert record.seq == held
    assert rig.looks == looks + 1, "and those that make room wake once"


async def test_one_that_is_held_goes_before_fresh_ones_of_its_class_and_after_those_above() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = rig.push_group(NORMAL)
    asking = await rig.asks_in_vain()
    asking.cancel()
    await turns()
    rig.push(NORMAL, HIGH, BULK)
    rig.arrive(first, SMALL)
    assert [await rig.next_seq() for _ in range(4)] == [held + 2, held, held + 1, held + 3]


async def test_held_ones_of_a_class_go_in_order() -> None:
    rig = GroupRig()
    await rig.send_group()
    seqs = [rig.push_group(members=members) for members in (SMALL, 2, SMALL)]
    granted: list[int] = []
    for _ in seqs:
        asking = rig.ask()
        await turns()
        if not asking.done():
            rig.alarm.reach()
        record = await asking
        assert record is not None
        granted.append(record.seq)
    assert granted == seqs


async def test_a_group_below_does_not_take_the_room_that_one_above_waits_for() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    high = rig.push_group(HIGH, SMALL)
    rig.push_group(BULK, 2)
    asking = await rig.asks_in_vain()
    rig.arrive(first, SMALL)
    record = await asking
    assert record is not None
    assert record.seq == high


async def test_a_class_above_overtakes_a_held_group_with_its_own_group() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    normal = rig.push_group(NORMAL)
    asking = await rig.asks_in_vain()
    high = rig.push_group(HIGH)
    await turns()
    rig.arrive(first, SMALL)
    record = await asking
    assert record is not None
    assert record.seq == high
    rig.front.refused(record, rig.clock.now_ns())
    assert await rig.next_seq() == normal


async def test_clearing_holds_its_class_and_those_below_and_no_longer_than_its_bound() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    rig.fanout.charge_arrival(100, rig.clock.now_ns())
    rig.push(NORMAL, BULK, HIGH)
    assert await rig.next_seq() == large + 3
    begun_ns = rig.clock.now_ns()
    asking = await rig.asks_in_vain()
    while rig.clock.now_ns() < begun_ns + CLEAR_MAX_NS - NS_PER_S:
        rig.clock.advance_ns(NS_PER_S)
        rig.fanout.charge_arrival(100, rig.clock.now_ns())
        rig.alarm.ring()
        await turns()
        assert not asking.done()
    assert rig.alarm.deadline_ns == begun_ns + CLEAR_MAX_NS
    rig.clock.advance_ns(NS_PER_S - 1)
    rig.alarm.ring()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.alarm.ring()
    record = await asking
    assert record is not None
    assert record.seq == large
    # And after it they hush, until its first receipts can be here.
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + HUSH_NS
    rig.clock.advance_ns(HUSH_NS)
    rig.alarm.ring()
    after = await asking
    assert after is not None
    assert [after.seq, await rig.next_seq()] == [large + 1, large + 2]


async def test_a_class_above_does_not_hush() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    assert await rig.next_seq() == large
    rig.push(HIGH)
    assert await rig.next_seq() == large + 1


async def test_clearing_ends_as_soon_as_it_is_quiet() -> None:
    rig = GroupRig()
    large = rig.push_group(NORMAL, LARGE)
    rig.fanout.charge_arrival(100, rig.clock.now_ns())
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + 10 * NS_PER_S
    rig.alarm.reach()
    record = await asking
    assert record is not None
    assert record.seq == large


async def test_at_the_bound_of_held_sends_their_class_waits_and_the_others_do_not() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    seqs = [rig.push_group(BULK, 20) for _ in range(HELD_MAX + 2)]
    rig.push(BULK)
    single = rig._seq
    rig.push(HIGH)
    rig.push_group(NORMAL, 20)
    rig.push(NORMAL)
    assert [await rig.next_seq() for _ in range(2)] == [single + 1, single + 3]
    (await rig.asks_in_vain()).cancel()
    assert rig.front.held() == HELD_MAX + 1
    assert rig.queue.taken() == 1 + 2 + HELD_MAX + 2, "one more of bulk is in hand"
    rig.arrive(first, SMALL)
    await turns()
    granted: list[int] = []
    while len(granted) < HELD_MAX + 4:
        asking = rig.ask()
        await turns()
        if not asking.done():
            rig.alarm.reach()
        record = await asking
        assert record is not None
        granted.append(record.seq)
        rig.front.refused(record, rig.clock.now_ns())
    assert granted == [single + 2, *seqs, single]


async def test_cancelling_and_draining_lose_no_held_send() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    held = [rig.push_group(), rig.push_group(BULK)]
    asking = await rig.asks_in_vain()
    asking.cancel()
    await turns()
    assert asking.cancelled()
    assert rig.front.held() == 2
    asking = await rig.asks_in_vain()
    rig.pacer.drain()
    assert await asking is None
    assert rig.front.held() == 0
    rig.queue.settle(first)
    assert (rig.queue.taken(), rig.queue.total()) == (0, 2)
    assert sorted(rec.seq for rec in (rig.queue.take(), rig.queue.take()) if rec) == held


async def test_a_pause_of_bulk_holds_a_held_group_of_bulk_too() -> None:
    rig = GroupRig()
    first = await rig.send_group()
    rig.push_group(BULK)
    asking = await rig.asks_in_vain()
    rig.pacer.pause_bulk()
    rig.arrive(first, SMALL)
    await turns()
    assert not asking.done()
    rig.push_group(NORMAL)
    record = await asking
    assert record is not None
    assert record.cls is NORMAL


async def test_a_send_to_a_group_of_unknown_size_waits_for_the_answer_and_for_it_only() -> None:
    rig = GroupRig(asks=True)
    rig.queue.push(send(1, NORMAL, "new group", is_group=True))
    rig._seq = 1
    rig.push(NORMAL)
    assert await rig.next_seq() == 2
    asking = await rig.asks_in_vain()
    assert rig.alarm.deadline_ns == rig.clock.now_ns() + ASK_WAIT_NS
    assert rig.sizes.next_wanted() == "new group"
    rig.sizes.told("new group", 3, rig.clock.now_ns())
    rig.pacer.ring()
    assert await asking is not None
    assert rig.fanout.outstanding == 3


async def test_when_the_answer_does_not_come_the_largest_size_is_assumed() -> None:
    rig = GroupRig(asks=True)
    rig.queue.push(send(1, NORMAL, "new group", is_group=True))
    asking = await rig.asks_in_vain()
    rig.alarm.reach()
    assert await asking is not None
    assert rig.fanout.outstanding == MEMBERS_ASSUMED


# -- sends that step aside: the pair limit


class PairRig(Rig):
    """A pacer with a pair limit: 2 at once, then one in 6 s."""

    def __init__(self, interval_ns: int = 0) -> None:
        super().__init__(interval_ns)
        self.front = Front(self.queue, pairs=PairLimit(6 * NS_PER_S, 2))
        self.pacer = Pacer(self.queue, self.budget, self.alarm, self.clock, self.front)

    def push_to(self, *recipients: str) -> None:
        for to in recipients:
            self._seq += 1
            self.queue.push(send(self._seq, NORMAL, to))

    async def granted(self, count: int) -> list[int]:
        records = [await self.pacer.next() for _ in range(count)]
        return [record.seq for record in records if record]


async def test_one_recipient_over_its_limit_holds_nobody_else_up() -> None:
    rig = PairRig()
    rig.push_to("a", "a", "a", "a", "b")
    assert await rig.granted(3) == [1, 2, 5]
    assert rig.front.booked() == 2
    asking = rig.ask()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(6 * NS_PER_S - 1)
    rig.queue.wake_all()
    await turns()
    assert not asking.done()
    rig.clock.advance_ns(1)
    rig.queue.wake_all()
    record = await asking
    assert record is not None
    assert record.seq == 3
    rig.push_to("a", "c")
    assert await rig.granted(1) == [7]
    assert rig.front.booked() == 2
    rig.clock.advance_ns(6 * NS_PER_S)
    assert await rig.granted(1) == [4]
    rig.clock.advance_ns(6 * NS_PER_S)
    assert await rig.granted(1) == [6]


async def test_a_slot_is_booked_once_however_long_the_budget_takes() -> None:
    rig = PairRig(interval_ns=NS_PER_S)
    rig.push_to("b", "a", "a")
    assert await rig.granted(1) == [1]
    asking = rig.ask()
    await turns()
    for _ in range(5):
        rig.alarm.ring()
        await turns()
    rig.alarm.reach()
    record = await asking
    assert record is not None
    rig.clock.advance_ns(NS_PER_S)
    assert await rig.granted(1) == [3], "both of the burst, though the first was looked at many times"


# -- draining


async def test_draining_ends_all_who_wait() -> None:
    rig = Rig()
    asking = [rig.ask() for _ in range(3)]
    await turns()
    rig.pacer.drain()
    assert await asyncio.gather(*asking) == [None, None, None]


async def test_draining_ends_a_sleep_and_leaves_the_send_in_the_queue() -> None:
    rig = Rig(interval_ns=NS_PER_S)
    rig.push(NORMAL, NORMAL)
    await rig.pacer.next()
    asking = rig.ask()
    await turns()
    rig.pacer.drain()
    assert await asking is None
    assert (rig.queue.total(), rig.queue.taken()) == (2, 1)
    assert rig.budget.granted == 1


async def test_a_drained_pacer_grants_nothing() -> None:
    rig = Rig()
    rig.push(NORMAL)
    rig.pacer.drain()
    assert await rig.pacer.next() is None
    assert rig.budget.granted == 0


# -- with the real budget and the real alarm


async def test_a_campaign_never_exceeds_the_window_and_uses_the_rate() -> None:
    """Ten simulated seconds: the alarm is reached as soon as it is set."""
    rig = Rig()
    tps = 20
    budget = TpsBudget(tps, dict.fromkeys(TpsKind, 1), 0, rig.clock.now_ns())
    pacer = Pacer(rig.queue, budget, rig.alarm, rig.clock)
    granted_ns: list[int] = []
    end_ns = rig.clock.now_ns() + WINDOW_NS + 10 * NS_PER_S

    async def work() -> None:
        while await pacer.next() is not None:
            granted_ns.append(rig.clock.now_ns())
            rig.push(BULK)

    rig.push(BULK)
    working = asyncio.create_task(work())
    while rig.clock.now_ns() < end_ns:
        await turns(3)
        if rig.alarm.deadline_ns is not None:
            rig.alarm.reach()
    pacer.drain()
    await working
    for at, first_ns in enumerate(granted_ns):
        assert sum(first_ns <= other_ns < first_ns + WINDOW_NS for other_ns in granted_ns[at:]) <= tps
    assert len(granted_ns) >= 10 * tps * 99 // 100


async def test_the_kernel_alarm_wakes_on_time_and_when_rung() -> None:
    alarm, clock = KernelAlarm(), SystemClock()
    deadline_ns = clock.now_ns() + NS_PER_MS
    await alarm.wait_until(deadline_ns)
    assert clock.now_ns() >= deadline_ns
    await alarm.wait_until(clock.now_ns() - 1)
    waiting = asyncio.create_task(alarm.wait_until(clock.now_ns() + 3600 * NS_PER_S))
    await turns()
    assert not waiting.done()
    alarm.ring()
    await waiting
    alarm.close()


async def test_a_pause_lowers_the_ceiling_once_and_successes_raise_it() -> None:
    rig = Rig()
    rig.pacer.pause_all(None)
    assert rig.budget.slowed == 0, "a node that is away says nothing of its load"
    rig.clock.advance_ns(PAUSE_MAX_MS * NS_PER_MS)
    for _ in range(5):
        rig.pacer.slow_down(None)
    assert rig.budget.slowed == 1, "answers to sends that were under way are one episode"
    rig.pacer.succeeded()
    assert rig.budget.successes == 1


async def test_bulk_keeps_its_floor_and_replies_their_cap() -> None:
    clock = FakeClock()
    queue = send_backlog(MemoryStore(clock), clock, slots=512)
    pacer = Pacer(queue, FakeBudget(), FakeAlarm(clock), clock, shares=ClassShares(5, 80))
    for seq in range(1, 401):
        queue.push(send(seq, SendClass.REPLY if seq % 2 else SendClass.BULK))
    taken = []
    for _ in range(200):
        record = await pacer.next()
        assert record is not None
        taken.append(record.cls)
    assert taken.count(SendClass.BULK) in (39, 40), "a fifth of all is not for replies, and only bulk waits"

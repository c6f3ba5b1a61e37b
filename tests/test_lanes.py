"""Order per contact: one at a time, in the order of acceptance, whatever fails and waits; other contacts go on."""

import asyncio
import random
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest
from builders import WALL_MS, MemoryStore, inbound, turns
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import NS_PER_S, FakeClock
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.store.backlog import Backlog
from gateway.store.lanes import LANE_KEPT, Lanes
from gateway.store.protocol import Place

MESSAGE = InboundClass.MESSAGE


def contact(record: InboundRecord) -> str | None:
    return record.lane or None


class Rig:
    """A backlog with lanes, and who is out of each."""

    def __init__(self, slots: int = 64, aside_max: int = 1000, lane_kept: int = LANE_KEPT) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)

        async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
            return await self.store.read_inbound(InboundClass(cls), after_seq, limit)

        self.lanes: Lanes[InboundRecord] = Lanes(contact, self.store.find_inbound, lane_kept)
        self.queue: Backlog[InboundRecord] = Backlog(
            len(InboundClass),
            slots,
            aside_max,
            read_page,
            lambda r: r.received_ms,
            self.clock,
            lanes=self.lanes,
        )

    def push(self, *lanes: str) -> int:
        """The number of the last one."""
        seq = 0
        for lane in lanes:
            seq = self.store.next_seq()
            record = inbound(seq, MESSAGE, [Kind.MESSAGE], lane=lane, received_ms=WALL_MS)
            self.store.disk.inbound[seq] = record
            self.queue.push(record)
        return seq

    def end(self, record: InboundRecord) -> None:
        del self.store.disk.inbound[record.seq]
        self.queue.settle(record)

    def bodies_in_memory(self) -> int:
        """Of all that is not on disk only."""
        on_disk = self.queue.on_disk(MESSAGE)
        return (self.queue.total() - on_disk) * len(inbound(1).body)

    def has_free_lane_with_fresh(self) -> bool:
        """By looking at every record: whether one in memory was never tried and has nobody of its contact before it."""
        queue, held = self.queue, self.lanes._holders
        if queue._released[MESSAGE]:
            return True
        rings = queue._rings
        ready = [cast("InboundRecord", rings.pop(1 << MESSAGE)) for _ in range(rings.depth(MESSAGE))]
        for record in ready:
            rings.push(MESSAGE, record, record.received_ms)
        room = queue.memory.aside_max - queue.memory.aside[MESSAGE]
        for record in ready:
            if room <= 0:
                return False
            if not record.lane or record.lane not in held:
                return True
            kept = len(self.lanes._kept.get(record.lane, ()))
            room -= kept < self.lanes.lane_kept
        return False

    def take(self) -> int | None:
        record = self.queue.take()
        return None if record is None else record.seq

    def taken(self, seq: int) -> InboundRecord:
        return self.queue._taken[seq]


def test_the_next_of_a_contact_waits_until_the_one_before_has_ended() -> None:
    rig = Rig()
    rig.push("a", "a", "b")
    assert [rig.take(), rig.take(), rig.take()] == [1, 3, None]
    assert (rig.queue.behind(), rig.queue.total()) == (1, 3)
    rig.queue.settle(rig.taken(1))
    assert rig.take() == 2


def test_a_retry_keeps_its_place_before_those_behind_it() -> None:
    rig = Rig()
    rig.push("a", "a", "a")
    assert rig.take() == 1
    rig.queue.defer(rig.taken(1), rig.clock.now_ns() + NS_PER_S)
    assert rig.take() is None
    rig.clock.advance_ns(NS_PER_S)
    assert rig.take() == 1
    rig.queue.settle(rig.taken(1))
    assert [rig.take(), rig.take()] == [2, None]


def test_what_has_no_contact_waits_for_nobody() -> None:
    rig = Rig()
    rig.push("", "", "")
    assert [rig.take(), rig.take(), rig.take()] == [1, 2, 3]


def test_what_is_released_goes_before_what_is_fresh_and_is_no_retry() -> None:
    rig = Rig()
    rig.push("a", "a", "b", "c")
    assert [rig.take(), rig.take()] == [1, 3]
    rig.queue.settle(rig.taken(1))
    assert (rig.queue.delayed(), rig.queue.depth(MESSAGE)) == (0, 2)
    assert [rig.take(), rig.take()] == [2, 4]


@pytest.mark.parametrize("is_released", [False, True])
def test_one_that_waits_behind_another_can_be_withdrawn(is_released: bool) -> None:
    rig = Rig()
    rig.push("a", "a", "a")
    assert [rig.take(), rig.take()] == [1, None]
    if is_released:
        rig.queue.settle(rig.taken(1))
    withdrawn = rig.queue.moves.withdraw(2, MESSAGE)
    assert withdrawn is not None
    assert withdrawn.seq == 2
    with pytest.raises(KeyError):
        rig.queue.moves.withdraw(2, MESSAGE)
    if not is_released:
        assert rig.take() is None
        rig.queue.settle(rig.taken(1))
    assert rig.take() == 3
    rig.queue.moves.reinstate(msgspec.structs.replace(withdrawn, cls=MESSAGE))
    assert rig.take() is None, "3 has the lane now"
    rig.queue.settle(rig.taken(3))
    assert rig.take() == 2
    rig.queue.settle(rig.taken(2))
    assert rig.queue.total() == rig.queue.behind() == rig.queue.memory_bytes == 0


def test_a_retry_that_is_withdrawn_lets_the_next_go() -> None:
    rig = Rig()
    rig.push("a", "a")
    assert [rig.take(), rig.take()] == [1, None]
    rig.queue.defer(rig.taken(1), rig.clock.now_ns() + NS_PER_S)
    assert rig.queue.moves.withdraw(1, MESSAGE) is not None
    assert rig.take() == 2


def lanes_of(lane_kept: int = LANE_KEPT) -> Lanes[InboundRecord]:
    return Lanes(contact, MemoryStore().find_inbound, lane_kept)


def enter(lanes: Lanes[InboundRecord], record: InboundRecord) -> bool:
    return lanes.enter(record) or (lanes.wait(record, has_room=True), False)[1]


def is_empty(lanes: Lanes[InboundRecord]) -> bool:
    parts = (lanes._holders, lanes._kept, lanes._kept_by_seq, lanes._numbers, lanes.unread)
    return not any(parts) and len(lanes) == 0


def test_one_that_is_withdrawn_and_comes_back_changed_is_the_one_that_goes() -> None:
    lanes = lanes_of()
    holder, behind = (inbound(seq, lane="a") for seq in (1, 2))
    assert [enter(lanes, holder), enter(lanes, behind)] == [True, False]
    lanes.take_out(behind)
    changed = msgspec.structs.replace(behind, attempts=1)
    assert not enter(lanes, changed)
    assert lanes.leave(holder) is changed
    assert lanes.leave(changed) is None
    assert is_empty(lanes)


def test_one_that_waits_in_another_lane_now_is_not_given_by_the_old_one() -> None:
    lanes = lanes_of()
    first, other = inbound(1, lane="a"), inbound(2, lane="b")
    assert [enter(lanes, first), enter(lanes, other)] == [True, True]
    moving = inbound(3, lane="a")
    assert not enter(lanes, moving)
    lanes.take_out(moving)
    moved = msgspec.structs.replace(moving, lane="b")
    assert not enter(lanes, moved)
    assert lanes.leave(first) is None
    assert lanes.leave(other) is moved


def test_a_lane_that_nobody_holds_takes_no_memory() -> None:
    lanes = lanes_of()
    records = [inbound(seq, lane="a") for seq in range(1, 4)]
    assert [enter(lanes, record) for record in records] == [True, False, False]
    lanes.take_out(records[1])
    assert [lanes.leave(records[0]), lanes.leave(records[2])] == [records[2], None]
    assert is_empty(lanes)


class Play:
    """A rig whose records are on disk, with a task that reads them back, and what each contact sent and got."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rig = Rig(rng.choice([2, 4, 64]), rng.choice([3, 8, 1000]), rng.choice([1, 2, 5]))
        self.sent: dict[str, list[int]] = {}
        self.ended: dict[str, list[int]] = {}
        self.out: dict[int, InboundRecord] = {}
        self.refill = asyncio.get_running_loop().create_task(self.rig.queue.refill())

    def act(self) -> None:
        rng, queue = self.rng, self.rig.queue
        match rng.choice(["push", "push", "take", "take", "settle", "defer", "time", "look", "move"]):
            case "push":
                lane = rng.choice("aaaabcd")
                self.sent.setdefault(lane, []).append(self.rig.push(lane))
            case "take" if (record := queue.take(only_fresh=rng.random() < 0.3)) is not None:
                assert record.lane not in {other.lane for other in self.out.values()}, "two of one contact"
                before = [seq for seq in self.sent[record.lane] if seq < record.seq]
                assert self.ended.get(record.lane, []) == before
                self.out[record.seq] = record
            case "settle" if self.out:
                self.settle(self.out.pop(rng.choice(sorted(self.out))))
            case "defer" if self.out:
                record = self.out.pop(rng.choice(sorted(self.out)))
                queue.defer(record, self.rig.clock.now_ns() + rng.randint(0, 3))
            case "time":
                self.rig.clock.advance_ns(1)
            case "look":
                assert queue.has_fresh() == self.rig.has_free_lane_with_fresh()
            case "move" if self.sent:
                self.withdraw_some()
            case _:
                pass
        assert queue.total() == sum(map(len, self.sent.values())) - sum(map(len, self.ended.values()))
        assert queue.unsettled(MESSAGE) == queue.total()
        assert queue.memory_bytes == self.rig.bodies_in_memory()

    def withdraw_some(self) -> None:
        """Some that wait are not wanted any more, wherever they are."""
        lane = self.rng.choice(sorted(self.sent))
        ended = self.ended.get(lane, [])
        seqs = [seq for seq in self.sent[lane] if seq not in ended and self.rng.random() < 0.2]
        for seq, record in self.rig.queue.moves.withdraw_all(seqs, MESSAGE).items():
            on_disk = self.rig.store.disk.inbound.pop(seq)
            assert record in (None, on_disk)
            self.rig.queue.moves.drop(on_disk)
            self.sent[lane].remove(seq)
            seqs.remove(seq)
        assert set(seqs) <= self.out.keys(), "only what is taken can't be withdrawn"

    def settle(self, record: InboundRecord) -> None:
        self.ended.setdefault(record.lane, []).append(record.seq)
        del self.rig.store.disk.inbound[record.seq]
        self.rig.queue.settle(record)

    async def finish(self) -> None:
        self.rig.clock.advance_ns(100)
        while self.out or self.rig.queue.total():
            for record in self.out.values():
                self.settle(record)
            self.out.clear()
            await turns(20)
            while (taken := self.rig.queue.take()) is not None:
                self.out[taken.seq] = taken
            assert self.out or not self.rig.queue.total(), "something waits and nobody can have it"
        assert {lane: seqs for lane, seqs in self.sent.items() if seqs} == self.ended
        assert self.rig.queue.memory_bytes == self.rig.queue.behind() == 0
        assert is_empty(self.rig.lanes)


@given(seed=st.integers(0, 2**32))
def test_every_contact_gets_all_of_its_own_in_order_one_at_a_time(seed: int) -> None:
    async def play() -> None:
        rng = random.Random(seed)
        play = Play(rng)
        for _ in range(rng.randint(1, 150)):
            play.act()
            if rng.random() < 0.5:
                await turns(rng.choice([1, 2, 20]))
        await play.finish()
        play.refill.cancel()

    asyncio.run(play())


async def test_one_contact_with_more_behind_than_may_be_aside_closes_the_class_for_nobody() -> None:
    """All of it waits behind one that fails; the bodies stay on disk, and come back in order when it has ended."""
    rig = Rig(slots=16, aside_max=32)
    refill = asyncio.create_task(rig.queue.refill())
    last = rig.push(*["slow"] * 5000)
    failing = rig.queue.take()
    assert failing is not None
    rig.queue.defer(failing, rig.clock.now_ns() + NS_PER_S)
    rig.push("quick")
    for _ in range(2000):
        await turns(4)
        if (record := rig.queue.take()) is not None:
            break
    assert record is not None
    assert record.lane == "quick"
    assert (rig.queue.behind(), rig.queue.on_disk(MESSAGE)) == (last - 1, last - 1 - 16)
    assert rig.queue.memory_bytes <= (2 + 16) * len(record.body), "half of what may be aside, and two"
    rig.end(record)
    rig.clock.advance_ns(NS_PER_S)
    came = []
    while rig.queue.total():
        await turns(4)
        if (record := rig.queue.take()) is not None:
            came.append(record.seq)
            rig.end(record)
    assert came == list(range(1, last + 1))
    refill.cancel()


async def test_a_restart_keeps_the_order_of_what_waited_on_disk_behind_another() -> None:
    rig = Rig(slots=16, aside_max=32)
    refill = asyncio.create_task(rig.queue.refill())
    last = rig.push(*["a", "b"] * 100)
    came: dict[str, list[int]] = {"a": [], "b": []}
    for number in range(last):
        if number == last // 3:  # the process dies: what is on disk is all there is
            refill.cancel()
            again = Rig(slots=16, aside_max=32)
            again.store.disk.inbound = rig.store.disk.inbound
            again.queue.restore(MESSAGE, len(rig.store.disk.inbound), {})
            rig, refill = again, asyncio.create_task(again.queue.refill())
        while (record := rig.queue.take()) is None:
            await turns(1)
        came[record.lane].append(record.seq)
        rig.end(record)
    assert came == {"a": list(range(1, last, 2)), "b": list(range(2, last + 1, 2))}
    refill.cancel()


async def test_many_contacts_with_some_behind_them_close_the_class_for_nobody() -> None:
    rig = Rig(slots=16, aside_max=64)
    refill = asyncio.create_task(rig.queue.refill())
    contacts = [f"slow {number}" for number in range(20)]
    rig.push(*(contact for contact in contacts for _ in range(30)), "quick")
    found: list[str] = []
    for _ in range(500):
        await turns(4)
        if (record := rig.queue.take()) is not None:
            found.append(record.lane)
            rig.queue.defer(record, rig.clock.now_ns() + NS_PER_S)
    assert found == [*contacts, "quick"]
    refill.cancel()


async def test_what_is_withdrawn_while_its_page_is_read_does_not_come_back() -> None:
    rig = Rig(slots=64, lane_kept=1)
    goes_on = asyncio.Event()

    async def read_slowly(places: Sequence[Place]) -> list[InboundRecord]:
        page = await rig.store.find_inbound(places)
        await goes_on.wait()
        return page

    rig.lanes.read = read_slowly
    refill = asyncio.create_task(rig.queue.refill())
    rig.push("a", "a", "a", "a")
    for _ in range(2):
        record = rig.queue.take()
        assert record is not None
        assert rig.queue.take() is None
        rig.end(record)
    await turns()
    assert rig.queue.moves.withdraw(3, MESSAGE) is None
    rig.queue.moves.drop(rig.store.disk.inbound.pop(3))
    goes_on.set()
    await turns()
    fourth = rig.queue.take()
    assert fourth is not None
    assert fourth.seq == 4
    rig.end(fourth)
    assert rig.queue.total() == rig.queue.memory_bytes == 0
    assert is_empty(rig.lanes)
    refill.cancel()


def test_what_comes_from_another_class_is_forgotten_when_it_has_ended() -> None:
    """A class fed by class changes or a schedule alone must not remember every number that passed."""
    rig = Rig()
    for _ in range(50):
        seq = rig.push("")
        record = rig.queue.moves.withdraw(seq, MESSAGE)
        assert record is not None
        rig.queue.moves.reinstate(msgspec.structs.replace(record, cls=InboundClass.RECEIPT))
        assert rig.take() == seq
        rig.queue.settle(rig.taken(seq))
    assert sum(map(len, rig.queue._places.ahead)) == 0

"""The size of a group: asked for once, learned from what came, assumed to be the largest; and what a send causes."""

import asyncio
from collections import deque

import pytest
from builders import send, turns

from gateway._fast.history import HOUR_S
from gateway.budget.groups import (
    ANSWER_AGE_NS,
    ASK_WAIT_NS,
    FAILURE_AGE_NS,
    GROUPS_MAX,
    MEMBERS_ASSUMED,
    WANTED_MAX,
    GroupSizes,
)
from gateway.budget.ratios import REACH_NS, SENDS_MAX, WATCH_NS, Ratios
from gateway.budget.recipients import Recipients
from gateway.clock import NS_PER_S, FakeClock
from gateway.errors import NodeError
from gateway.events import Kind, SendClass, SendRecord
from gateway.node.groups import GroupAsker
from gateway.outbound.queue import SendQueue

T0 = 1_000 * NS_PER_S


def made(*, asks: bool = True) -> GroupSizes:
    return GroupSizes(Ratios(), asks=asks)


# -- sizes


def test_a_group_nobody_knows_is_asked_for_once_and_waited_for() -> None:
    rung = []
    sizes = made()
    sizes.on_wanted = lambda: rung.append(True)
    assert sizes.look("g", T0) == (MEMBERS_ASSUMED, T0 + ASK_WAIT_NS)
    assert sizes.look("g", T0 + 5) == (MEMBERS_ASSUMED, T0 + ASK_WAIT_NS)
    assert (sizes.next_wanted(), sizes.next_wanted()) == ("g", None)
    assert len(rung) == 1
    assert sizes.look("g", T0 + ASK_WAIT_NS - 1)[1] == T0 + ASK_WAIT_NS
    assert sizes.look("g", T0 + ASK_WAIT_NS) == (MEMBERS_ASSUMED, T0 + ASK_WAIT_NS)
    sizes.told("g", 7, T0)
    assert sizes.look("g", T0 + 9) == (7, T0 + 9)
    assert sizes.next_wanted() is None


def test_an_answer_is_asked_for_again_after_a_day_and_used_meanwhile() -> None:
    sizes = made()
    sizes.look("g", T0)
    sizes.next_wanted()
    sizes.told("g", 7, T0)
    sizes.look("g", T0 + ANSWER_AGE_NS - 1)
    assert sizes.next_wanted() is None
    assert sizes.look("g", T0 + ANSWER_AGE_NS) == (7, T0 + ANSWER_AGE_NS)
    assert sizes.next_wanted() == "g"


def test_a_failure_is_remembered_for_a_while() -> None:
    sizes = made()
    sizes.look("g", T0)
    sizes.next_wanted()
    sizes.told("g", None, T0)
    assert sizes.look("g", T0) == (MEMBERS_ASSUMED, T0)
    sizes.look("g", T0 + FAILURE_AGE_NS - 1)
    assert sizes.next_wanted() is None
    sizes.look("g", T0 + FAILURE_AGE_NS)
    assert sizes.next_wanted() == "g"


def test_where_nobody_can_be_asked_nothing_is_waited_for() -> None:
    sizes = made(asks=False)
    assert sizes.look("g", T0) == (MEMBERS_ASSUMED, T0)
    assert sizes.next_wanted() is None


def test_a_size_is_learned_from_the_last_fan_out() -> None:
    sizes = made(asks=False)
    sizes.look("g", T0)
    sizes.ratios.sent("m", "g", MEMBERS_ASSUMED, T0)
    for _ in range(19):
        sizes.ratios.arrived("m", is_read=False)
    assert sizes.look("g", T0 + REACH_NS - 1)[0] == MEMBERS_ASSUMED
    assert sizes.look("g", T0 + REACH_NS)[0] == 19
    sizes.ratios.arrived("m", is_read=False)
    assert sizes.look("g", T0 + WATCH_NS - 1)[0] == 19
    assert sizes.look("g", T0 + WATCH_NS)[0] == 20


def test_what_has_come_never_lowers_what_the_node_says() -> None:
    sizes = made()
    sizes.look("g", T0)
    sizes.told("g", 30, T0)
    sizes.reached("g", 12)
    assert sizes.look("g", T0)[0] == 30
    sizes.reached("g", 31)
    assert sizes.look("g", T0)[0] == 31


def test_groups_are_bounded_and_the_mean_is_of_those_known() -> None:
    sizes = made()
    assert (sizes.known(), sizes.members_mean) == (0, 0.0)
    for at in range(GROUPS_MAX + 10):
        sizes.look(f"g{at}", T0)
        sizes.told(f"g{at}", 10 if at < 20 else 30, T0)
    assert sizes.known() == GROUPS_MAX
    assert sizes.members_mean == pytest.approx(30 - 10 * 20 / GROUPS_MAX)
    assert len(sizes._wanted) <= WANTED_MAX


def test_questions_are_bounded_and_come_again_when_there_is_room() -> None:
    sizes = made()
    for at in range(WANTED_MAX):
        sizes.look(f"g{at}", T0)
    assert sizes.look("late", T0) == (MEMBERS_ASSUMED, T0)
    sizes.next_wanted()
    assert sizes.look("late", T0)[1] == T0 + ASK_WAIT_NS


# -- ratios


def test_ratios_start_with_what_is_usual_and_follow_what_comes() -> None:
    ratios = Ratios()
    assert (ratios.delivered_ratio, ratios.read_ratio) == (0.95, 0.70)
    for at in range(4_000):
        now_ns = T0 + at * NS_PER_S
        ratios.sent(str(at), "1", 1, now_ns)
        if at % 2:
            ratios.arrived(str(at), is_read=False)
        if at % 4 == 1:
            ratios.arrived(str(at), is_read=True)
    assert ratios.delivered_ratio == pytest.approx(0.5, abs=0.05)
    assert ratios.read_ratio == pytest.approx(0.25, abs=0.05)
    assert ratios.settled == 4_000 - WATCH_NS // NS_PER_S


def test_a_message_to_a_group_counts_as_its_members_do() -> None:
    one, many = Ratios(), Ratios()
    many.sent("m", "g", 100, T0)
    for at in range(100):
        one.sent(str(at), "1", 1, T0)
        if at < 60:
            one.arrived(str(at), is_read=True)
            many.arrived("m", is_read=True)
    for ratios in (one, many):
        ratios.settle(T0 + WATCH_NS - 1)
        assert ratios.settled == 0
        ratios.settle(T0 + WATCH_NS)
    assert many.delivered_ratio == pytest.approx(one.delivered_ratio, abs=0.01)
    assert many.read_ratio == pytest.approx(one.read_ratio, abs=0.01)


def test_ratios_stay_within_bounds_whatever_comes() -> None:
    ratios = Ratios()
    for at in range(100):
        ratios.sent(str(at), "g", 2, T0)
        for _ in range(50):
            ratios.arrived(str(at), is_read=False)
            ratios.arrived(str(at), is_read=True)
            ratios.arrived("unknown", is_read=True)
    ratios.settle(T0 + WATCH_NS)
    assert 0.95 < ratios.delivered_ratio <= 1
    assert 0.70 < ratios.read_ratio <= 1


def test_sends_watched_are_bounded_and_the_oldest_are_not_cut_short() -> None:
    ratios = Ratios()
    for at in range(SENDS_MAX + 50):
        ratios.sent(str(at), "g", 2, T0)
    assert ratios.watched() == SENDS_MAX
    assert len(ratios._reaching) == SENDS_MAX
    ratios.settle(T0 + WATCH_NS)
    assert (ratios.watched(), len(ratios._reaching), ratios.settled) == (0, 0, SENDS_MAX)


@pytest.mark.parametrize(("members", "expected"), [(256, 244), (20, 19), (10, 10), (1, 1)])
def test_what_is_expected_is_rounded_up(members: int, expected: int) -> None:
    assert Ratios().expected(members) == expected


def test_where_no_receipts_come_none_are_expected() -> None:
    ratios = Ratios()
    ratios.delivered_ratio = 0.0
    assert ratios.expected(256) == 0


# -- recipients of a send


def test_recipients_are_those_of_the_sends_of_the_last_hour() -> None:
    ratios, recipients = Ratios(), Recipients(T0)
    ratios.on_sent = recipients.sent
    assert recipients.mean(T0 + HOUR_S * NS_PER_S) is None
    ratios.sent("a", "1", 1, T0)
    ratios.sent("", "g", 8, T0 + 1)  # whatever the node calls it, or does not
    assert recipients.mean(T0) is None, "whole seconds"
    assert recipients.mean(T0 + NS_PER_S) == 4.5
    ratios.sent("c", "1", 1, T0 + 10 * NS_PER_S)
    assert recipients.mean(T0 + 11 * NS_PER_S) == 10 / 3
    assert recipients.mean(T0 + (HOUR_S + 1) * NS_PER_S) == 1.0
    assert recipients.mean(T0 + (HOUR_S + 11) * NS_PER_S) is None


def test_a_group_nobody_knows_is_expected_to_be_as_the_others() -> None:
    sizes = made()
    assert sizes.members_expected == MEMBERS_ASSUMED
    for group_id, members in (("a", 10), ("b", 20)):
        sizes.look(group_id, T0)
        sizes.told(group_id, members, T0)
    assert sizes.members_expected == 15.0


async def test_the_queue_knows_how_many_of_its_sends_go_to_groups() -> None:
    """Of those found on the disk at the start nothing is known, until they are gone."""
    old, one, group = send(7, is_group=True), send(8), send(9, is_group=True)

    async def read_page(_cls: int, after_seq: int, _limit: int) -> list[SendRecord]:
        return [old] if after_seq < old.seq else []

    queue = SendQueue(len(SendClass), 8, 8, read_page, lambda record: record.accepted_ms, FakeClock())
    queue.first_new_seq = 8
    queue.restore(old.cls, 1, {Kind.SEND: 1})
    refilling = asyncio.create_task(queue.refill())
    await turns()
    assert queue.groups_share is None
    queue.push(one)
    assert queue.groups_share == 0.0
    queue.push(group)
    shares: list[float | None] = []
    while (record := queue.take()) is not None:
        queue.settle(record)
        shares.append(queue.groups_share)
    assert shares == [0.5, 1.0, None]
    refilling.cancel()
    await asyncio.gather(refilling, return_exceptions=True)


# -- asking


class FakeGroups:
    def __init__(self, *script: int | NodeError | None) -> None:
        self.script = deque(script)
        self.asked: list[str] = []

    async def group_members(self, group_id: str) -> int | None:
        self.asked.append(group_id)
        await asyncio.sleep(0)
        answer = self.script.popleft()
        if isinstance(answer, NodeError):
            raise answer
        return answer


async def test_the_asker_asks_for_each_group_and_tells() -> None:
    node = FakeGroups(5, NodeError("timed out", was_sent=True), None)
    sizes, rung, clock = made(), [], FakeClock()
    asker = GroupAsker(node, sizes, lambda: rung.append(True), clock)
    sizes.on_wanted = asker.wake
    working = asyncio.create_task(asker.work())
    await turns()
    for group_id in "abc":
        sizes.look(group_id, clock.now_ns())
        sizes.look(group_id, clock.now_ns())
    await turns(30)
    assert node.asked == ["a", "b", "c"]
    assert (len(rung), asker.failures) == (3, 2)
    now_ns = clock.now_ns()
    assert [sizes.look(group_id, now_ns) for group_id in "abc"] == [
        (5, now_ns),
        (MEMBERS_ASSUMED, now_ns),
        (MEMBERS_ASSUMED, now_ns),
    ]
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)

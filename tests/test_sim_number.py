"""The pure model of the number: its rate, its order, its losses, its receipts."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import TpsKind
from gateway.sim.number import Event, Number
from gateway.sim.receipts import ReceiptModel

SURE = ReceiptModel(delivered_ratio=1.0, read_ratio=1.0, delivered_median_s=1.0, read_median_s=2.0)
NONE = ReceiptModel(delivered_ratio=0.0, read_ratio=0.0)


def make_number(
    tps: int = 10, receipts: ReceiptModel = NONE, backlog_max: int = 10_000, seed: int = 1
) -> Number:
    return Number(tps, random.Random(seed), receipts=receipts, backlog_max=backlog_max)


def drain(number: Number) -> list[Event]:
    """Everything that will ever be served, played from event to event."""
    served: list[Event] = []
    while (next_ns := number.next_ns()) is not None:
        served += number.advance(next_ns)
    return served


def worst_second(served: list[Event]) -> int:
    """Most events in any half-open second."""
    times = [event.served_ns for event in served]
    return max(sum(1 for t in times if end - NS_PER_S < t <= end) for end in times)


def test_serves_exactly_its_tps_while_work_waits() -> None:
    number = make_number(tps=20)
    for n in range(100):
        assert number.offer_message(0, str(n), "peer")
    assert len(number.advance(NS_PER_S - 1)) == 20
    assert len(number.advance(2 * NS_PER_S - 1)) == 20


def test_serves_at_once_when_idle_and_a_slot_later_the_next() -> None:
    number = make_number(tps=10)
    number.offer_message(5, "a", "peer")
    number.offer_message(5, "b", "peer")
    assert [event.id for event in number.advance(5)] == ["a"]
    assert number.advance(5 + 100 * NS_PER_MS - 1) == []
    (second,) = number.advance(5 + 100 * NS_PER_MS)
    assert second.wait_ns == 100 * NS_PER_MS


def test_slots_of_an_uneven_tps_never_add_up_to_one_more() -> None:
    number = make_number(tps=7)
    for n in range(50):
        number.offer_message(0, str(n), "peer")
    assert worst_second(drain(number)) == 7


def test_loses_messages_for_ever_when_the_backlog_is_full_and_counts_them() -> None:
    number = make_number(tps=1, backlog_max=3)
    kept = [number.offer_message(0, str(n), "peer") for n in range(6)]
    # The first is served at once; three more fill the backlog; the rest is lost.
    assert kept == [True, True, True, True, False, False]
    assert number.statistics().lost_messages == 2
    assert [event.id for event in drain(number)] == ["0", "1", "2", "3"]


def test_refuses_sends_when_the_backlog_is_full() -> None:
    number = make_number(tps=1, backlog_max=1)
    assert number.offer_send(0, "served at once", "peer")
    assert number.offer_send(0, "waits", "peer")
    assert not number.offer_send(0, "refused", "peer")
    assert number.statistics().refused_sends == 1


def test_loses_receipts_apart_from_messages() -> None:
    number = make_number(tps=1, backlog_max=1, receipts=SURE)
    number.offer_send(0, "a", "group", members=["1", "2", "3"])
    drain(number)
    assert number.statistics().lost_receipts > 0
    assert number.statistics().lost_messages == 0


def test_each_member_of_a_group_makes_its_receipts() -> None:
    number = make_number(tps=100, receipts=SURE)
    members = [str(n) for n in range(256)]
    number.offer_send(0, "a", "group", members=members)
    served = drain(number)
    for kind in (TpsKind.DELIVERED, TpsKind.READ):
        assert sorted(event.peer for event in served if event.kind is kind) == sorted(members)
    assert {event.group for event in served} == {"group"}


def test_a_read_is_never_served_before_its_delivered() -> None:
    receipts = ReceiptModel(delivered_ratio=1.0, read_ratio=1.0, delivered_median_s=60.0, read_median_s=1.0)
    number = make_number(tps=1000, receipts=receipts)
    number.offer_send(0, "a", "group", members=[str(n) for n in range(200)])
    place = {(event.kind, event.peer): index for index, event in enumerate(drain(number))}
    for peer in map(str, range(200)):
        assert place[TpsKind.DELIVERED, peer] < place[TpsKind.READ, peer]


def test_ratios_come_out_as_set() -> None:
    number = make_number(tps=1000, receipts=ReceiptModel())
    number.offer_send(0, "a", "group", members=[str(n) for n in range(10_000)])
    kinds = Counter(event.kind for event in drain(number))
    assert abs(kinds[TpsKind.DELIVERED] - 9500) < 100
    assert abs(kinds[TpsKind.READ] - 7000) < 200


def test_a_switched_off_receipt_costs_nothing() -> None:
    number = make_number(receipts=SURE)
    number.is_reported[TpsKind.READ] = False
    number.offer_send(0, "a", "peer")
    assert [event.kind for event in drain(number)] == [TpsKind.SEND, TpsKind.DELIVERED]


def test_a_failed_send_makes_no_receipts() -> None:
    receipts = ReceiptModel(failed_ratio=1.0)
    number = make_number(receipts=receipts)
    number.offer_send(0, "a", "peer")
    (send,) = drain(number)
    assert send.is_failed


def lost_in_ten_minutes(sends_per_s: float) -> int:
    """Messages lost while a campaign sends at a fixed rate on a 20 TPS plan and one customer a second writes."""
    number = make_number(tps=20, receipts=ReceiptModel(time_scale=0.1), backlog_max=1000)
    sends = [(int(n / sends_per_s * NS_PER_S), True) for n in range(int(600 * sends_per_s))]
    # Not on the grid of the slots, where a place has just become free.
    messages = [(int((second + 0.33) * NS_PER_S), False) for second in range(600)]
    for at_ns, is_send in sorted(sends + messages):
        if is_send:
            number.offer_send(at_ns, "s", "peer")
        else:
            number.offer_message(at_ns, "m", "peer")
    return number.statistics().lost_messages


def test_sending_at_the_plans_rate_loses_messages_and_sending_within_it_does_not() -> None:
    """What a gateway prevents: N sends a second cause 2.65 N events, which a plan of N cannot carry."""
    assert lost_in_ten_minutes(20) > 100
    assert lost_in_ten_minutes(20 * 0.9 / ReceiptModel().events_per_send()) == 0


def test_the_same_seed_makes_the_same_history() -> None:
    histories = []
    for _ in range(2):
        number = make_number(tps=20, receipts=ReceiptModel(), seed=7)
        for n in range(100):
            number.offer_send(n * 10 * NS_PER_MS, str(n), "peer")
        histories.append([(event.kind, event.id, event.served_ns) for event in drain(number)])
    assert histories[0] == histories[1]


OFFERS = st.lists(st.tuples(st.integers(0, NS_PER_S), st.booleans(), st.integers(1, 5)), max_size=60)


@settings(max_examples=60)
@given(offers=OFFERS, tps=st.integers(1, 40), backlog_max=st.integers(1, 30), seed=st.integers(0, 9))
def test_never_faster_than_tps_in_order_and_nothing_vanishes(
    offers: list[tuple[int, bool, int]], tps: int, backlog_max: int, seed: int
) -> None:
    number = make_number(tps, ReceiptModel(time_scale=0.1), backlog_max, seed)
    now_ns, taken, served = 0, 0, []
    for gap_ns, is_send, members in offers:
        now_ns += gap_ns
        names = [str(n) for n in range(members)]
        if is_send:
            taken += number.offer_send(now_ns, "s", "group", members=names)
        else:
            taken += number.offer_message(now_ns, "m", "peer")
        served += number.advance(now_ns)
        assert number.statistics().backlog <= backlog_max
    served += drain(number)
    made = [event.made_ns for event in served]
    assert made == sorted(made), "first in, first out"
    assert all(event.served_ns >= event.made_ns for event in served)
    if served:
        assert worst_second(served) <= tps
    mine = sum(event.kind in (TpsKind.SEND, TpsKind.RECEIVE) for event in served)
    assert mine == taken
    statistics = number.statistics()
    assert statistics.lost_messages + statistics.refused_sends + taken == len(offers)
    assert statistics.backlog == statistics.scheduled == 0


@settings(max_examples=30)
@given(steps=st.lists(st.integers(0, 3 * NS_PER_S), max_size=30), seed=st.integers(0, 9))
def test_how_often_it_is_asked_changes_nothing(steps: list[int], seed: int) -> None:
    """Served times come from the model, not from when `advance` was called."""
    asked, jumped = make_number(5, ReceiptModel(), seed=seed), make_number(5, ReceiptModel(), seed=seed)
    for number in (asked, jumped):
        for n in range(20):
            number.offer_send(0, str(n), "peer")
    now_ns, stepwise = 0, asked.advance(0)
    for step_ns in steps:
        now_ns += step_ns
        stepwise += asked.advance(now_ns)
    at_once = jumped.advance(now_ns)
    assert [(e.kind, e.id, e.served_ns) for e in stepwise] == [(e.kind, e.id, e.served_ns) for e in at_once]

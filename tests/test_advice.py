"""What the budget says of itself, by worked examples."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budget import wording
from gateway.budget.advice import Advice, Option, advise
from gateway.budget.report_text import campaign_text, report_text
from gateway.budget.shards import SHARD_COUNTS
from gateway.budget.sustain import (
    Terms,
    Traffic,
    cost_of_send,
    drain_s,
    shard_capacity,
    shards_for,
    sustainable_sends_per_s,
)
from gateway.budget.usage import KindUse, Usage, measured_traffic, report
from gateway.config import TpsCost
from gateway.events import TpsKind

EACH_COUNTS = TpsCost(1, 1, 1, 1)
CLOUD_COSTS = TpsCost(1, 1, 0, 0)


def terms(plan_tps: float = 10, **fields: Any) -> Terms:
    return Terms(
        **{"dialect": "onprem", "headroom_percent": 5, "costs": EACH_COUNTS, **fields}, plan_tps=plan_tps
    )


def traffic(inbound_per_s: float = 1.0, delivered: float = 0.95, read: float = 0.70) -> Traffic:
    return Traffic(inbound_per_s=inbound_per_s, delivered_per_send=delivered, read_per_send=read)


def by_kind(receive: float = 0, send: float = 0, delivered: float = 0, read: float = 0) -> dict[TpsKind, Any]:
    return dict(zip(TpsKind, (receive, send, delivered, read), strict=True))


def usage(**fields: Any) -> Usage:
    """An hour at 3 sends/s with receipts as usual, 1 message/s received."""
    steady = by_kind(1.0, 3.0, 2.85, 2.1)
    base: dict[str, Any] = {
        "terms": terms(),
        "last_second": by_kind(1, 3, 3, 2),
        "per_s": {60: steady, 300: steady, 3600: steady},
        "observed_s": 3600,
        "events_60m": by_kind(3600, 10_800, 10_260, 7_560),
        "sends_first_5m": 900,
        "sends_last_5m": 900,
        "waiting_sends": 1200,
    }
    return Usage(**{**base, **fields})


def option(advice: Advice, plan_tps: float, receipts: str = "all") -> Option:
    [found] = [o for o in advice.options if o.plan_tps == plan_tps and o.receipts == receipts]
    return found


# -- the formula


def test_ten_tps_with_usual_receipts_carry_3_2_sends_a_second() -> None:
    """(10 * 0.95 - 1) / (1 + 0.95 + 0.70)."""
    assert cost_of_send(EACH_COUNTS, traffic()) == pytest.approx(2.65)
    assert sustainable_sends_per_s(terms(), traffic()) == pytest.approx(3.2075, abs=5e-5)


def test_each_cost_weighs_its_kind() -> None:
    costs = TpsCost(receive=2, send=3, delivered=4, read=5)
    assert cost_of_send(costs, traffic()) == pytest.approx(3 + 0.95 * 4 + 0.70 * 5)
    assert sustainable_sends_per_s(terms(costs=costs), traffic(2)) == pytest.approx((9.5 - 4) / 10.3)


def test_a_group_of_fifty_makes_a_send_fifty_times_as_dear() -> None:
    assert cost_of_send(EACH_COUNTS, traffic(0, 0.95 * 50, 0.70 * 50)) == pytest.approx(1 + 50 * 1.65)


def test_receipts_cost_nothing_on_the_cloud_api() -> None:
    cloud = terms(80, dialect="cloud", headroom_percent=0, costs=CLOUD_COSTS)
    assert sustainable_sends_per_s(cloud, traffic()) == 79.0


def test_arrivals_that_fill_the_plan_leave_nothing() -> None:
    assert sustainable_sends_per_s(terms(), traffic(9.5)) == 0.0
    assert sustainable_sends_per_s(terms(), traffic(500)) == 0.0


def test_a_send_floor_goes_on_when_arrivals_fill_the_plan() -> None:
    floored = terms(send_floor_percent=10)
    assert sustainable_sends_per_s(floored, traffic(500)) == 1.0
    assert sustainable_sends_per_s(floored, traffic()) == pytest.approx(3.2075, abs=5e-5)
    assert advise(floored, traffic(500), 60).limited_by == "floor"
    assert advise(floored, traffic(500), 60).now.drain_s == 60.0


def test_the_adaptive_ceiling_takes_the_place_of_the_plan_while_it_is_lower() -> None:
    """The ceiling is of events, arrivals among them: (4 - 1) / 2.65."""
    slowed = terms(ceiling_events_per_s=4.0)
    assert sustainable_sends_per_s(slowed, traffic()) == pytest.approx(3 / 2.65)
    advice = advise(slowed, traffic(), 0)
    assert advice.limited_by == "ceiling"
    assert option(advice, 20).sends_per_s == pytest.approx((19 - 1) / 2.65)  # another plan comes without it


@pytest.mark.parametrize("plan_tps", [1, 7, 10, 15, 20, 80, 250, 1000])
@pytest.mark.parametrize("headroom_percent", [0, 3, 5, 7, 50])
def test_a_whole_ceiling_is_no_limit_of_its_own(plan_tps: int, headroom_percent: int) -> None:
    """The budget computes it in floats of its own, and a hair less must not read as `slow down`."""
    aim = plan_tps * (100 - headroom_percent) / 100
    whole = terms(plan_tps, headroom_percent=headroom_percent, ceiling_events_per_s=aim * (1 - 1e-12))
    assert advise(whole, traffic(0), 0).limited_by == "plan"


def test_a_send_that_costs_nothing_has_no_limit() -> None:
    free = advise(terms(costs=TpsCost(1, 0, 0, 0)), traffic(), 100)
    assert free.now.sends_per_s is None
    assert free.now.drain_s == 0.0
    assert free.limited_by == "nothing"
    assert "unlimited sends/s" in campaign_text(free)


@given(
    plan_tps=st.integers(1, 5000),
    headroom_percent=st.integers(0, 50),
    inbound_per_s=st.floats(0, 5000),
    delivered=st.floats(0, 300),
    read=st.floats(0, 300),
    waiting=st.integers(0, 10**9),
    floor=st.integers(0, 50),
    costs=st.builds(TpsCost, *[st.integers(0, 10)] * 4),
    shards=st.sampled_from(SHARD_COUNTS),
)
def test_any_numbers_give_a_report_that_adds_up_and_can_be_read(
    plan_tps: int,
    headroom_percent: int,
    inbound_per_s: float,
    delivered: float,
    read: float,
    waiting: int,
    floor: int,
    costs: TpsCost,
    shards: int,
) -> None:
    given_terms = terms(
        plan_tps, headroom_percent=headroom_percent, costs=costs, send_floor_percent=floor, shards=shards
    )
    advice = advise(given_terms, traffic(inbound_per_s, delivered, read), waiting)
    rate = advice.now.sends_per_s
    assert rate is None or rate >= 0
    if advice.limited_by == "plan":
        # At the sustainable rate everything counted is exactly what the plan leaves after the headroom.
        assert advice.planned[-1].events_per_s == pytest.approx(given_terms.aim_events_per_s)
    assert (advice.now.drain_s is None) == (rate == 0 and waiting > 0)
    assert msgspec.json.decode(msgspec.json.encode(advice), type=Advice) == advice
    assert campaign_text(advice).startswith("Plan ")
    # Fewer receipts never make it slower.
    rates = [math.inf if o.sends_per_s is None else o.sends_per_s for o in advice.options]
    for dialect, plan in {(o.dialect, o.plan_tps) for o in advice.options}:
        same = [
            (o.receipts, r)
            for o, r in zip(advice.options, rates, strict=True)
            if (o.dialect, o.plan_tps) == (dialect, plan)
        ]
        assert same[0][0] == "all"
        assert min(r for _, r in same) >= same[0][1] * (1 - 1e-9)


# -- what is known


def test_ratios_are_measured_on_the_last_hour() -> None:
    found, source = measured_traffic(
        usage(events_60m=by_kind(7200, 1000, 900, 600), sends_first_5m=83, sends_last_5m=83)
    )
    assert source == "measured"
    assert found == Traffic(inbound_per_s=1.0, delivered_per_send=0.9, read_per_send=0.6)


@pytest.mark.parametrize(
    "uneven",
    [
        {"events_60m": by_kind(3600, 99, 99, 99), "sends_first_5m": 8, "sends_last_5m": 8},
        {"sends_last_5m": 2701},  # their receipts have not come yet
        {"sends_first_5m": 2701},  # receipts of earlier sends are counted as if they were theirs
        {"events_60m": by_kind()},
    ],
)
def test_usual_ratios_stand_in_where_the_hour_tells_too_little(uneven: dict[str, Any]) -> None:
    found, source = measured_traffic(usage(**uneven))
    assert source == "default"
    assert (found.delivered_per_send, found.read_per_send) == (0.95, 0.70)


def test_a_quarter_of_the_sends_at_an_edge_is_still_even() -> None:
    assert measured_traffic(usage(sends_last_5m=2700, sends_first_5m=2700))[1] == "measured"


def test_usual_ratios_are_per_recipient_of_the_last_hour() -> None:
    few = usage(events_60m=by_kind(0, 9), recipients_mean=20.0, waiting_groups_share=0.0)
    found, _ = measured_traffic(few)
    assert (found.delivered_per_send, found.read_per_send) == (19.0, 14.0)


def test_before_anything_was_sent_recipients_are_those_of_what_waits() -> None:
    """Half of the sends go to groups of 39: 20 each on average."""
    found, _ = measured_traffic(usage(events_60m=by_kind(), waiting_groups_share=0.5, group_members=39.0))
    assert (found.delivered_per_send, found.read_per_send) == (19.0, 14.0)


def test_where_nothing_is_known_a_send_goes_to_one() -> None:
    found, _ = measured_traffic(usage(events_60m=by_kind(), group_members=256.0))
    assert (found.delivered_per_send, found.read_per_send) == (0.95, 0.70)


def test_each_kind_is_shown_now_and_over_time_and_as_a_share_of_the_plan() -> None:
    spans = {60: by_kind(1, 2, 3, 0.5), 300: by_kind(0.5, 1, 1.5, 0.25), 3600: by_kind(0.1, 0.2, 0.3, 0.4)}
    costs = TpsCost(receive=1, send=2, delivered=1, read=0)
    used = report(usage(terms=terms(20, costs=costs), last_second=by_kind(4, 3, 2, 1), per_s=spans)).used
    assert [use.kind for use in used] == ["receive", "send", "delivered", "read", "all"]
    assert used[1] == KindUse(
        kind="send",
        cost_events=2,
        events_last_s=3,
        events_per_s_1m=2,
        events_per_s_5m=1,
        events_per_s_60m=0.2,
        share_of_plan_percent_now=30.0,
        share_of_plan_percent_1m=20.0,
        share_of_plan_percent_5m=10.0,
        share_of_plan_percent_60m=2.0,
    )
    assert used[3].share_of_plan_percent_now == 0.0  # reads cost nothing here
    assert (used[4].events_last_s, used[4].share_of_plan_percent_now) == (4 + 2 * 3 + 2, 60.0)


# -- the queue


def test_a_queue_drains_at_the_sustainable_rate() -> None:
    assert report(usage()).advice.now.drain_s == pytest.approx(1200 / (8.5 / 2.65))


@pytest.mark.parametrize(
    ("share", "cost"),
    [
        (None, 1 + 2 * 1.65),  # not known: as in the last hour, 2 recipients each
        (0.0, 1 + 1.65),
        (0.1, 1 + 2.9 * 1.65),  # one in ten to a group of 20
        (1.0, 1 + 20 * 1.65),
    ],
)
def test_a_queue_drains_at_the_cost_of_what_is_in_it(share: float | None, cost: float) -> None:
    """The last hour: 3 sends/s to 2 recipients each on average, of whom 0.95 and 0.70 sent receipts; 1 message/s in."""
    hour = by_kind(3600, 10_800, 2 * 10_260, 2 * 7_560)
    told = report(usage(events_60m=hour, recipients_mean=2.0, waiting_groups_share=share, group_members=20.0))
    advice = told.advice
    assert advice.send_cost.events == pytest.approx(1 + 2 * 1.65)
    assert advice.now.sends_per_s == pytest.approx(8.5 / (1 + 2 * 1.65))
    assert advice.now.drain_s == pytest.approx(1200 * cost / 8.5)
    # What it takes in all is the queue's cost, and what is received meanwhile.
    assert advice.planned[-1].events == pytest.approx(1200 * cost + 1.0 * 1200 * cost / 8.5)
    assert option(advice, 20).drain_s == pytest.approx(1200 * cost / 18)
    recipients = round((cost - 1) / 1.65, 2)
    said = (
        "1,200 sends waiting" if recipients == 1 else f"1,200 sends to {recipients:g} recipients each waiting"
    )
    assert said in report_text(told)


def test_a_queue_that_never_drains_says_so() -> None:
    flooded = by_kind(12.0)
    told = report(usage(per_s={60: flooded, 300: flooded, 3600: flooded}))
    assert told.advice.now.drain_s is None
    assert told.advice.limited_by == "inbound"
    assert "1,200 sends waiting: it never drains" in report_text(told)
    assert "received messages alone fill the plan" in report_text(told)


def test_nothing_waiting_takes_no_time_even_where_nothing_can_go() -> None:
    assert drain_s(0, 0.0) == 0.0
    assert drain_s(1, 0.0) is None


# -- what would change it


def sentences(advice: Advice) -> list[str]:
    return [change.sentence for change in advice.changes]


def test_every_change_is_a_sentence_with_figures() -> None:
    """Of 10 TPS, 3.2075 sends/s take 0.7 * 3.2075 = 2.25 events/s for reads; without them 8.5 / 1.95 = 4.36."""
    assert sentences(advise(terms(), traffic(), 0)) == [
        "Read receipts take 22 % of the plan; without them 4.36 sends/s instead of 3.21.",
        "Delivery receipts take 30 % of the plan; without them 5.00 sends/s instead of 3.21.",
        "Delivery and read receipts take 53 % of the plan; without them 8.50 sends/s instead of 3.21.",
        "A plan of 15 TPS gives 5.00 sends/s instead of 3.21.",
        "A plan of 20 TPS gives 6.79 sends/s instead of 3.21.",
        "A plan of 80 TPS (Cloud) gives 79.0 sends/s instead of 3.21.",
    ]


def test_every_change_is_data_too() -> None:
    advice = advise(terms(), traffic(), 0)
    assert option(advice, 10, "no_read").sends_per_s == pytest.approx(8.5 / 1.95)
    assert option(advice, 10, "no_delivered").sends_per_s == pytest.approx(8.5 / 1.7)
    assert option(advice, 10, "neither").sends_per_s == pytest.approx(8.5)
    assert option(advice, 15).sends_per_s == pytest.approx((14.25 - 1) / 2.65)
    assert option(advice, 20, "neither").sends_per_s == pytest.approx(18.0)
    assert option(advice, 80).dialect == "cloud"
    assert [change.option in advice.options for change in advice.changes] == [True] * 6


def test_a_queue_is_part_of_every_change() -> None:
    """1200 sends at 8.5 a second."""
    found = [s for s in sentences(advise(terms(), traffic(), 1200)) if s.startswith("Delivery and read")]
    assert found[0].endswith("8.50 sends/s instead of 3.21; queue out in 2 min 21 s.")


def test_receipts_that_take_nothing_are_no_change() -> None:
    off_at_the_node = advise(terms(), traffic(1, 0.95, 0.0), 0)
    assert not any("read" in sentence.lower() for sentence in sentences(off_at_the_node))
    cloud = advise(terms(80, dialect="cloud", headroom_percent=0, costs=CLOUD_COSTS), traffic(), 0)
    assert sentences(cloud) == ["A plan of 1,000 TPS (Cloud) gives 999 sends/s instead of 79.0."]


def test_switching_receipts_off_is_no_help_where_arrivals_fill_the_plan() -> None:
    changes = advise(terms(), traffic(9.5), 0).changes
    assert {change.change for change in changes} == {"plan"}


def test_a_shard_has_its_part_of_every_plan() -> None:
    """A quarter of 20 TPS on four shards is 5; of 10 TPS, two of them get 3 and two 2."""
    advice = advise(terms(10, shards=4, own_part_tps=3), traffic(0.1), 0)
    assert advice.now.sends_per_s == pytest.approx((3 * 0.95 - 0.1) / 2.65)
    assert (option(advice, 20).part_tps, option(advice, 80).part_tps) == (5, 20)
    assert option(advice, 20).sends_per_s == pytest.approx((4.75 - 0.1) / 2.65)
    assert "10 TPS, 3 of them for this gateway, one of 4 shards, 5 % left free" in campaign_text(advice)


# -- shards


def test_the_sizing_table_gives_ten_messages_a_second_to_a_shard() -> None:
    """Meta's templates: 20 on 2, 40 on 4, 80 on 8, 160 on 16, 250 on 32; beyond that there is no support."""
    assert [shard_capacity(shards) for shards in SHARD_COUNTS] == [10, 20, 40, 80, 160, 250]
    assert [shards_for(load) for load in (0, 10, 10.1, 20, 40, 80, 120, 160, 250)] == [
        1,
        1,
        2,
        2,
        4,
        8,
        16,
        16,
        32,
    ]
    assert shards_for(250.1) is None
    assert shards_for(math.inf) is None


def test_shards_that_carry_the_plan_are_said_to_be_enough() -> None:
    advice = advise(terms(), traffic(), 0)
    assert advice.shards_sentence == (
        "1 shard of the node carries the 4.21 messages/s sent and received (about 10 a shard): more would send no faster."
    )
    assert all(size.is_enough for size in advice.shard_sizes)


def test_too_few_shards_are_said_with_how_many_it_takes() -> None:
    """95 / 2.65 = 35.8 sends a second."""
    advice = advise(terms(100), traffic(0), 0)
    assert advice.now.shards_needed == 4
    assert advice.shards_sentence == (
        "The 35.8 messages/s sent and received need 4 shards of the node (about 10 a shard); 1 shard will carry 10."
    )
    assert [size.is_enough for size in advice.shard_sizes] == [False, False, True, True, True, True]


def test_shards_are_sized_for_the_whole_number() -> None:
    """Four gateways of 25 TPS each: the node carries four times what one of them sends."""
    advice = advise(terms(100, shards=4), traffic(0), 0)
    assert advice.now.shards_needed == 4
    assert advice.shards_sentence.startswith("4 shards of the node carry the 35.8 messages/s")


def test_more_than_any_node_carries_is_said() -> None:
    advice = advise(terms(5000), traffic(0), 0)
    assert advice.now.shards_needed is None
    assert advice.shards_sentence == (
        "The 1,792 messages/s sent and received are more than the 250 messages/s that any number of shards carries."
    )


def test_the_cloud_api_has_no_shards() -> None:
    advice = advise(terms(80, dialect="cloud", costs=CLOUD_COSTS), traffic(), 0)
    assert (advice.shard_sizes, advice.shards_sentence, advice.now.shards_needed) == ([], "", None)


# -- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "never"),
        (0, "0 s"),
        (0.2, "under 1 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (374, "6 min 14 s"),
        (3599.7, "1 h"),
        (15_000, "4 h 10 min"),
        (84_960, "23 h 36 min"),
        (86_399, "1 d"),
        (3 * 86_400 + 4 * 3_600, "3 d 4 h"),
        (2_000 * 86_400, "2,000 d"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float | None, words: str) -> None:
    assert wording.duration(seconds) == words


def test_rates_show_the_digits_that_matter() -> None:
    rates = (0, 0.001, 0.05, 3.2075, 9.996, 47.54, 99.96, 1250)
    assert [wording.rate(per_s) for per_s in rates] == [
        *("0.00", "<0.01", "0.05", "3.21", "10.0", "47.5", "100", "1,250")
    ]


def test_the_report_is_read_like_this() -> None:
    """Measured on 10,800 sends: 0.95 delivered and 0.70 read."""
    assert (
        report_text(report(usage()))
        == """\
Plan              10 TPS, 5 % left free
One send costs    2.65 events: 1 itself + 0.95 delivered + 0.70 read (measured on 10,800 sends of the last hour)
Sends can go at   3.21 sends/s, beside 1.00 messages/s received
Queue             1,200 sends waiting: out in 6 min 14 s

Used, in events/s and as share of the plan
                      now         1 min         5 min        60 min
  received    1.00   10 %   1.00   10 %   1.00   10 %   1.00   10 %
  sent        3.00   30 %   3.00   30 %   3.00   30 %   3.00   30 %
  delivered   3.00   30 %   2.85   28 %   2.85   28 %   2.85   28 %
  read        2.00   20 %   2.10   21 %   2.10   21 %   2.10   21 %
  counted     9.00   90 %   8.95   89 %   8.95   89 %   8.95   89 %

What would change it
  Read receipts take 22 % of the plan; without them 4.36 sends/s instead of 3.21; queue out in 4 min 35 s.
  Delivery receipts take 30 % of the plan; without them 5.00 sends/s instead of 3.21; queue out in 4 min.
  Delivery and read receipts take 53 % of the plan; without them 8.50 sends/s instead of 3.21; queue out in 2 min 21 s.
  A plan of 15 TPS gives 5.00 sends/s instead of 3.21; queue out in 4 min.
  A plan of 20 TPS gives 6.79 sends/s instead of 3.21; queue out in 2 min 57 s.
  A plan of 80 TPS (Cloud) gives 79.0 sends/s instead of 3.21; queue out in 15 s.
  1 shard of the node carries the 4.21 messages/s sent and received (about 10 a shard): more would send no faster.
"""
    )


def test_a_gateway_that_has_just_started_says_how_long_it_has_looked() -> None:
    text = report_text(report(usage(observed_s=90)))
    assert "(since the start, 1 min 30 s ago)" in text

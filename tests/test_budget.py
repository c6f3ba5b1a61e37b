"""The TPS budget beside an exact model: never one too many, never a send refused that fits."""

from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.tps import TpsModel

from gateway.budget.shards import SHARD_COUNTS, shard_part
from gateway.budget.tps import BURST_MIN_NS, DEBT_MAX_NS, WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_S
from gateway.events import TPS_KIND, Kind, TpsKind

START_NS = 7 * NS_PER_S
ONE_EACH = dict.fromkeys(TpsKind, 1)


def budget(tps: int = 10, costs: dict[TpsKind, int] | None = None, headroom_percent: int = 0) -> TpsBudget:
    return TpsBudget(tps, costs or ONE_EACH, headroom_percent, START_NS)


def sends_between(b: TpsBudget, from_ns: int, to_ns: int) -> int:
    """Grants to a sender that always has work, asks on time, and hears of nothing else."""
    granted = 0
    now_ns = from_ns
    while now_ns < to_ns:
        free_at_ns = b.try_send(now_ns)
        if free_at_ns == now_ns:
            granted += 1
        now_ns = free_at_ns
    return granted


def test_the_first_window_grants_nothing() -> None:
    b = budget()
    opens_ns = START_NS + WINDOW_NS
    assert b.try_send(START_NS) == opens_ns
    assert b.try_send(opens_ns - 1) == opens_ns
    assert b.totals[TpsKind.SEND] == 0
    assert b.try_send(opens_ns) == opens_ns
    assert b.totals[TpsKind.SEND] == 1


def test_a_full_window_refuses_until_the_nanosecond_its_oldest_event_leaves() -> None:
    b = budget(tps=2)
    first_ns = START_NS + 10 * NS_PER_S
    b.charge(TpsKind.RECEIVE, 1, first_ns)
    b.charge(TpsKind.READ, 1, first_ns + 3)
    asked_ns = first_ns + NS_PER_S
    assert b.try_send(asked_ns) == first_ns + WINDOW_NS
    assert b.try_send(first_ns + WINDOW_NS - 1) == first_ns + WINDOW_NS
    assert b.try_send(first_ns + WINDOW_NS) == first_ns + WINDOW_NS
    assert b.in_window(first_ns + WINDOW_NS) == 2


@pytest.mark.parametrize("kind", list(TpsKind))
def test_events_of_each_kind_take_the_room_of_sends(kind: TpsKind) -> None:
    b = budget(tps=5)
    now_ns = START_NS + 10 * NS_PER_S
    b.charge(kind, 5, now_ns)
    assert b.used(kind, now_ns) == 5
    assert b.totals[kind] == 5
    assert b.try_send(now_ns) > now_ns


@pytest.mark.parametrize("kind", [TpsKind.RECEIVE, TpsKind.DELIVERED, TpsKind.READ])
def test_a_kind_that_costs_nothing_is_counted_and_takes_no_room(kind: TpsKind) -> None:
    b = budget(tps=1, costs={**ONE_EACH, kind: 0})
    now_ns = START_NS + 10 * NS_PER_S
    b.charge(kind, 1000, now_ns)
    assert b.used(kind, now_ns) == 1000
    assert b.in_window(now_ns) == 0
    assert b.try_send(now_ns) == now_ns


def test_sent_receipts_failures_and_errors_are_not_charged() -> None:
    assert set(TPS_KIND) == {Kind.MESSAGE, Kind.DELIVERED, Kind.READ}


def test_a_send_may_cost_more_than_one() -> None:
    """The bucket saves up a whole send, or one that costs two would never go."""
    b = budget(tps=10, costs={**ONE_EACH, TpsKind.SEND: 3})
    from_ns = START_NS + WINDOW_NS
    assert sends_between(b, from_ns, from_ns + 30 * NS_PER_S) in range(29 * 3, 31 * 3 + 1)


def test_idle_time_saves_up_one_extra_send_and_no_more() -> None:
    b = budget(tps=10, headroom_percent=5)
    now_ns = START_NS + 3600 * NS_PER_S
    assert b.try_send(now_ns) == now_ns
    assert b.try_send(now_ns) == now_ns
    assert b.try_send(now_ns) > now_ns + NS_PER_S // 10


def test_a_late_wake_up_is_caught_up_within_ten_milliseconds() -> None:
    """At 1,000 a second a loop that is busy for 8 ms must not lose eight sends."""
    b = budget(tps=1000)
    now_ns = START_NS + 10 * NS_PER_S
    b.charge(TpsKind.RECEIVE, 12, now_ns)
    late_ns = now_ns + 8_000_000
    granted = 0
    while b.try_send(late_ns) == late_ns:
        granted += 1
    assert granted in (6, 7)


def test_a_flood_of_arrivals_holds_sends_up_for_a_bounded_time() -> None:
    b = budget(tps=10)
    now_ns = START_NS + 10 * NS_PER_S
    b.charge(TpsKind.RECEIVE, 100_000, now_ns)
    free_at_ns = b.try_send(now_ns)
    assert now_ns + DEBT_MAX_NS < free_at_ns <= now_ns + DEBT_MAX_NS + NS_PER_S // 10 + 1


def test_a_clock_that_steps_back_grants_nothing_extra() -> None:
    b = budget(tps=3)
    now_ns = START_NS + 60 * NS_PER_S
    b.charge(TpsKind.RECEIVE, 3, now_ns)
    assert b.try_send(now_ns - 30 * NS_PER_S) == now_ns + WINDOW_NS


def test_the_rounded_rate_is_at_most_a_millionth_low_and_never_high() -> None:
    for tps in range(1, 1001):
        for headroom_percent in (0, 5, 50):
            aimed = Fraction(tps * (100 - headroom_percent), 100 * NS_PER_S)
            interval_ns = budget(tps, headroom_percent=headroom_percent)._interval_ns(1.0)
            assert aimed * (1 - Fraction(1, 10**6)) <= Fraction(1, interval_ns) <= aimed


@pytest.mark.parametrize("headroom_percent", [0, 5])
@pytest.mark.parametrize("tps", [10, 15, 20, 80, 250, 1000])
def test_with_work_waiting_99_percent_of_the_rate_is_used(tps: int, headroom_percent: int) -> None:
    b = budget(tps, headroom_percent=headroom_percent)
    from_ns = START_NS + WINDOW_NS
    granted = sends_between(b, from_ns, from_ns + 60 * NS_PER_S)
    aimed = Fraction(60 * tps * (100 - headroom_percent), 100)
    saved = max(Fraction(1), Fraction(BURST_MIN_NS, NS_PER_S) * tps)
    assert Fraction(99, 100) * aimed <= granted <= aimed + 1 + saved
    assert b.window_max <= tps


# -- floor, ceiling, live change


def arrivals_fill(b: TpsBudget, from_ns: int, to_ns: int) -> int:
    """Sends granted while one event arrives in every slot of the plan."""
    granted = 0
    slot_ns = NS_PER_S // b.tps
    for now_ns in range(from_ns, to_ns, slot_ns):
        b.charge(TpsKind.RECEIVE, 1, now_ns)
        granted += b.try_send(now_ns) == now_ns
    return granted


def test_without_a_floor_nothing_is_sent_while_arrivals_fill_the_plan() -> None:
    b = budget(tps=20)
    now_ns = START_NS + 10 * NS_PER_S
    arrivals_fill(b, now_ns, now_ns + 5 * NS_PER_S)
    assert arrivals_fill(b, now_ns + 5 * NS_PER_S, now_ns + 65 * NS_PER_S) == 0
    assert b.window_max <= 20


def test_a_floor_keeps_its_share_for_sends_and_no_more_while_arrivals_fill_the_plan() -> None:
    b = TpsBudget(20, ONE_EACH, 5, START_NS, send_floor_percent=10)
    now_ns = START_NS + 10 * NS_PER_S
    arrivals_fill(b, now_ns, now_ns + 5 * NS_PER_S)
    granted = arrivals_fill(b, now_ns + 5 * NS_PER_S, now_ns + 65 * NS_PER_S)
    assert granted in range(60 * 2 - 2, 60 * 2 + 1)
    assert b.floor_grants >= granted
    assert b.window_max <= 20, "grants of the floor are told apart"


def test_a_floor_is_a_least_rate_and_not_an_extra_one() -> None:
    with_floor = TpsBudget(20, ONE_EACH, 5, START_NS, send_floor_percent=25)
    from_ns = START_NS + WINDOW_NS
    granted = sends_between(with_floor, from_ns, from_ns + 60 * NS_PER_S)
    assert granted <= 60 * 19 + 2
    assert with_floor.floor_grants == 0


def test_slow_down_takes_thirty_percent_once_an_episode_and_gives_it_back_slowly() -> None:
    b = budget(tps=100)
    now_ns = START_NS + 10 * NS_PER_S
    for _ in range(16):
        b.slow_down(now_ns)
    assert b.ceiling_per_s() == pytest.approx(70)
    granted = sends_between(b, now_ns + NS_PER_S, now_ns + 11 * NS_PER_S)
    assert 690 <= granted <= 702
    for second in range(11, 41):
        b.succeeded(now_ns + second * NS_PER_S)
    assert b.ceiling_per_s() == pytest.approx(100)
    b.succeeded(now_ns + 100 * NS_PER_S)
    assert b.ceiling_per_s() == 100, "never above the plan"


def test_the_ceiling_never_stops_sends() -> None:
    b = budget(tps=100)
    for second in range(100):
        b.slow_down(START_NS + (10 + 3 * second) * NS_PER_S)
    assert b.ceiling_per_s() == pytest.approx(5)


@pytest.mark.parametrize(("before", "after"), [(20, 10), (10, 20), (1000, 10), (10, 1000)])
def test_a_live_change_keeps_the_new_limit_from_the_next_grant_on(before: int, after: int) -> None:
    b = budget(before)
    from_ns = START_NS + WINDOW_NS
    changed_ns = from_ns + 10 * NS_PER_S
    sends_between(b, from_ns, changed_ns)
    b.set_tps(after, changed_ns)
    now_ns = changed_ns
    for _ in range(5 * after):
        free_at_ns = b.try_send(now_ns)
        if free_at_ns == now_ns:
            assert b.in_window(now_ns) <= after
        now_ns = free_at_ns
    granted = sends_between(b, now_ns, now_ns + 60 * NS_PER_S)
    assert granted >= 60 * after * 0.99


@pytest.mark.parametrize(("before", "after"), [(1000, 10), (10, 1000)])
def test_a_live_change_takes_the_floor_along(before: int, after: int) -> None:
    b = TpsBudget(before, ONE_EACH, 5, START_NS, send_floor_percent=50)
    b.set_tps(after, START_NS + 10 * NS_PER_S)
    now_ns = START_NS + 20 * NS_PER_S
    arrivals_fill(b, now_ns, now_ns + 5 * NS_PER_S)
    granted = arrivals_fill(b, now_ns + 5 * NS_PER_S, now_ns + 15 * NS_PER_S)
    assert granted in range(5 * after - 2, 5 * after + 2)


@pytest.mark.parametrize("cost", [2, 3])
@pytest.mark.parametrize(("before", "after"), [(1000, 10), (10, 1000)])
def test_sends_that_cost_more_go_on_after_a_live_change(before: int, after: int, cost: int) -> None:
    b = budget(before, costs={**ONE_EACH, TpsKind.SEND: cost})
    changed_ns = START_NS + 10 * NS_PER_S
    b.set_tps(after, changed_ns)
    granted = sends_between(b, changed_ns, changed_ns + 60 * NS_PER_S)
    assert granted >= 60 * (after // cost) * 0.95


def test_the_floor_comes_down_with_the_ceiling() -> None:
    """A node that says it is too much is not to be sent half the plan because a floor says so."""
    b = TpsBudget(10, ONE_EACH, 5, START_NS, send_floor_percent=50)
    for second in range(40):
        b.slow_down(START_NS + (10 + 3 * second) * NS_PER_S)
    from_ns = START_NS + 200 * NS_PER_S
    assert sends_between(b, from_ns, from_ns + 20 * NS_PER_S) <= 20 * 9.5 * 0.05 + 3


def test_a_floor_counts_what_was_sent_in_the_second_before_the_flood() -> None:
    """Sends had seven tenths of the second already: half the plan is no reason for more when the rest arrives."""
    b = TpsBudget(1000, ONE_EACH, 0, START_NS, send_floor_percent=50)
    from_ns = START_NS + 10 * NS_PER_S
    flood_ns = from_ns + 700_000_000
    assert sends_between(b, from_ns, flood_ns) >= 700
    b.charge(TpsKind.RECEIVE, 1000 - b.in_window(flood_ns), flood_ns)
    assert sends_between(b, flood_ns, from_ns + NS_PER_S) == 0
    assert b.floor_grants == 0


@pytest.mark.parametrize("cost", [1, 3])
def test_a_floor_saves_up_one_extra_send_whatever_a_send_costs(cost: int) -> None:
    b = TpsBudget(100, {**ONE_EACH, TpsKind.SEND: cost}, 5, START_NS, send_floor_percent=10)
    now_ns = START_NS + 60 * NS_PER_S
    b.charge(TpsKind.RECEIVE, 100, now_ns)
    at_once = 0
    while b.try_send(now_ns) == now_ns:
        at_once += 1
    # Two that cost one each; of three events each, one whole one and a token beside it.
    assert at_once == (1 + cost) // cost
    assert b.floor_grants == at_once


def test_a_lower_plan_does_not_forget_what_the_floor_gave_under_the_higher_one() -> None:
    b = TpsBudget(1000, ONE_EACH, 0, START_NS, send_floor_percent=50)
    changed_ns = START_NS + 10 * NS_PER_S
    sends_between(b, START_NS + WINDOW_NS, changed_ns)
    b.set_tps(100, changed_ns)
    # Until no more than 100 of the thousand are in the window.
    assert sends_between(b, changed_ns, changed_ns + 900_000_000) == 0
    assert b.floor_grants == 0


@pytest.mark.parametrize("cost", [1, 2, 3])
def test_idle_time_saves_one_extra_send_whatever_a_send_costs(cost: int) -> None:
    b = budget(tps=30, costs={**ONE_EACH, TpsKind.SEND: cost})
    now_ns = START_NS + 3600 * NS_PER_S
    at_once = 0
    while b.try_send(now_ns) == now_ns:
        at_once += 1
    assert at_once == (1 + cost) // cost


@pytest.mark.parametrize("cost", [2, 3])
def test_a_dear_send_is_saved_up_at_the_lowest_ceiling_too(cost: int) -> None:
    b = budget(tps=100, costs={**ONE_EACH, TpsKind.SEND: cost})
    for second in range(100):
        b.slow_down(START_NS + (10 + 3 * second) * NS_PER_S)
    from_ns = START_NS + 400 * NS_PER_S
    assert sends_between(b, from_ns, from_ns + 60 * NS_PER_S) >= 60 * 5 // cost


@pytest.mark.parametrize("shards", SHARD_COUNTS)
def test_the_parts_of_all_shards_add_up_to_the_plan(shards: int) -> None:
    for tps in (1, 7, 10, 15, 20, 80, 250, 333, 1000):
        parts = [shard_part(tps, shards, index) for index in range(shards)]
        assert sum(parts) == tps
        assert max(parts) - min(parts) <= 1


# Most gaps are around what matters: an interval, a window, a nanosecond beside it.
_GAPS_NS = st.one_of(
    st.integers(0, 3),
    st.integers(0, 10 * NS_PER_S),
    st.sampled_from([WINDOW_NS - 1, WINDOW_NS, WINDOW_NS + 1, NS_PER_S, DEBT_MAX_NS]),
    st.integers(0, 200_000_000),
)
_TPS = st.one_of(st.integers(1, 12), st.integers(1, 1000))


class BudgetBesideModel(RuleBasedStateMachine):
    """All that happens goes to both, and each answer is compared."""

    @initialize(
        tps=_TPS,
        costs=st.fixed_dictionaries({kind: st.integers(0, 3) for kind in TpsKind}),
        headroom_percent=st.sampled_from([0, 0, 5, 17, 50]),
    )
    def start(self, tps: int, costs: dict[TpsKind, int], headroom_percent: int) -> None:
        costs = {**costs, TpsKind.SEND: min(costs[TpsKind.SEND], tps)}
        self.now_ns = START_NS
        self.budget = TpsBudget(tps, costs, headroom_percent, START_NS)
        self.model = TpsModel(tps, costs, headroom_percent, START_NS)

    @rule(delta_ns=_GAPS_NS)
    def time_passes(self, delta_ns: int) -> None:
        self.now_ns += delta_ns

    @rule(delta_ns=st.integers(1, 3 * NS_PER_S))
    def the_clock_steps_back(self, delta_ns: int) -> None:
        self.now_ns = max(START_NS, self.now_ns - delta_ns)

    @rule(kind=st.sampled_from(TpsKind), count=st.one_of(st.integers(0, 3), st.integers(0, 2000)))
    def something_arrives(self, kind: TpsKind, count: int) -> None:
        self.budget.charge(kind, count, self.now_ns)
        self.model.charge(kind, count, self.now_ns)

    @rule()
    def a_send_asks(self) -> None:
        self._ask()

    @rule(burst=st.integers(2, 30))
    def a_sender_asks_on_time(self, burst: int) -> None:
        """Refused a nanosecond before the time that is named, granted at it."""
        for _ in range(burst):
            free_at_ns = self._ask()
            if free_at_ns > self.now_ns:
                self.now_ns = free_at_ns - 1
                assert self._ask() == free_at_ns
                self.now_ns = free_at_ns
                assert self._ask() == free_at_ns

    def _ask(self) -> int:
        now_ns = self.now_ns
        expected_ns = self.model.free_at_ns(now_ns)
        answer_ns = self.budget.try_send(now_ns)
        assert answer_ns == expected_ns
        if answer_ns == now_ns:
            self.model.charge(TpsKind.SEND, 1, now_ns)
            assert self.model.in_window(self.model.events[-1][0]) <= self.model.tps
        return answer_ns

    @invariant()
    def the_same_is_counted(self) -> None:
        if not hasattr(self, "model"):
            return
        for kind in TpsKind:
            total = sum(count for _, of_kind, count in self.model.events if of_kind is kind)
            assert self.budget.totals[kind] == total
            assert self.budget.used(kind, self.now_ns) == self.model.used(kind, self.now_ns)


TestBudgetBesideModel = BudgetBesideModel.TestCase
TestBudgetBesideModel.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)

"""The token bucket grants on time, not a nanosecond before, and agrees with exact fractions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.bucket import BucketModel

from gateway._fast.bucket import NEVER_NS, TokenBucket

T = 100
START = 1000


def bucket(interval_ns: int = T, burst_ns: int = 0, debt_max_ns: int = 10_000) -> TokenBucket:
    return TokenBucket(interval_ns, burst_ns, debt_max_ns, START)


def grants_between(b: TokenBucket, from_ns: int, to_ns: int) -> list[int]:
    """Take a token at each nanosecond that has one."""
    return [now_ns for now_ns in range(from_ns, to_ns + 1) if b.try_take(now_ns, 1) == now_ns]


def test_the_first_token_exists_one_interval_after_the_start() -> None:
    b = bucket()
    assert b.ready_at_ns(START, 1) == START + T
    assert b.try_take(START + T - 1, 1) == START + T
    assert b.try_take(START + T, 1) == START + T
    assert b.try_take(START + T, 1) == START + 2 * T


def test_grants_exactly_one_token_an_interval() -> None:
    assert grants_between(bucket(), START, START + 10 * T) == [START + n * T for n in range(1, 11)]


def test_long_idle_saves_one_token_without_burst() -> None:
    b = bucket()
    later_ns = START + 1_000_000
    assert grants_between(b, later_ns, later_ns + T) == [later_ns, later_ns + T]


def test_long_idle_saves_no_more_than_the_tolerance() -> None:
    b = bucket(burst_ns=2 * T + T // 2)
    later_ns = START + 1_000_000
    taken_at_once = 0
    while b.try_take(later_ns, 1) == later_ns:
        taken_at_once += 1
    assert taken_at_once == 3
    assert b.ready_at_ns(later_ns, 1) == later_ns + T // 2


def test_several_tokens_are_granted_at_once_when_all_are_there() -> None:
    b = bucket(burst_ns=2 * T)
    assert b.try_take(START + 3 * T - 1, 3) == START + 3 * T
    assert b.try_take(START + 3 * T, 3) == START + 3 * T
    assert b.ready_at_ns(START + 3 * T, 1) == START + 4 * T


def test_more_than_can_be_saved_is_never_ready() -> None:
    b = bucket(burst_ns=T)
    assert b.ready_at_ns(START, 2) == START + 2 * T
    assert b.ready_at_ns(START, 3) == NEVER_NS
    assert b.try_take(START + 99 * T, 3) == NEVER_NS


def test_a_debit_goes_into_debt_and_the_debt_is_paid_first() -> None:
    b = bucket()
    b.debit(START, 5)
    assert b.debt_ns(START) == 5 * T
    assert b.ready_at_ns(START, 1) == START + 6 * T
    assert b.ready_at_ns(START, 0) == START + 5 * T
    assert b.try_take(START + 6 * T - 1, 1) == START + 6 * T
    assert b.try_take(START + 6 * T, 1) == START + 6 * T


def test_debt_is_bounded() -> None:
    b = bucket(debt_max_ns=3 * T)
    b.debit(START, 1_000_000)
    assert b.debt_ns(START) == 3 * T
    assert b.ready_at_ns(START, 1) == START + T + 3 * T
    b.debit(START + 50, 1_000_000)
    assert b.ready_at_ns(START + 50, 1) == START + 50 + T + 3 * T


def test_a_faster_rate_keeps_the_debt_in_tokens() -> None:
    b = bucket()
    b.debit(START, 5)
    b.set_interval_ns(START, T // 10)
    assert b.ready_at_ns(START, 1) == START + 6 * (T // 10)


def test_a_slower_rate_keeps_the_debt_in_tokens() -> None:
    b = bucket()
    b.debit(START, 5)
    b.set_interval_ns(START, 3 * T)
    assert b.ready_at_ns(START, 1) == START + 6 * 3 * T


def test_a_slower_rate_keeps_debt_within_its_bound() -> None:
    b = bucket(debt_max_ns=6 * T)
    b.debit(START, 5)
    b.set_interval_ns(START, 10 * T)
    assert b.debt_ns(START) == 6 * T


def test_a_faster_rate_grants_no_burst() -> None:
    """One saved token stays one token, though its time would now make ten."""
    b = bucket(burst_ns=50 * T)
    now_ns = START + T
    b.set_interval_ns(now_ns, T // 10)
    assert b.try_take(now_ns, 1) == now_ns
    assert b.try_take(now_ns, 1) == now_ns + T // 10


def test_a_slower_rate_saves_no_more_than_the_new_tolerance() -> None:
    b = bucket(burst_ns=3 * T)
    now_ns = START + 100 * T
    b.set_interval_ns(now_ns, 3 * T)
    assert b.ready_at_ns(now_ns, 2) == now_ns
    assert b.try_take(now_ns, 2) == now_ns
    assert b.ready_at_ns(now_ns, 1) == now_ns + 3 * T


def test_the_same_rate_changes_nothing() -> None:
    b = bucket(burst_ns=T)
    b.debit(START, 3)
    b.set_interval_ns(START + 17, T)
    assert b.ready_at_ns(START + 17, 1) == START + 4 * T


@given(
    first_ns=st.integers(1, 10**12),
    second_ns=st.integers(1, 10**12),
    cost=st.integers(0, 10**6),
    waited_ns=st.integers(0, 10**15),
)
@settings(max_examples=200, deadline=None)
def test_a_change_of_rate_rounds_by_less_than_a_nanosecond(
    first_ns: int, second_ns: int, cost: int, waited_ns: int
) -> None:
    b = TokenBucket(first_ns, 0, 10**18, 0)
    b.debit(0, cost)
    debt_before_ns = b.debt_ns(waited_ns)
    b.set_interval_ns(waited_ns, second_ns)
    lost_ns = b.debt_ns(waited_ns) * first_ns - debt_before_ns * second_ns
    assert debt_before_ns * second_ns > 10**18 * first_ns or 0 <= lost_ns < first_ns


def test_time_that_runs_back_grants_nothing_more() -> None:
    b = bucket()
    b.debit(START + T, 1)
    assert b.try_take(START, 1) == START + 2 * T
    b.set_interval_ns(START - 500, 10)
    assert b.ready_at_ns(START, 1) == START + T + 10


def test_the_answer_equals_the_time_asked_even_when_it_ran_back() -> None:
    b = bucket(burst_ns=T)
    b.debit(START + 2 * T, 1)
    assert b.try_take(-1, 1) == -1
    assert b.try_take(-1, 1) == START + 3 * T


def test_a_start_in_the_future_is_waited_for() -> None:
    b = TokenBucket(T, 0, 0, START)
    assert b.try_take(0, 1) == START + T
    assert b.debt_ns(0) == 0


def test_reports_how_it_was_made() -> None:
    b = TokenBucket(1, 2, 3, 4)
    b.set_interval_ns(5, 6)
    assert (b.interval_ns, b.burst_ns, b.debt_max_ns) == (6, 2, 3)


def test_the_extremes_do_not_wrap() -> None:
    b = TokenBucket(10**12, 10**18, 10**18, 4 * 10**18)
    b.debit(4 * 10**18, 10**6)
    assert b.debt_ns(4 * 10**18) == 10**18
    assert b.ready_at_ns(4 * 10**18, 10**6) == 6 * 10**18
    b.set_interval_ns(4 * 10**18, 1)
    assert b.debt_ns(4 * 10**18) == 10**6
    b.set_interval_ns(4 * 10**18, 10**12)
    assert b.debt_ns(4 * 10**18) == 10**18


def test_what_is_saved_at_the_extremes_does_not_wrap() -> None:
    """10**18 tokens are saved; at the slower rate their time is 1.5e19 ns, more than 64 bits hold."""
    b = TokenBucket(1, 10**18, 0, 0)
    now_ns = 4 * 10**18
    b.set_interval_ns(now_ns, 15)
    assert b.try_take(now_ns, 10**6) == now_ns


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 0, 0, 0),
        (10**12 + 1, 0, 0, 0),
        (1, -1, 0, 0),
        (1, 10**18 + 1, 0, 0),
        (1, 0, -1, 0),
        (1, 0, 10**18 + 1, 0),
        (1, 0, 0, -1),
        (1, 0, 0, 4 * 10**18 + 1),
    ],
)
def test_the_door_refuses_what_is_out_of_range(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"_ns is -?\d+, must be \d\.\.\d+"):
        TokenBucket(*arguments)


def test_refuses_costs_times_and_intervals_out_of_range() -> None:
    b = bucket()
    for cost in (-1, 10**6 + 1):
        for method in (b.debit, b.ready_at_ns, b.try_take):
            with pytest.raises(ValueError, match=rf"cost is {cost}, must be 0\.\.1000000"):
                method(START, cost)
    with pytest.raises(ValueError, match="now_ns is 4000000000000000001, must be at most"):
        b.debit(4 * 10**18 + 1, 1)
    with pytest.raises(ValueError, match="interval_ns is 0, must be 1"):
        b.set_interval_ns(START, 0)
    with pytest.raises(OverflowError):
        b.debit(2**63, 1)
    assert b.ready_at_ns(START, 1) == START + T


def test_none_is_refused_not_followed() -> None:
    b = bucket()
    with pytest.raises(TypeError):
        b.debit(None, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        TokenBucket(1, 0, 0, None)  # type: ignore[arg-type]


class BucketBesideModel(RuleBasedStateMachine):
    """Intervals that do not divide one another, so that rounding shows."""

    @initialize(
        interval_ns=st.integers(1, 50),
        burst_ns=st.integers(0, 120),
        debt_max_ns=st.integers(0, 400),
        start_ns=st.integers(0, 100),
    )
    def make(self, interval_ns: int, burst_ns: int, debt_max_ns: int, start_ns: int) -> None:
        self.now_ns = start_ns
        self.native = TokenBucket(interval_ns, burst_ns, debt_max_ns, start_ns)
        self.model = BucketModel(interval_ns, burst_ns, debt_max_ns, start_ns)

    @rule(delta_ns=st.one_of(st.integers(0, 60), st.just(5000)))
    def time_passes(self, delta_ns: int) -> None:
        self.now_ns += delta_ns

    @rule(delta_ns=st.integers(1, 30))
    def time_runs_back(self, delta_ns: int) -> None:
        self.now_ns -= delta_ns

    @rule(cost=st.integers(0, 8))
    def debit(self, cost: int) -> None:
        self.native.debit(self.now_ns, cost)
        self.model.debit(self.now_ns, cost)

    @rule(cost=st.integers(0, 4))
    def try_take(self, cost: int) -> None:
        assert self.native.try_take(self.now_ns, cost) == self.model.try_take(self.now_ns, cost)

    @rule(interval_ns=st.integers(1, 70))
    def change_the_rate(self, interval_ns: int) -> None:
        self.native.set_interval_ns(self.now_ns, interval_ns)
        self.model.set_interval_ns(self.now_ns, interval_ns)

    @invariant()
    def ready_times_agree(self) -> None:
        for cost in range(4):
            ready_ns = self.native.ready_at_ns(self.now_ns, cost)
            assert ready_ns == self.model.ready_at_ns(self.now_ns, cost)
            assert ready_ns >= self.now_ns

    @invariant()
    def debts_agree_and_are_bounded(self) -> None:
        newest_ns = max(self.now_ns, self.model.newest_ns)
        debt_ns = self.native.debt_ns(newest_ns)
        assert debt_ns == self.model.debt_ns(newest_ns) <= self.native.debt_max_ns


TestBucketBesideModel = BucketBesideModel.TestCase
TestBucketBesideModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

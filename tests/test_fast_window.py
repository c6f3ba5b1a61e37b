"""The sliding window counts exactly, and compared with a plain model never differs."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.window import WindowModel

from gateway._fast.window import NEVER_NS, SlidingWindow

S = 1_000_000_000


def test_counts_nothing_at_the_start() -> None:
    window = SlidingWindow(S, 10)
    assert window.used(0) == 0
    assert window.free_at_ns(5, 1, 1) == 5


def test_an_entry_is_out_exactly_one_window_later() -> None:
    window = SlidingWindow(S, 10)
    window.record(7, 3)
    assert window.used(7) == 3
    assert window.used(7 + S - 1) == 3
    assert window.used(7 + S) == 0


def test_refuses_a_nanosecond_early_and_allows_on_time() -> None:
    window = SlidingWindow(S, 10)
    for at_ns in (10, 20, 30):
        window.record(at_ns, 1)
    ready_ns = window.free_at_ns(40, 1, 3)
    assert ready_ns == 10 + S
    assert window.free_at_ns(ready_ns - 1, 1, 3) == ready_ns
    assert window.free_at_ns(ready_ns, 1, 3) == ready_ns
    window.record(ready_ns, 1)
    assert window.used(ready_ns) == 3


def test_room_for_more_comes_when_enough_has_left() -> None:
    window = SlidingWindow(S, 10)
    for at_ns, cost in ((10, 1), (20, 5), (30, 2)):
        window.record(at_ns, cost)
    assert [window.free_at_ns(40, cost, 8) for cost in range(10)] == [
        40,
        10 + S,
        *[20 + S] * 5,
        *[30 + S] * 2,
        NEVER_NS,
    ]


def test_more_than_the_limit_never_fits() -> None:
    window = SlidingWindow(S, 10)
    assert window.free_at_ns(0, 4, 3) == NEVER_NS
    assert window.free_at_ns(0, 0, -1) == NEVER_NS


def test_no_limit_is_too_high() -> None:
    window = SlidingWindow(S, 10)
    window.record(0, 2**31 - 1)
    assert window.free_at_ns(0, 2**31 - 1, 2**63 - 1) == 0


def test_time_that_runs_back_counts_as_the_newest() -> None:
    window = SlidingWindow(S, 10)
    window.record(5 * S, 1)
    window.record(4 * S, 1)
    assert window.used(3 * S) == 2
    assert window.used(6 * S - 1) == 2
    assert window.used(6 * S) == 0
    assert window.free_at_ns(-1, 1, 1) == -1


def test_a_full_ring_counts_high_never_low() -> None:
    window = SlidingWindow(S, 2)
    window.record(10, 1)
    window.record(20, 1)
    assert window.absorbed == 0
    window.record(30, 1)
    assert window.absorbed == 1
    assert len(window) == 2
    assert window.used(20 + S) == 2
    assert window.used(30 + S) == 0


def test_one_time_takes_one_entry() -> None:
    window = SlidingWindow(S, 1)
    for _ in range(5):
        window.record(10, 2)
    assert window.used(10) == 10
    assert window.absorbed == 0


def test_cost_zero_takes_no_entry() -> None:
    window = SlidingWindow(S, 1)
    window.record(10, 0)
    assert len(window) == 0


def test_reports_how_it_was_made() -> None:
    window = SlidingWindow(7, 3)
    assert (window.window_ns, window.capacity) == (7, 3)


def test_holds_at_the_far_end_of_time() -> None:
    window = SlidingWindow(10**18, 2)
    window.record(4 * 10**18, 1)
    assert window.free_at_ns(4 * 10**18, 1, 1) == 5 * 10**18


@pytest.mark.parametrize(
    ("window_ns", "capacity"), [(0, 1), (-1, 1), (10**18 + 1, 1), (1, 0), (1, 2**20 + 1)]
)
def test_the_door_refuses_what_is_out_of_range(window_ns: int, capacity: int) -> None:
    with pytest.raises(ValueError, match=r"is -?\d+, must be 1\.\.\d+"):
        SlidingWindow(window_ns, capacity)


def test_refuses_costs_and_times_out_of_range() -> None:
    window = SlidingWindow(S, 2)
    with pytest.raises(ValueError, match="cost is -1, must be 0"):
        window.record(0, -1)
    with pytest.raises(ValueError, match="cost is 2147483648, must be 0"):
        window.free_at_ns(0, 2**31, 2**40)
    with pytest.raises(ValueError, match="now_ns is 4000000000000000001, must be at most"):
        window.used(4 * 10**18 + 1)
    with pytest.raises(OverflowError):
        window.used(2**63)
    assert window.used(0) == 0


def test_none_is_refused_not_followed() -> None:
    window = SlidingWindow(S, 2)
    with pytest.raises(TypeError):
        window.record(None, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SlidingWindow(None, 1)  # type: ignore[arg-type]


class WindowBesideModel(RuleBasedStateMachine):
    """Small windows and times, so that edges meet."""

    @initialize(window_ns=st.integers(1, 20), capacity=st.integers(1, 6))
    def make(self, window_ns: int, capacity: int) -> None:
        self.now_ns = 0
        self.native = SlidingWindow(window_ns, capacity)
        self.model = WindowModel(window_ns, capacity)

    @rule(delta_ns=st.integers(0, 8))
    def time_passes(self, delta_ns: int) -> None:
        self.now_ns += delta_ns

    @rule(delta_ns=st.integers(1, 5))
    def time_runs_back(self, delta_ns: int) -> None:
        self.now_ns -= delta_ns

    @rule(cost=st.integers(0, 5))
    def record(self, cost: int) -> None:
        self.native.record(self.now_ns, cost)
        self.model.record(self.now_ns, cost)

    @rule(cost=st.integers(0, 12), limit=st.integers(-1, 12))
    def ask_for_room(self, cost: int, limit: int) -> None:
        free_ns = self.native.free_at_ns(self.now_ns, cost, limit)
        assert free_ns == self.model.free_at_ns(self.now_ns, cost, limit)
        assert free_ns >= self.now_ns

    @invariant()
    def counts_agree(self) -> None:
        assert self.native.used(self.now_ns) == self.model.used(self.now_ns)
        assert len(self.native) == len(self.model.entries)


TestWindowBesideModel = WindowBesideModel.TestCase
TestWindowBesideModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

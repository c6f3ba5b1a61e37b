"""The histogram counts exactly and errs by no more than it says."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.histogram import BOUNDS_NS, HistogramModel

from gateway._fast.histogram import LatencyHistogram

US = 1_000
MS = 1_000_000
HOUR = 3_600_000_000_000
LONGEST_NS = BOUNDS_NS[-1]


def histogram(*values_ns: int) -> LatencyHistogram:
    made = LatencyHistogram()
    for ns in values_ns:
        made.record_ns(ns)
    return made


def upper_bound_of(ns: int) -> int:
    """The bound of the bucket of `ns`, shown by a quantile that the maximum does not cut."""
    return histogram(ns, 2**62).quantile_ns(0.5)


def test_is_empty_at_the_start() -> None:
    made = LatencyHistogram()
    assert (made.count, made.sum_ns, made.max_ns, made.quantile_ns(0.5)) == (0, 0, 0, 0)
    assert made.cumulative([0, MS]) == [0, 0]


def test_count_sum_and_maximum_are_exact() -> None:
    made = histogram(0, 1, 999, 12_345_678, 3 * HOUR)
    assert (made.count, made.sum_ns, made.max_ns) == (5, 12_346_678 + 3 * HOUR, 3 * HOUR)


def test_the_sum_outgrows_64_bits() -> None:
    made = LatencyHistogram()
    made.record_many_ns(HOUR, 2**40)
    made.record_many_ns(2**63 - 1, 2**40)
    assert made.sum_ns == (HOUR + 2**63 - 1) * 2**40


def test_buckets_are_closed_above() -> None:
    assert upper_bound_of(16 * US) == 16 * US
    assert upper_bound_of(16 * US + 1) == 17 * US
    assert upper_bound_of(32 * US) == 32 * US
    assert upper_bound_of(32 * US + 1) == 34 * US


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_every_bound_is_where_the_model_has_it(step: int) -> None:
    for bucket, bound_ns in enumerate(BOUNDS_NS[:-2]):
        assert upper_bound_of(bound_ns + step) == BOUNDS_NS[bucket + (step > 0)]


@given(ns=st.integers(1, LONGEST_NS))
@example(1)
@example(16 * US + 1)
@settings(max_examples=200, deadline=None)
def test_a_quantile_is_never_low_and_errs_by_a_sixteenth_at_most(ns: int) -> None:
    bound_ns = upper_bound_of(ns) if ns <= BOUNDS_NS[-2] else LONGEST_NS
    assert ns <= bound_ns
    assert (bound_ns - ns) * 16 <= ns or bound_ns - ns < US


def test_a_quantile_is_never_above_the_maximum() -> None:
    assert histogram(33 * US).quantile_ns(1.0) == 33 * US


def test_quantiles_of_a_hundred() -> None:
    made = histogram(*(n * US for n in range(1, 101)))
    assert made.quantile_ns(0.0) == 1 * US
    assert made.quantile_ns(0.1) == 10 * US
    assert made.quantile_ns(0.5) == 50 * US
    assert made.quantile_ns(0.99) == 100 * US
    assert made.quantile_ns(1.0) == 100 * US


def test_longer_than_the_last_bucket_is_counted_there() -> None:
    made = histogram(LONGEST_NS, 10 * HOUR)
    assert made.cumulative([LONGEST_NS, 10 * HOUR - 1, 10 * HOUR]) == [0, 0, 2]
    assert made.quantile_ns(0.5) == 10 * HOUR


def test_a_negative_span_counts_as_nothing() -> None:
    made = histogram(-5, -(2**63))
    assert (made.count, made.sum_ns, made.max_ns, made.quantile_ns(1.0)) == (2, 0, 0, 0)


def test_cumulative_is_exact_at_bounds_of_buckets() -> None:
    made = histogram(1, 16 * US, 16 * US + 1, 1024 * US, 1024 * US + 1)
    assert made.cumulative([US, 16 * US, 17 * US, 1024 * US, 2048 * US]) == [1, 2, 3, 4, 5]


def test_a_bucket_cut_by_a_bound_counts_above_it() -> None:
    made = histogram(32 * US + 1, HOUR)
    assert made.cumulative([33 * US, 34 * US]) == [0, 1]


def test_many_are_recorded_as_one() -> None:
    made = LatencyHistogram()
    made.record_many_ns(3 * US, 7)
    made.record_many_ns(HOUR, 0)
    assert (made.count, made.sum_ns, made.max_ns) == (7, 21 * US, 3 * US)


def test_merge_adds_and_leaves_the_other_alone() -> None:
    first, second = histogram(US), histogram(MS, 5)
    first.merge(second)
    assert (first.count, first.sum_ns, first.max_ns) == (3, US + MS + 5, MS)
    assert (second.count, second.sum_ns) == (2, MS + 5)
    first.merge(first)
    assert (first.count, first.cumulative([US, MS])) == (6, [4, 6])


def test_clear_forgets() -> None:
    made = histogram(MS, HOUR)
    made.clear()
    assert (made.count, made.sum_ns, made.max_ns, made.cumulative([2 * HOUR])) == (0, 0, 0, [0])


def test_refuses_counts_that_would_wrap() -> None:
    made = LatencyHistogram()
    with pytest.raises(ValueError, match="n is -1, must be 0"):
        made.record_many_ns(1, -1)
    made.record_many_ns(1, 2**62)
    with pytest.raises(ValueError, match=r"n is 1, must be 0\.\.0"):
        made.record_ns(1)
    with pytest.raises(OverflowError):
        made.merge(histogram(1))
    assert made.count == 2**62
    assert made.quantile_ns(1.0) == 1


@pytest.mark.parametrize("q", [-0.001, 1.001, math.nan, math.inf])
def test_refuses_what_is_no_quantile(q: float) -> None:
    with pytest.raises(ValueError, match=r"q is .*, must be 0\.\.1"):
        histogram(1).quantile_ns(q)


@pytest.mark.parametrize("bounds_ns", [[-1], [2, 1], [1, 1]])
def test_refuses_bounds_that_do_not_ascend(bounds_ns: list[int]) -> None:
    with pytest.raises(ValueError, match="must be 0 or more and ascending"):
        histogram(1).cumulative(bounds_ns)


def test_none_is_refused_not_followed() -> None:
    made = LatencyHistogram()
    with pytest.raises(TypeError):
        made.merge(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.cumulative(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.cumulative([None])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        made.record_ns(None)  # type: ignore[arg-type]


# Near every bound, where a bucket off by one shows, and everywhere else.
SPANS_NS = st.one_of(
    st.integers(-5, 40_000),
    st.builds(int.__add__, st.sampled_from(BOUNDS_NS), st.integers(-1, 1)),
    st.integers(0, 4 * HOUR),
)


class HistogramBesideModel(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.native = LatencyHistogram()
        self.model = HistogramModel()

    @rule(ns=SPANS_NS)
    def record(self, ns: int) -> None:
        self.native.record_ns(ns)
        self.model.record_ns(ns)

    @rule(ns=SPANS_NS, n=st.integers(0, 5))
    def record_many(self, ns: int, n: int) -> None:
        self.native.record_many_ns(ns, n)
        self.model.record_many_ns(ns, n)

    @rule(spans_ns=st.lists(SPANS_NS, max_size=5))
    def merge(self, spans_ns: list[int]) -> None:
        native, model = LatencyHistogram(), HistogramModel()
        for ns in spans_ns:
            native.record_ns(ns)
            model.record_ns(ns)
        self.native.merge(native)
        self.model.merge(model)

    @rule()
    def clear(self) -> None:
        self.native.clear()
        self.model.clear()

    @rule(bounds_ns=st.lists(SPANS_NS.filter(lambda ns: ns >= 0), unique=True, max_size=6).map(sorted))
    def cumulative_agrees(self, bounds_ns: list[int]) -> None:
        assert self.native.cumulative(bounds_ns) == self.model.cumulative(bounds_ns)

    @rule(q=st.floats(0.0, 1.0))
    def quantile_agrees(self, q: float) -> None:
        assert self.native.quantile_ns(q) == self.model.quantile_ns(q)

    @invariant()
    def totals_agree(self) -> None:
        native, model = self.native, self.model
        assert (native.count, native.sum_ns, native.max_ns) == (model.count, model.sum_ns, model.max_ns)


TestHistogramBesideModel = HistogramBesideModel.TestCase
TestHistogramBesideModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

"""The pressure: one figure, its causes, and the least wait."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.waits import LeastWait
from gateway.ops.memory import MemoryGauge
from gateway.overload.pressure import GIVES_UP_DETAIL, Cause, Pressure, Sample, of_fill, of_time

HOUR_MS = 3_600_000

times_ms = st.floats(0, 1e9)
fills = st.floats(0, 1.5)
samples = st.builds(
    Sample,
    receipt_wait_ms=times_ms,
    message_wait_ms=times_ms,
    store_lag_ms=times_ms,
    loop_lag_ms=st.floats(-100, 1e6),
    queue_fill=fills,
    disk_fill=fills,
    memory_fill=fills,
)


def test_an_idle_gateway_is_not_pressed() -> None:
    pressure = Pressure(HOUR_MS)
    assert pressure.feed(Sample()) == 0.0
    assert pressure.main_cause is None


@given(sample=samples)
def test_the_figure_is_the_highest_cause_and_stays_in_its_range(sample: Sample) -> None:
    pressure = Pressure(HOUR_MS)
    figure = pressure.feed(sample)
    assert 0.0 <= figure <= 1.0
    assert figure == max(pressure.causes.values())
    if figure > 0:
        assert pressure.main_cause is not None
        assert pressure.causes[pressure.main_cause] == figure


@pytest.mark.parametrize(
    ("wait_ms", "figure"),
    [(0, 0.0), (3_600, 0.1), (28_800, 0.2), (450_000, 0.5), (HOUR_MS, 1.0), (HOUR_MS * 9, 1.0)],
)
def test_a_wait_is_felt_by_its_cube_root(wait_ms: float, figure: float) -> None:
    assert Pressure(HOUR_MS).feed(Sample(receipt_wait_ms=wait_ms)) == pytest.approx(figure)


@given(low=times_ms, high=times_ms)
def test_a_longer_wait_never_presses_less(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert of_time(low, HOUR_MS) <= of_time(high, HOUR_MS)


def test_messages_that_wait_make_receipts_closer_but_never_lose_one() -> None:
    pressure = Pressure(HOUR_MS)
    assert pressure.feed(Sample(message_wait_ms=1e9)) == GIVES_UP_DETAIL
    assert pressure.main_cause is Cause.MESSAGE_WAIT


def test_a_full_queue_in_memory_loses_nothing_either() -> None:
    assert Pressure(HOUR_MS).feed(Sample(queue_fill=1.0)) < GIVES_UP_DETAIL


def test_a_short_lag_is_no_pressure() -> None:
    assert Pressure(HOUR_MS).feed(Sample(store_lag_ms=100, loop_lag_ms=100)) == 0.0


@pytest.mark.parametrize(("share", "figure"), [(0.0, 0.0), (0.5, 0.0), (0.725, 0.5), (0.95, 1.0), (1.2, 1.0)])
def test_a_fill_presses_in_a_straight_line(share: float, figure: float) -> None:
    assert of_fill(share, 0.5, 0.95) == pytest.approx(figure)


@given(waits=st.lists(times_ms), age=times_ms)
def test_the_least_wait_is_the_quickest_or_the_age_of_what_stands(waits: list[float], age: float) -> None:
    least = LeastWait()
    for wait in waits:
        least.note(wait)
    assert least.take(lambda: age) == (min(waits) if waits else age)
    assert least.take(lambda: age) == age, "a look begins anew"


def test_a_clock_that_steps_back_makes_no_negative_wait() -> None:
    least = LeastWait()
    least.note(-5)
    assert least.take(lambda: math.inf) == 0.0


def test_memory_is_what_cannot_be_given_back_of_the_tightest_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.high").write_text("400\n")
    (tmp_path / "memory.stat").write_text("anon 100\nfile 900\n")
    assert MemoryGauge(tmp_path).fill() == 0.25


def test_memory_without_a_limit_or_a_control_group_presses_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert MemoryGauge(tmp_path).fill() == 0.0
    assert MemoryGauge(tmp_path / "none").fill() == 0.0

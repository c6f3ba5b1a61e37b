"""The breaker opens after three failures in a row, lets one probe through, and closes on a success."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.breaker import FAILURES_TO_OPEN, Breaker
from gateway.clock import NS_PER_MS

MIN_MS, MAX_MS = 100, 2_000


def breaker(seed: int = 1) -> Breaker:
    return Breaker(MIN_MS, MAX_MS, random.Random(seed))


def opened(now_ns: int = 0) -> Breaker:
    b = breaker()
    for _ in range(FAILURES_TO_OPEN):
        b.fail(now_ns)
    return b


def test_starts_closed() -> None:
    b = breaker()
    assert b.state == "closed"
    assert b.may_pass(0)
    assert b.passes_at_ns() is None


def test_opens_with_the_third_failure_in_a_row() -> None:
    b = breaker()
    b.fail(0)
    b.fail(0)
    assert b.state == "closed"
    b.fail(0)
    assert b.state == "open"
    assert not b.may_pass(0)
    assert b.opened == 1


def test_a_success_between_failures_keeps_it_closed() -> None:
    b = breaker()
    for _ in range(10):
        b.fail(0)
        b.fail(0)
        b.succeed()
    assert b.state == "closed"
    assert b.opened == 0


def test_a_probe_may_go_at_the_named_nanosecond_and_not_before() -> None:
    b = opened()
    probe_ns = b.passes_at_ns()
    assert probe_ns is not None
    assert MIN_MS // 2 * NS_PER_MS <= probe_ns <= MIN_MS * NS_PER_MS
    assert not b.may_pass(probe_ns - 1)
    assert b.may_pass(probe_ns)


def test_only_one_probe_goes() -> None:
    b = opened()
    later_ns = MAX_MS * NS_PER_MS
    b.enter(later_ns)
    assert b.state == "half_open"
    assert not b.may_pass(later_ns)
    assert b.passes_at_ns() is None
    with pytest.raises(AssertionError):
        b.enter(later_ns)


def test_a_probe_that_succeeds_closes_it() -> None:
    b = opened()
    b.enter(MAX_MS * NS_PER_MS)
    b.succeed()
    assert b.state == "closed"
    assert b.may_pass(MAX_MS * NS_PER_MS)


def test_a_probe_that_fails_opens_it_for_longer_up_to_a_bound() -> None:
    b = opened()
    now_ns = 0
    waits_ms = []
    for _ in range(8):
        probe_ns = b.passes_at_ns()
        assert probe_ns is not None
        waits_ms.append((probe_ns - now_ns) // NS_PER_MS)
        now_ns = probe_ns
        assert b.enter(now_ns)
        b.fail(now_ns, is_probe=True)
        assert b.state == "open"
    for doublings, wait_ms in enumerate(waits_ms):
        ceiling_ms = min(MIN_MS << doublings, MAX_MS)
        assert ceiling_ms // 2 <= wait_ms <= ceiling_ms
    assert b.opened == 1


def test_many_requests_cut_off_at_once_cost_the_first_wait_only() -> None:
    """Sixteen were under way when the backend restarted: it is asked again as soon as if it had been three."""
    b = breaker()
    for _ in range(16):
        assert not b.enter(0)
    for _ in range(16):
        b.fail(0)
    probe_ns = b.passes_at_ns()
    assert probe_ns is not None
    assert probe_ns <= MIN_MS * NS_PER_MS


def test_the_failure_of_an_older_request_lets_no_second_probe_through() -> None:
    b = opened()
    now_ns = MAX_MS * NS_PER_MS
    assert b.enter(now_ns)
    b.fail(now_ns)
    assert b.state == "half_open"
    assert not b.may_pass(now_ns + MAX_MS * NS_PER_MS)
    b.fail(now_ns, is_probe=True)
    assert b.state == "open"


def test_an_older_request_that_is_told_a_time_moves_the_probe_there() -> None:
    b = opened()
    b.fail(0, retry_after_ms=5_000)
    assert b.passes_at_ns() == 5_000 * NS_PER_MS
    b.fail(0, retry_after_ms=1_000)
    assert b.passes_at_ns() == 5_000 * NS_PER_MS


def test_a_destination_that_names_a_time_is_left_alone_until_then() -> None:
    b = breaker()
    b.fail(0, retry_after_ms=5_000)
    assert b.state == "open"
    assert not b.may_pass(5_000 * NS_PER_MS - 1)
    assert b.may_pass(5_000 * NS_PER_MS)


def test_after_a_success_it_takes_three_failures_again() -> None:
    b = opened()
    b.succeed()
    b.fail(0)
    b.fail(0)
    assert b.state == "closed"
    b.fail(0)
    assert (b.state, b.opened) == ("open", 2)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(st.sampled_from(["fail", "succeed", "wait", "ask"]), max_size=60),
)
def test_it_never_stays_shut_for_longer_than_its_bound(seed: int, steps: list[str]) -> None:
    b = breaker(seed)
    now_ns = 0
    is_probe = False
    for step in steps:
        if step == "ask" and b.may_pass(now_ns):
            is_probe = b.enter(now_ns)
        elif step == "fail":
            b.fail(now_ns, is_probe=is_probe)
            is_probe = False
        elif step == "succeed":
            b.succeed()
        elif step == "wait":
            now_ns += MIN_MS * NS_PER_MS
        passes_at_ns = b.passes_at_ns()
        assert passes_at_ns is None or passes_at_ns <= now_ns + MAX_MS * NS_PER_MS
        assert (b.state == "closed") == (passes_at_ns is None and b.may_pass(now_ns))

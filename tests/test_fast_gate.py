"""The native gate and breaker answer as their models do, question for question."""

import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model.gate import NS_PER_MS, BreakerModel, GateModel, PassageModel
from model.limit import LimitModel

from gateway._fast.breaker import Breaker
from gateway._fast.bucket import NEVER_NS
from gateway._fast.gate import GateCore
from gateway._fast.limit import NEITHER, OVERLOADED, START, WELL, ConcurrencyLimit, Passage

signs = st.sampled_from([OVERLOADED, NEITHER])


class GateComparison(RuleBasedStateMachine):
    """One destination, with all that may befall it; time passes by itself in each step, or much of it at once."""

    @initialize(
        highest=st.sampled_from([1, 2, 4, 5, 64]),
        is_dry_run=st.booleans(),
        seed=st.integers(0, 99),
        wait_max_ms=st.sampled_from([0, 50, 3_000]),
    )
    def begin(self, highest: int, seed: int, wait_max_ms: int, *, is_dry_run: bool) -> None:
        self.now_ns = 0
        self.ends: list[tuple[Passage, PassageModel]] = []
        self.gate = GateCore(
            Breaker(20, wait_max_ms, random.Random(seed)), ConcurrencyLimit(highest), is_dry_run=is_dry_run
        )
        self.model = GateModel(
            BreakerModel(20, wait_max_ms, random.Random(seed)), LimitModel(highest), is_dry_run=is_dry_run
        )

    @rule(passed_ns=st.integers(0, 20 * NS_PER_MS) | st.integers(0, 10_000 * NS_PER_MS))
    def time_passes(self, passed_ns: int) -> None:
        self.now_ns += passed_ns

    @rule()
    def the_next_opening_comes(self) -> None:
        opens_at_ns = self.model.opens_at_ns(self.now_ns)
        if opens_at_ns < NEVER_NS:
            self.now_ns = opens_at_ns

    @rule(is_retry=st.booleans(), count=st.integers(1, 9))
    def some_go(self, count: int, *, is_retry: bool) -> None:
        for _ in range(count):
            if self.model.opens_at_ns(self.now_ns) > self.now_ns:
                return
            passage = self.gate.enter(self.now_ns, is_retry=is_retry)
            expected = self.model.enter(self.now_ns, is_retry=is_retry)
            assert (passage.era, passage.number, passage.entered_ns) == expected.ticket
            assert (passage.is_probe, passage.is_retry) == expected[1:]
            self.ends.append((passage, expected))

    @precondition(lambda self: self.ends)
    @rule(at=st.integers(0, 99), passed_ns=st.integers(0, 300 * NS_PER_MS), count=st.integers(1, 9))
    def some_succeed(self, at: int, passed_ns: int, count: int) -> None:
        self.now_ns += passed_ns
        for _ in range(min(count, len(self.ends))):
            passage, expected = self.ends.pop(at % len(self.ends))
            assert self.gate.succeed(passage, self.now_ns) == self.model.succeed(expected, self.now_ns)

    @precondition(lambda self: self.ends)
    @rule(
        at=st.integers(0, 99),
        sign=signs,
        retry_after_ms=st.just(0) | st.integers(0, 5_000),
        shows_trouble=st.booleans(),
    )
    def one_fails(self, at: int, sign: int, retry_after_ms: int, *, shows_trouble: bool) -> None:
        passage, expected = self.ends.pop(at % len(self.ends))
        arguments = (self.now_ns, sign, retry_after_ms)
        assert self.gate.fail(passage, *arguments, shows_trouble=shows_trouble) == self.model.fail(
            expected, *arguments, shows_trouble=shows_trouble
        )

    @rule(reason=st.sampled_from(["gone", "isolated"]))
    def an_operator_closes_or_reopens_it(self, reason: str) -> None:
        for closed_by in (self.gate.closed_by, self.model.closed_by):
            closed_by ^= {reason}

    @invariant()
    def both_answer_the_same(self) -> None:
        gate, model = self.gate, self.model
        assert gate.opens_at_ns(self.now_ns) == model.opens_at_ns(self.now_ns)
        assert (gate.prefers_fresh, gate.has_room_for_retry) == (
            model.prefers_fresh,
            model.has_room_for_retry,
        )
        assert gate.would_have == model.would_have
        assert (gate.limit.limit, gate.limit.in_flight, gate.limit.lowered) == (
            model.limit.limit,
            model.limit.in_flight,
            model.limit.lowered,
        )
        ours, theirs = gate.breaker, model.breaker
        assert (ours.state, ours.is_closed, ours.opened) == (theirs.state, theirs.is_closed, theirs.opened)
        assert ours.passes_at_ns() == theirs.passes_at_ns()
        for now_ns in (self.now_ns, self.now_ns + 20 * NS_PER_MS):
            assert ours.may_pass(now_ns) == theirs.may_pass(now_ns)
        assert not gate.needs_token(self.now_ns)


TestGateComparison = GateComparison.TestCase
TestGateComparison.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_full_limit_and_an_open_breaker_let_nobody_through() -> None:
    g = gate()
    passages = [g.enter(0, is_retry=False) for _ in range(START)]
    with pytest.raises(AssertionError, match="the gate is closed"):
        g.enter(0, is_retry=True)
    assert g.limit.in_flight == START
    for passage in passages:
        g.fail(passage, 0, NEITHER, 0, shows_trouble=True)
    with pytest.raises(AssertionError, match="the breaker is open"):
        g.enter(0, is_retry=False)


def gate(rate: "FakeRate | None" = None, yields_to: Callable[[int], bool] | None = None) -> GateCore:
    return GateCore(Breaker(100, 2_000, random.Random(1)), ConcurrencyLimit(8), rate, yields_to)


class FakeRate:
    """Opens at 7, or at 9 for who yields."""

    def __init__(self) -> None:
        self.entered_ns: list[int] = []

    def opens_at_ns(self, now_ns: int, *, yields: bool) -> int:
        return 9 if yields else 7

    def enter(self, now_ns: int) -> None:
        self.entered_ns.append(now_ns)


@pytest.mark.parametrize(("yields_to", "opens_ns"), [(None, 7), (lambda _: False, 7), (lambda _: True, 9)])
def test_the_rate_is_asked_where_there_is_one_and_the_rest_allows(
    yields_to: Callable[[int], bool] | None, opens_ns: int
) -> None:
    rate = FakeRate()
    g = gate(rate, yields_to)
    assert (g.opens_at_ns(5), g.needs_token(5)) == (opens_ns, True)
    g.closed_by.add("gone")
    assert (g.opens_at_ns(5), g.needs_token(5)) == (NEVER_NS, False)
    g.closed_by.clear()
    g.enter(9, is_retry=False)
    assert rate.entered_ns == [9]


def test_what_the_rate_raises_comes_through_and_nobody_has_gone() -> None:
    class Broken(FakeRate):
        def opens_at_ns(self, now_ns: int, *, yields: bool) -> int:
            raise ZeroDivisionError

        def enter(self, now_ns: int) -> None:
            raise ZeroDivisionError

    g = gate(Broken())
    with pytest.raises(ZeroDivisionError):
        g.opens_at_ns(5)
    with pytest.raises(ZeroDivisionError):
        g.enter(5, is_retry=True)
    assert g.limit.in_flight == 0
    assert g.has_room_for_retry


def test_who_asked_for_it_is_called_after_each_end_until_it_no_longer_wants_to_be() -> None:
    g = gate()
    in_flight: list[int] = []
    passages = [g.enter(0, is_retry=False) for _ in range(4)]
    g.succeed(passages.pop(), 0)
    g.call_when_left(lambda: in_flight.append(g.limit.in_flight))
    g.succeed(passages.pop(), 0)
    g.fail(passages.pop(), 0, NEITHER, 0, shows_trouble=False)
    g.call_when_left(None)
    g.succeed(passages.pop(), 0)
    assert in_flight == [2, 1]


def test_a_gate_whose_making_was_forgotten_lets_nobody_through_and_does_not_crash() -> None:
    class Forgetful(GateCore):
        def __init__(self) -> None:
            pass

    g = Forgetful()
    assert g.opens_at_ns(0) == NEVER_NS
    assert g.has_room_for_retry
    assert not g.prefers_fresh
    assert g.succeed(g.enter(0, is_retry=False), 0) is False


def test_none_is_no_breaker_no_limit_and_no_passage() -> None:
    for breaker, limit in ((None, ConcurrencyLimit(1)), (Breaker(1, 1, random.Random(1)), None)):
        with pytest.raises(TypeError):
            GateCore(breaker, limit)  # type: ignore[arg-type]
    g = gate()
    with pytest.raises(TypeError):
        g.succeed(None, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        g.fail(None, 0, WELL, 0, shows_trouble=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wait_min_ms", "wait_max_ms", "said"),
    [(-1, 1, "wait_min_ms is -1"), (1, 10**9 + 1, "wait_max_ms is 1000000001")],
)
def test_waits_out_of_their_range_are_refused(wait_min_ms: int, wait_max_ms: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}, must be 0..1000000000"):
        Breaker(wait_min_ms, wait_max_ms, random.Random(1))


def test_the_longest_wait_and_the_latest_time_do_not_wrap() -> None:
    breaker = Breaker(10**9, 10**9, random.Random(1))
    for _ in range(100):
        breaker.fail(4 * 10**18, 10**12, is_probe=True)
        assert breaker.passes_at_ns() == 5 * 10**18
    for now_ns, retry_after_ms in ((-1, 0), (4 * 10**18 + 1, 0), (0, -1), (0, 10**12 + 1)):
        with pytest.raises(ValueError, match="must be 0"):
            breaker.fail(now_ns, retry_after_ms)

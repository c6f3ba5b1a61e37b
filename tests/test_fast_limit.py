"""The native limit moves as the model does, request for request, beside servers of every kind."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model import limit as model
from model.limit import LimitModel, TicketModel

from gateway._fast.limit import (
    DECREASE,
    NEITHER,
    OVERLOADED,
    ROUND_SAMPLES,
    START,
    WELL,
    ConcurrencyLimit,
    Passage,
)


class Pair:
    """A limit and its model, which get the same requests and must not differ."""

    def __init__(self, highest: int) -> None:
        self.limit = ConcurrencyLimit(highest)
        self.model = LimitModel(highest)
        self.under_way: list[tuple[Passage, TicketModel]] = []

    def enter(self, now_ns: int) -> None:
        passage, ticket = self.limit.enter(now_ns), self.model.enter(now_ns)
        assert (passage.era, passage.number, passage.entered_ns) == ticket
        assert (passage.is_probe, passage.is_retry) == (False, False)
        self.under_way.append((passage, ticket))
        self.compare()

    def leave(self, index: int, now_ns: int, sign: int) -> None:
        passage, ticket = self.under_way.pop(index)
        self.limit.leave(passage, now_ns, sign)
        self.model.leave(ticket, now_ns, sign)
        self.compare()

    def compare(self) -> None:
        ours, theirs = self.limit, self.model
        assert (ours.limit, ours.in_flight, ours.lowered) == (theirs.limit, theirs.in_flight, theirs.lowered)
        assert ours.has_room == theirs.has_room


def test_its_numbers_are_the_models() -> None:
    assert (START, DECREASE, ROUND_SAMPLES) == (model.START, model.DECREASE, model.ROUND_SAMPLES)
    assert (WELL, OVERLOADED, NEITHER) == (model.WELL, model.OVERLOADED, model.NEITHER)


@settings(max_examples=300, deadline=None)
@given(
    highest=st.integers(1, 70),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["enter", "enter", "beyond", WELL, WELL, WELL, OVERLOADED, NEITHER]),
            st.integers(0, 10**6),
            st.integers(-(10**6), 10**10),
        ),
        max_size=400,
    ),
)
def test_in_whatever_order_requests_come_and_end(
    highest: int, steps: list[tuple[str | int, int, int]]
) -> None:
    """Those beyond the limit are a dry run's; a clock that runs back makes times that count as a nanosecond."""
    pair = Pair(highest)
    now_ns = 0
    for step, pick, passed_ns in steps:
        now_ns += passed_ns
        if isinstance(step, int):
            if pair.under_way:
                pair.leave(pick % len(pair.under_way), now_ns, step)
        elif pair.limit.has_room or step == "beyond":
            pair.enter(now_ns)


class Server(NamedTuple):
    """How long it takes, in ns, for the n-th request with so many at once; and how often it is overloaded."""

    takes: Callable[[random.Random, int, int], float]
    overloaded: float = 0


SERVERS = {
    "quick": Server(lambda rng, at_once, n: 1e6 * rng.lognormvariate(0, 0.2)),
    "queues beyond eight": Server(
        lambda rng, at_once, n: 5e7 * max(1, at_once / 8) * rng.lognormvariate(0, 0.3)
    ),
    "wild": Server(lambda rng, at_once, n: 5e7 * rng.lognormvariate(0, 2), 0.001),
    "slower from time to time": Server(
        lambda rng, at_once, n: 5e7 * (4 if n // 900 % 2 else 1) * rng.expovariate(1)
    ),
    "queues, and more and more": Server(
        lambda rng, at_once, n: (1e6 + 1e4 * n) * at_once * rng.lognormvariate(0, 0.1)
    ),
    "half from a cache": Server(lambda rng, at_once, n: 1e5 if rng.random() < 0.5 else 1e8 * at_once / 4),
    "overloaded now and then": Server(lambda rng, at_once, n: 5e7 * rng.lognormvariate(0, 0.5), 0.02),
    "beyond what a float holds": Server(lambda rng, at_once, n: rng.randrange(2**53, 2**58)),
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("highest", [1, 2, 6, 64, 300])
def test_for_thousands_of_requests_beside_a_server(highest: int, server: Server) -> None:
    """Work nearly always waits, so windows are full and get judged: where times are compared, a last bit may decide."""
    rng = random.Random(highest)
    pair = Pair(highest)
    ends_ns: list[int] = []
    now_ns = 1
    limits = set()
    for n in range(8_000):
        while pair.limit.has_room and (not ends_ns or rng.random() > 0.002):
            pair.enter(now_ns)
            ends_ns.append(now_ns + math.ceil(server.takes(rng, pair.limit.in_flight, n)))
        index = min(range(len(ends_ns)), key=ends_ns.__getitem__)
        now_ns = max(now_ns, ends_ns.pop(index))
        if now_ns > 2**62:
            break
        roll = rng.random()
        sign = OVERLOADED if roll < server.overloaded else NEITHER if roll > 0.995 else WELL
        pair.leave(index, now_ns, sign)
        limits.add(pair.limit.limit)
    assert highest <= START or len(limits) > 1


class Story(NamedTuple):
    """How long answers take, in thirds, as multiples of each other; the last third is stretched up to tenfold."""

    thirds: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    rounds: int = 45
    is_started: bool = True
    """Whether slow start is over when it begins."""


STORIES = {
    "half as long again in slow start": Story(((1,), (1,), (1,)), rounds=3, is_started=False),
    "twice as long as usual": Story(((3,), (3,), (3,))),
    "twice as long as what was learned from shorter ones": Story(((3,), (2,), (2,))),
    "by four deviations of the mean": Story(((1, 40), (1, 40), (1, 40))),
}


def told(story: Story, stretched: int) -> Pair:
    """`stretched` is what one is in the last third, in ns: so much that one more of them is below a float's last bit."""
    pair = Pair(64)
    if story.is_started:
        pair.enter(0)
        pair.leave(0, 0, OVERLOADED)
    for at in range(story.rounds):
        while pair.limit.has_room:
            pair.enter(0)
        third = at * 3 // story.rounds
        times = story.thirds[third]
        while pair.under_way:
            time = times[len(pair.under_way) % len(times)]
            pair.leave(0, time * (stretched if third == 2 else 10**16), WELL)
    return pair


@pytest.mark.parametrize("off_by", [-1, 0, 1])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_what_is_longer_is_judged_by_the_last_bit(story: Story, off_by: int) -> None:
    """At the very length at which the model changes its mind: a float that differs in its last bit does so elsewhere."""

    def outcome(stretched: int) -> tuple[int, int]:
        end = told(story, stretched).model
        return end.limit, end.lowered

    low, high = 10**16, 10**17
    before = outcome(low)
    assert outcome(high) != before
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if outcome(middle) == before else (low, middle)
    told(story, high + off_by)


def test_a_limit_of_less_than_one_or_of_millions_is_refused() -> None:
    for highest in (0, -1, 1_000_001):
        with pytest.raises(ValueError, match=f"highest is {highest}, must be 1..1000000"):
            ConcurrencyLimit(highest)


def test_what_is_no_passage_and_no_sign_changes_nothing() -> None:
    limit = ConcurrencyLimit(8)
    passage = limit.enter(0)
    for sign in (-1, 3):
        with pytest.raises(ValueError, match=r"must be 0\.\.2"):
            limit.leave(passage, 1, sign)
    with pytest.raises(TypeError):
        limit.leave(None, 1, WELL)  # type: ignore[arg-type]
    assert limit.in_flight == 1
    limit.leave(passage, 1, WELL)
    with pytest.raises(AssertionError, match="more left than entered"):
        limit.leave(passage, 2, WELL)
    assert limit.in_flight == 0


def test_a_passage_is_not_to_be_changed() -> None:
    passage = ConcurrencyLimit(8).enter(5)
    for field in ("era", "number", "entered_ns", "is_probe", "is_retry"):
        with pytest.raises(AttributeError):
            setattr(passage, field, 1)

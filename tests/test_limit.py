"""The limit of requests under way: how it moves, and where it settles beside simulated servers."""

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.limit import DECREASE, ROUND_SAMPLES, START, ConcurrencyLimit, Passage
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.inbound.limit import Sign, partition

MS = NS_PER_MS
LOWERED = int(START * DECREASE)


def entered(limit: ConcurrencyLimit, count: int) -> list[Passage]:
    return [limit.enter(0) for _ in range(count)]


def succeed_fully_used(limit: ConcurrencyLimit, successes: int) -> None:
    """So many successes of 50 ms, with all of the limit in use at each."""
    under_way: list[Passage] = []
    now_ns = 0
    for _ in range(successes):
        while limit.has_room:
            under_way.append(limit.enter(now_ns))
        now_ns += 50 * MS // limit.limit
        limit.leave(under_way.pop(0), now_ns, Sign.WELL)
    for ticket in under_way:
        limit.leave(ticket, now_ns, Sign.NEITHER)


def test_starts_at_a_few_and_never_above_the_highest() -> None:
    assert ConcurrencyLimit(100).limit == START
    assert ConcurrencyLimit(2).limit == 2


def after_an_overload(highest: int) -> ConcurrencyLimit:
    """From here on growth is careful."""
    limit = ConcurrencyLimit(highest)
    limit.leave(limit.enter(0), MS, Sign.OVERLOADED)
    assert limit.limit == LOWERED
    return limit


def test_one_more_after_as_many_successes_as_the_limit() -> None:
    limit = after_an_overload(100)
    succeed_fully_used(limit, LOWERED - 1)
    assert limit.limit == LOWERED
    limit = after_an_overload(100)
    succeed_fully_used(limit, LOWERED)
    assert limit.limit == LOWERED + 1


def round_trips(limit: ConcurrencyLimit, latencies_ms: list[int]) -> list[int]:
    """All of the limit goes at once and is answered at once, again and again; the limit after each."""
    limits, now_ns = [], 0
    for latency_ms in latencies_ms:
        tickets = [limit.enter(now_ns) for _ in range(limit.limit)]
        now_ns += latency_ms * MS
        for ticket in tickets:
            limit.leave(ticket, now_ns, Sign.WELL)
        limits.append(limit.limit)
    return limits


def test_at_first_it_doubles_in_a_round_trip_and_then_grows_by_one() -> None:
    """A backend of two seconds gets forty at once after four of its answers, not after 36."""
    limit = ConcurrencyLimit(48)
    assert round_trips(limit, [2_000] * 5) == [8, 16, 32, 48, 48]
    for ticket in entered(limit, 48):
        limit.leave(ticket, MS, Sign.OVERLOADED)
    before = limit.limit
    assert round_trips(limit, [2_000] * 3) == [before + 1, before + 2, before + 3]


def test_the_doubling_ends_where_answers_take_longer_and_the_last_one_is_taken_back() -> None:
    """A server for eight: 16 at once take twice as long, which the first few of them tell."""
    limit = ConcurrencyLimit(128)
    assert round_trips(limit, [50, 50]) == [8, 16]
    (after,) = round_trips(limit, [100])
    assert 8 <= after <= (16 + 2 * ROUND_SAMPLES) // 2
    assert round_trips(limit, [75] * 3) == [after + 1, after + 2, after + 3]


def test_a_place_that_is_free_ends_no_doubling() -> None:
    limit = ConcurrencyLimit(100)
    limit.leave(limit.enter(0), 50 * MS, Sign.WELL)
    assert limit.limit == START
    assert round_trips(limit, [50]) == [2 * START]


def test_grows_to_the_highest_and_stays() -> None:
    limit = ConcurrencyLimit(16)
    succeed_fully_used(limit, sum(range(START, 16)))
    assert limit.limit == 16
    succeed_fully_used(limit, 200)
    assert limit.limit == 16


def test_does_not_grow_while_a_place_is_free() -> None:
    limit = ConcurrencyLimit(100)
    for _ in range(1_000):
        tickets = entered(limit, START - 1)
        for ticket in tickets:
            limit.leave(ticket, 50 * MS, Sign.WELL)
    assert limit.limit == START


def test_failures_of_one_round_trip_lower_it_once() -> None:
    limit = after_an_overload(100)
    succeed_fully_used(limit, sum(range(LOWERED, 20)))
    assert limit.limit == 20
    for ticket in entered(limit, 20):
        limit.leave(ticket, MS, Sign.OVERLOADED)
    assert (limit.limit, limit.lowered) == (int(20 * DECREASE), 2)


def test_a_failure_of_the_next_round_trip_lowers_it_again() -> None:
    limit = after_an_overload(100)
    succeed_fully_used(limit, sum(range(LOWERED, 20)))
    (first, second) = entered(limit, 2)
    limit.leave(first, MS, Sign.OVERLOADED)
    third = limit.enter(MS)
    limit.leave(second, MS, Sign.OVERLOADED)
    assert limit.limit == 14
    limit.leave(third, 2 * MS, Sign.OVERLOADED)
    assert limit.limit == 9


def test_a_success_from_before_the_decrease_does_not_raise_it() -> None:
    limit = ConcurrencyLimit(100)
    tickets = entered(limit, 3 * START)
    limit.leave(tickets.pop(), MS, Sign.OVERLOADED)
    lowered = limit.limit
    for ticket in tickets:
        limit.leave(ticket, MS, Sign.WELL)
    assert limit.limit == lowered


def test_it_never_falls_below_one() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(50):
        limit.leave(limit.enter(0), MS, Sign.OVERLOADED)
    assert limit.limit == 1
    assert limit.lowered == 2
    assert limit.has_room


def test_an_answer_that_says_nothing_of_the_load_changes_nothing() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(500):
        for ticket in entered(limit, START):
            limit.leave(ticket, MS, Sign.NEITHER)
    assert (limit.limit, limit.lowered) == (START, 0)


@settings(max_examples=200, deadline=None)
@given(
    highest=st.integers(1, 40),
    steps=st.lists(
        st.tuples(st.sampled_from(["enter", *Sign]), st.integers(0, 10**6), st.integers(1, 2 * NS_PER_S)),
        max_size=300,
    ),
)
def test_it_stays_within_its_bounds_and_moves_as_it_says(
    highest: int, steps: list[tuple[str | Sign, int, int]]
) -> None:
    """Up by one, down to 70 % (once to half), or back to where it was before that, whatever comes in whatever order."""
    limit = ConcurrencyLimit(highest)
    under_way: list[Passage] = []
    now_ns = 0
    before_decrease = limit.limit
    halved = 0
    for step, pick, passed_ns in steps:
        now_ns += passed_ns
        before = limit.limit
        if isinstance(step, Sign):
            if under_way:
                limit.leave(under_way.pop(pick % len(under_way)), now_ns, step)
        elif limit.has_room:
            under_way.append(limit.enter(now_ns))
        assert limit.in_flight == len(under_way)
        assert 1 <= limit.limit <= highest
        lower = max(1, int(before * DECREASE))
        half = max(1, before // 2)
        assert limit.limit in {before, before + 1, lower, half, before_decrease}
        if limit.limit == half < lower:
            halved += 1
            assert halved == 1
        if limit.limit != before:
            assert step in {Sign.WELL, Sign.OVERLOADED}
        if limit.limit < before:
            assert limit.limit in {lower, half}
            before_decrease = before


# -- beside a server

Noise = Callable[[random.Random], float]
"""How much work one request is, on average about one."""

NOISES: dict[str, Noise] = {
    "even": lambda _: 1.0,
    "exponential": lambda rng: rng.expovariate(1),
    "lognormal, sigma 0.5": lambda rng: rng.lognormvariate(0, 0.5),
    "lognormal, sigma 1": lambda rng: rng.lognormvariate(0, 1),
    "one in a hundred from a cache": lambda rng: 0.01 if rng.random() < 0.01 else 1.0,
    "one in a hundred takes a hundred times as long": lambda rng: 100.0 if rng.random() < 0.01 else 1.0,
}


class Played(NamedTuple):
    limits: list[int]
    """After each answer."""
    per_s: float
    lowered: int


def play(
    at_once: int,
    highest: int,
    noise: Noise,
    *,
    requests: int = 6_000,
    slower: float = 1.0,
    timeout_s: float = 1e9,
) -> Played:
    """A server that gives each request its whole speed up to `at_once`, and shares it beyond; work never ends.

    A request is 50 ms of work, and `slower` times that from half of them on. One that takes longer than `timeout_s`
    fails when it ends.
    """
    rng = random.Random(1)
    limit = ConcurrencyLimit(highest)
    now_s = 0.0
    under_way: list[tuple[float, float, Passage]] = []
    """(work left in seconds, entered, ticket)"""
    limits: list[int] = []
    for done in range(requests):
        while limit.has_room:
            work_s = 0.05 * noise(rng) * (slower if done >= requests // 2 else 1.0)
            under_way.append((work_s, now_s, limit.enter(round(now_s * NS_PER_S))))
        next_up = min(under_way, key=lambda item: item[0])
        share = min(1.0, at_once / len(under_way))
        now_s += next_up[0] / share
        under_way.remove(next_up)
        under_way = [(work - next_up[0], entered_s, ticket) for work, entered_s, ticket in under_way]
        sign = Sign.WELL if now_s - next_up[1] <= timeout_s else Sign.OVERLOADED
        limit.leave(next_up[2], round(now_s * NS_PER_S), sign)
        limits.append(limit.limit)
    return Played(limits, requests / now_s, limit.lowered)


def mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_a_server_that_is_never_full_gets_all_of_it(noise: Noise) -> None:
    """However much its times vary: chance alone must not lower the limit."""
    played = play(1_000, 32, noise)
    assert mean(played.limits[1_000:]) > 0.95 * 32


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("at_once", [8, 20])
def test_it_settles_near_what_a_server_does_at_once(at_once: int, noise: Noise) -> None:
    """Somewhere between that and twice that, where its highest is many times that."""
    played = play(at_once, 128, noise, requests=12_000)
    settled = played.limits[4_000:]
    assert 0.9 * at_once < mean(settled) < 2.4 * at_once
    assert max(settled) < 5 * at_once


@pytest.mark.parametrize("at_once", [8, 20])
def test_a_full_server_is_kept_busy(at_once: int) -> None:
    """More than 9 of 10 of what it can do gets done."""
    played = play(at_once, 128, NOISES["even"], requests=12_000)
    assert played.per_s > 0.9 * at_once / 0.05


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_a_server_that_is_slower_for_reasons_of_its_own_keeps_its_limit(noise: Noise) -> None:
    """Four times as slow whatever we do: it is tried once whether fewer help, and then is the usual."""
    played = play(1_000, 32, noise, slower=4)
    assert played.lowered >= 1
    assert mean(played.limits[4_500:]) > 0.95 * 32


def test_a_decrease_that_shortens_nothing_is_taken_back_at_once() -> None:
    played = play(1_000, 32, NOISES["even"], slower=4)
    limits = played.limits[2_000:]
    assert [limit for limit, before in zip(limits[1:], limits, strict=False) if limit != before] == [22, 32]


def test_a_server_that_answers_too_late_for_the_time_out_is_given_less() -> None:
    """The growing time alone would let sixteen queue at a server for eight: the time-out is shorter."""
    played = play(8, 128, NOISES["even"], timeout_s=0.07)
    assert max(played.limits[1_000:]) <= 12


# -- two webhooks on one server


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("http://bot/messages", "http://bot/events"),
        ("http://bot/messages", "http://bot:80/events"),
        ("https://bot:443/", "https://BOT/x?y"),
    ],
)
def test_on_one_server_events_have_a_quarter_and_messages_the_rest(message: str, event: str) -> None:
    assert partition(16, message, event) == (12, 4)


@pytest.mark.parametrize(
    "event", ["https://bot/", "http://bot:8080/", "http://events.bot/", "http://127.0.0.1/"]
)
def test_another_scheme_host_or_port_is_another_server(event: str) -> None:
    assert partition(16, "http://bot/", event) == (16, 16)


@pytest.mark.parametrize(
    ("total", "parts"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 1)), (7, (6, 1)), (8, (6, 2))]
)
def test_each_gets_at_least_one(total: int, parts: tuple[int, int]) -> None:
    assert partition(total, "http://bot/", "http://bot/") == parts

"""Whether a request may go now: breaker, limit and rate, each alone and together; and the headers it goes with."""

import asyncio
import random
from collections.abc import Callable

import pytest
from builders import by_name, inbound, turns
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtual, virtual_loop

from gateway._fast.breaker import FAILURES_TO_OPEN, Breaker
from gateway._fast.bucket import NEVER_NS
from gateway._fast.gate import SUSPECTS
from gateway._fast.limit import START, ConcurrencyLimit, Passage
from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock
from gateway.inbound.gate import Gate
from gateway.inbound.limit import Sign
from gateway.inbound.rate import SAVED_NS, WINDOW_NS, BackendRate
from gateway.inbound.stamps import rfc3339, stamps
from gateway.inbound.turnstile import Turnstile


def gate(
    highest: int = START,
    clock: FakeClock | None = None,
    rate: BackendRate | None = None,
    yields_to: Callable[[int], bool] = lambda _: False,
    *,
    is_dry_run: bool = False,
) -> Gate:
    breaker = Breaker(100, 2_000, random.Random(1))
    return Gate(
        breaker, ConcurrencyLimit(highest), clock or FakeClock(), rate, yields_to, is_dry_run=is_dry_run
    )


def fail(of: Gate, passage: Passage, now_ns: int = 0, *, shows_trouble: bool = True) -> bool:
    return of.fail(passage, now_ns, Sign.OVERLOADED, 0, shows_trouble=shows_trouble)


# -- the limit and the breaker


def test_as_many_go_as_the_limit_and_another_when_one_has_ended() -> None:
    g = gate(3)
    passages = [g.enter(0, is_retry=False) for _ in range(3)]
    assert g.opens_at_ns(0) == NEVER_NS
    with pytest.raises(AssertionError):
        g.enter(0, is_retry=False)
    g.succeed(passages[0], 0)
    assert g.opens_at_ns(0) == 0


def test_failures_open_the_breaker_and_its_probe_goes_at_the_time_it_names() -> None:
    g = gate(8)
    passages = [g.enter(0, is_retry=False) for _ in range(FAILURES_TO_OPEN)]
    assert [fail(g, passage) for passage in passages] == [False, False, True]
    probe_ns = g.breaker.passes_at_ns()
    assert probe_ns is not None
    assert g.opens_at_ns(0) == probe_ns > 0
    probe = g.enter(probe_ns, is_retry=False)
    assert probe.is_probe
    assert g.opens_at_ns(probe_ns) == NEVER_NS
    assert g.succeed(probe, probe_ns)
    assert g.opens_at_ns(probe_ns) == probe_ns


def test_a_probe_that_fails_does_not_lower_the_limit() -> None:
    g = gate(8)
    for passage in [g.enter(0, is_retry=False) for _ in range(FAILURES_TO_OPEN)]:
        fail(g, passage)
    lowered = g.limit.limit
    assert lowered < START
    for _ in range(20):
        now_ns = g.breaker.passes_at_ns() or 0
        fail(g, g.enter(now_ns, is_retry=False), now_ns)
    assert g.limit.limit == lowered


def test_a_record_that_fails_again_and_again_lowers_nothing_and_opens_nothing() -> None:
    """It may be the trouble itself: a message on which the bot always times out must not cost the others."""
    g = gate(8)
    for attempt in range(50):
        assert not fail(g, g.enter(0, is_retry=True), shows_trouble=False)
        if attempt % SUSPECTS == 0:
            g.succeed(g.enter(0, is_retry=False), 0)  # others get through
    assert (g.limit.limit, g.breaker.state) == (START, "closed")


def test_when_nobody_gets_through_any_more_it_is_not_the_records() -> None:
    g = gate(8)
    opened = [
        fail(g, g.enter(0, is_retry=True), shows_trouble=False) for _ in range(SUSPECTS + FAILURES_TO_OPEN)
    ]
    assert opened == [False] * (SUSPECTS + FAILURES_TO_OPEN - 1) + [True]


def test_in_a_dry_run_all_places_are_given_and_what_would_have_waited_is_counted() -> None:
    g = gate(10, is_dry_run=True)
    for _ in range(10):
        assert g.opens_at_ns(0) == 0
        g.enter(0, is_retry=False)
    assert g.would_have == 10 - START
    assert g.opens_at_ns(0) == NEVER_NS  # the highest is no limiter but the number of places
    assert g.limit.limit == START


# -- first attempts and retries


def test_retries_go_first_until_they_hold_half_of_the_places() -> None:
    g = gate()
    assert START == 4
    first = g.enter(0, is_retry=True)
    assert (g.prefers_fresh, g.has_room_for_retry) == (False, True)
    g.enter(0, is_retry=True)
    assert (g.prefers_fresh, g.has_room_for_retry) == (True, False)
    g.enter(0, is_retry=False)
    assert (g.prefers_fresh, g.has_room_for_retry) == (True, False)
    g.succeed(first, 0)
    assert (g.prefers_fresh, g.has_room_for_retry) == (False, True)


def test_with_one_place_they_take_turns() -> None:
    g = gate(1)
    turns_taken = []
    for _ in range(6):
        is_retry = not g.prefers_fresh
        g.succeed(g.enter(0, is_retry=is_retry), 0)
        turns_taken.append(is_retry)
    assert turns_taken == [True, False] * 3


def test_a_probe_is_a_fresh_one_if_there_is_one() -> None:
    g = gate()
    for passage in [g.enter(0, is_retry=False) for _ in range(FAILURES_TO_OPEN)]:
        fail(g, passage)
    assert g.prefers_fresh


# -- the rate


@settings(max_examples=200, deadline=None)
@given(
    tps=st.integers(1, 3_000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 300 * NS_PER_MS)), min_size=1, max_size=300),
)
def test_no_window_has_more_than_the_rate_wherever_it_begins(tps: int, steps: list[tuple[bool, int]]) -> None:
    """Whoever comes takes as soon as he may (or late), as often as he may."""
    rate = BackendRate(tps, 0)
    now_ns = 0
    went: list[int] = []
    for is_eager, late_ns in steps:
        now_ns = rate.opens_at_ns(now_ns) + (0 if is_eager else late_ns)
        assert rate.opens_at_ns(now_ns) == now_ns
        while rate.opens_at_ns(now_ns) == now_ns:
            rate.enter(now_ns)
            went.append(now_ns)
    for index, first_ns in enumerate(went):
        assert sum(at_ns < first_ns + WINDOW_NS for at_ns in went[index : index + tps + 1]) <= tps


@settings(max_examples=100, deadline=None)
@given(tps=st.integers(1, 2_000), seed=st.integers(0, 1_000))
def test_with_work_waiting_the_rate_is_used_although_wake_ups_are_late(tps: int, seed: int) -> None:
    rng = random.Random(seed)
    rate = BackendRate(tps, 0)
    went, now_ns, last_ns = 0, 0, 20 * NS_PER_S
    while now_ns < last_ns:
        now_ns = rate.opens_at_ns(now_ns) + rng.randint(0, SAVED_NS)
        while rate.opens_at_ns(now_ns) == now_ns:
            rate.enter(now_ns)
            went += 1
    assert went >= 0.99 * tps * 20 - 1


def test_the_rate_opens_at_its_nanosecond_and_not_before() -> None:
    rate = BackendRate(10, 0)
    opens_ns = rate.opens_at_ns(0)
    assert opens_ns == (WINDOW_NS + SAVED_NS) // 10
    with pytest.raises(AssertionError):
        rate.enter(opens_ns - 1)
    rate.enter(opens_ns)


def test_a_dry_run_of_the_rate_lets_all_pass_and_counts_those_beyond_it() -> None:
    rate = BackendRate(10, 0, is_dry_run=True)
    for n in range(200):
        now_ns = NS_PER_S + n * 10 * NS_PER_MS  # a hundred a second, for two seconds
        assert rate.opens_at_ns(now_ns) == now_ns
        rate.enter(now_ns)
    assert 178 <= rate.would_have <= 181


def test_who_yields_waits_for_the_token_after_the_next() -> None:
    rate = BackendRate(10, 0)
    wanted = True
    events = gate(rate=rate, yields_to=lambda _: wanted)
    messages = gate(rate=rate)
    now_ns = messages.opens_at_ns(NS_PER_S)
    assert now_ns == NS_PER_S
    assert events.opens_at_ns(now_ns) > now_ns
    messages.enter(now_ns, is_retry=False)
    wanted = False
    next_ns = events.opens_at_ns(now_ns)
    assert next_ns == messages.opens_at_ns(now_ns) > now_ns
    events.enter(next_ns, is_retry=False)


def test_only_who_lacks_nothing_else_needs_a_token() -> None:
    assert not gate(1).needs_token(0)  # there is no rate
    g = gate(1, rate=BackendRate(10, 0))
    assert g.needs_token(0)
    passage = g.enter(g.opens_at_ns(0), is_retry=False)
    assert not g.needs_token(NS_PER_S)
    g.succeed(passage, NS_PER_S)
    for _ in range(FAILURES_TO_OPEN):
        g.breaker.fail(NS_PER_S)
    assert not g.needs_token(NS_PER_S)


# -- waiting


async def test_those_who_wait_go_one_by_one_and_only_while_there_is_room() -> None:
    g = gate(2)
    passages = [g.enter(0, is_retry=False) for _ in range(2)]
    went: list[int] = []

    async def come(number: int) -> None:
        while g.opens_at_ns(0) > 0:
            await g.wait()
        passages.append(g.enter(0, is_retry=False))
        went.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(4)]
    await turns()
    assert went == []
    g.succeed(passages.pop(), 0)
    await turns()
    assert went == [0]
    g.succeed(passages.pop(), 0)
    g.succeed(passages.pop(), 0)
    await turns()
    assert went == [0, 1, 2]
    g.let_all()  # they look, and wait again
    await turns()
    assert went == [0, 1, 2]
    g.succeed(passages.pop(), 0)
    await asyncio.gather(*tasks)


async def test_the_turnstile_is_asked_only_while_someone_waits() -> None:
    g = gate(1)
    looks: list[int] = []
    look = g._turnstile.look

    def looked() -> None:
        looks.append(len(g._turnstile))
        look()

    g._turnstile.look = looked  # type: ignore[method-assign]
    g.succeed(g.enter(0, is_retry=False), 0)
    assert looks == []
    passage = g.enter(0, is_retry=False)
    waits = asyncio.create_task(g.wait())
    await turns()
    assert looks == [1]  # it has come
    g.succeed(passage, 0)
    await waits
    await turns()
    assert looks == [1, 1, 0]  # the place it waited for; and after it the timer
    for _ in range(3):
        g.succeed(g.enter(0, is_retry=False), 0)
    assert looks == [1, 1, 0, 0]  # nobody waits any more


async def test_a_turn_that_is_cancelled_goes_to_the_next() -> None:
    clock = FakeClock()
    opens_at_ns = NEVER_NS
    turnstile = Turnstile(lambda _: opens_at_ns, clock)
    first, second = (asyncio.create_task(turnstile.wait()) for _ in range(2))
    await turns()
    opens_at_ns = 0
    turnstile.look()
    opens_at_ns = NEVER_NS
    first.cancel()  # he has been let through, and has not gone yet
    opens_at_ns = 0
    await second
    assert first.cancelled()
    assert len(turnstile) == 0


async def test_who_is_cancelled_while_he_waits_holds_up_nobody() -> None:
    opens_at_ns = NEVER_NS
    turnstile = Turnstile(lambda _: opens_at_ns, FakeClock())
    first, second = (asyncio.create_task(turnstile.wait()) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    opens_at_ns = 0
    turnstile.look()
    await second


def test_one_timer_wakes_one_and_nobody_waiting_means_no_timer() -> None:
    async def main() -> None:
        loop = virtual_loop()
        started_ns = loop.now_ns()
        opens_at_ns = started_ns + 30_500_000
        turnstile = Turnstile(lambda _: opens_at_ns, loop)
        woken_ns: list[int] = []

        async def come() -> None:
            nonlocal opens_at_ns
            await turnstile.wait()
            woken_ns.append(loop.now_ns() - started_ns)
            opens_at_ns += 10 * NS_PER_S

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(come())
        # To the whole millisecond above, one every ten seconds.
        assert [ns // NS_PER_MS for ns in woken_ns] == [31, 10_031, 20_031]
        assert loop.virtual.jumps <= 3

    run_virtual(main())


# -- headers


def test_a_forward_says_when_it_came_how_long_it_waited_and_which_attempt_it_is() -> None:
    record = inbound(received_ms=1_700_000_000_007)
    record.attempts = 2
    assert by_name(stamps([record], 1_700_000_001_500)) == {
        "X-Gateway-Received": "2023-11-14T22:13:20.007Z",
        "X-Gateway-Age": "1493",
        "X-Gateway-Attempt": "3",
    }


def test_of_several_the_oldest_counts() -> None:
    old, new = inbound(1, received_ms=1_000), inbound(2, received_ms=2_000)
    new.attempts = 4
    said = by_name(stamps([new, old], 5_000))
    assert (said["X-Gateway-Age"], said["X-Gateway-Attempt"]) == ("4000", "5")
    assert said["X-Gateway-Received"] == rfc3339(1_000)


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    assert by_name(stamps([inbound(received_ms=5_000)], 1_000))["X-Gateway-Age"] == "0"

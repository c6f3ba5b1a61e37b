"""The native connections and their pool, where they are not the whole client: clock, bounds, and what is to be overridden."""

import asyncio
import time

import pytest

from gateway._fast.connection import BaseConnection, BasePool
from gateway._fast.exchange import Exchange
from gateway.clock import FakeClock, SystemClock
from gateway.http.client import HttpClient
from gateway.http.pool import IDLE_NS

SPAN_NS_MAX = 10**18


def pool_of(client: HttpClient) -> BasePool:
    return client.endpoint("POST", "http://backend.test/", {}).pool


@pytest.mark.parametrize("clock", [None, SystemClock()])
async def test_the_systems_clock_is_that_of_the_rest(clock: SystemClock | None) -> None:
    pool = pool_of(HttpClient(1000, 1, None, clock=clock))  # type: ignore[arg-type]  # no TLS is looked at
    before_ns = time.monotonic_ns()
    now_ns = pool.now_ns()
    assert before_ns <= now_ns <= time.monotonic_ns()


async def test_any_other_clock_is_asked() -> None:
    pool = pool_of(HttpClient(1000, 1, None, clock=FakeClock(now_ns=42)))  # type: ignore[arg-type]  # no TLS is looked at
    assert pool.now_ns() == 42
    with pytest.raises(TypeError):
        BasePool(1, IDLE_NS, None, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_times_out_of_range_are_refused() -> None:
    loop = asyncio.get_running_loop()
    for timeout_ns, idle_ns in [(-1, 0), (0, -1), (SPAN_NS_MAX + 1, 0), (0, SPAN_NS_MAX + 1)]:
        with pytest.raises(ValueError, match=r"must be 0\.\.1000000000000000000"):
            BasePool(timeout_ns, idle_ns, time.monotonic_ns, loop)
    BasePool(SPAN_NS_MAX, SPAN_NS_MAX, time.monotonic_ns, loop)


async def test_what_is_rare_is_for_others_to_do() -> None:
    pool = BasePool(1, IDLE_NS, time.monotonic_ns, asyncio.get_running_loop())
    connection = BaseConnection(pool)
    with pytest.raises(NotImplementedError):
        pool.find_place(Exchange())
    with pytest.raises(NotImplementedError):
        pool.forget(connection)
    with pytest.raises(NotImplementedError):
        pool.look_at_deadlines(0)
    with pytest.raises(NotImplementedError):
        connection.new_reader(False)


class Alarmed(BasePool):
    """Notes when it looks."""

    def look_at_deadlines(self, now_ns: int) -> None:
        looks.append(now_ns)


looks: list[int] = []


async def test_an_alarm_is_moved_to_what_is_earlier_and_never_later() -> None:
    class Loop:
        """Notes what is to be called."""

        def __init__(self) -> None:
            self.calls: list[tuple[float, object]] = []
            self.cancelled = 0

        def call_later(self, delay_s: float, call: object) -> "Loop":
            self.calls.append((delay_s, call))
            return self

        def cancel(self) -> None:
            self.cancelled += 1

    loop, clock = Loop(), FakeClock(now_ns=10**9)
    looks.clear()
    pool = Alarmed(1, 1, clock.now_ns, loop)  # type: ignore[arg-type]  # of a loop, what it uses
    pool.arm(5 * 10**9)
    pool.arm(5 * 10**9)
    pool.arm(6 * 10**9)
    assert ([delay_s for delay_s, _ in loop.calls], loop.cancelled) == ([4.0], 0)
    pool.arm(2 * 10**9)
    pool.arm(0)  # late already
    assert ([delay_s for delay_s, _ in loop.calls], loop.cancelled) == ([4.0, 1.0, 0.0], 2)
    ring = loop.calls[-1][1]
    assert callable(ring)
    ring()
    pool.arm(9 * 10**9)
    assert (looks, loop.calls[-1][0], loop.cancelled) == ([10**9], 8.0, 2)


def test_nothing_is_taken_for_a_connection_or_a_request() -> None:
    with pytest.raises(TypeError):
        BaseConnection(None)  # type: ignore[arg-type]  # what is refused

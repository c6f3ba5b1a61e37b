"""The deadline timer fires once, not before its time, and gives its descriptor back.

These are the few tests that wait for the real clock: for milliseconds, with seconds to spare.
"""

import asyncio
import errno
import fcntl
import os
import select
import time
from collections.abc import Iterator

import pytest

from gateway._fast.timer import DeadlineTimer

MS = 1_000_000
PATIENCE_S = 10.0


@pytest.fixture
def timer() -> Iterator[DeadlineTimer]:
    made = DeadlineTimer()
    yield made
    made.close()


def is_readable(timer: DeadlineTimer, patience_s: float = 0.0) -> bool:
    return bool(select.select([timer], [], [], patience_s)[0])


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_is_silent_until_armed(timer: DeadlineTimer) -> None:
    assert not is_readable(timer)
    assert timer.acknowledge() == 0


def test_fires_once_and_not_before_its_time(timer: DeadlineTimer) -> None:
    deadline_ns = time.monotonic_ns() + 5 * MS
    timer.arm_at_ns(deadline_ns)
    assert is_readable(timer, PATIENCE_S)
    assert time.monotonic_ns() >= deadline_ns
    assert timer.acknowledge() == 1
    assert timer.acknowledge() == 0
    assert not is_readable(timer)


@pytest.mark.parametrize("deadline_ns", [-(2**63), -1, 0, 1])
def test_a_past_deadline_fires_at_once(timer: DeadlineTimer, deadline_ns: int) -> None:
    timer.arm_at_ns(deadline_ns)
    assert is_readable(timer, PATIENCE_S)
    assert timer.acknowledge() == 1


def test_the_furthest_deadline_does_not_fire(timer: DeadlineTimer) -> None:
    """`NEVER_NS` is a deadline like any other."""
    timer.arm_at_ns(2**63 - 1)
    assert not is_readable(timer)


def test_arming_again_replaces_the_deadline(timer: DeadlineTimer) -> None:
    timer.arm_at_ns(2**62)
    timer.arm_at_ns(1)
    assert is_readable(timer, PATIENCE_S)
    timer.arm_at_ns(2**62)
    assert not is_readable(timer)
    assert timer.acknowledge() == 0


def test_a_disarmed_timer_forgets_that_it_fired(timer: DeadlineTimer) -> None:
    timer.arm_at_ns(1)
    assert is_readable(timer, PATIENCE_S)
    timer.disarm()
    assert not is_readable(timer)
    assert timer.acknowledge() == 0


def test_the_descriptor_blocks_nobody_and_is_not_inherited(timer: DeadlineTimer) -> None:
    assert not os.get_blocking(timer.fileno())
    assert fcntl.fcntl(timer.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_close_gives_the_descriptor_back_and_may_be_repeated() -> None:
    timer = DeadlineTimer()
    fd = timer.fileno()
    assert is_open(fd)
    timer.close()
    assert not is_open(fd)
    assert timer.fileno() == -1
    timer.close()


def test_a_dropped_timer_gives_its_descriptor_back() -> None:
    timer = DeadlineTimer()
    fd = timer.fileno()
    del timer
    assert not is_open(fd)


def test_a_closed_timer_raises_with_errno() -> None:
    timer = DeadlineTimer()
    timer.close()
    for method in (lambda: timer.arm_at_ns(1), timer.disarm, timer.acknowledge):
        with pytest.raises(OSError) as raised:
            method()
        assert raised.value.errno == errno.EBADF


def test_a_close_that_fails_raises_once() -> None:
    timer = DeadlineTimer()
    os.close(timer.fileno())
    with pytest.raises(OSError) as raised:
        timer.close()
    assert raised.value.errno == errno.EBADF
    timer.close()


def test_none_is_refused_not_followed(timer: DeadlineTimer) -> None:
    with pytest.raises(TypeError):
        timer.arm_at_ns(None)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        timer.arm_at_ns(2**63)


async def test_wakes_an_event_loop(timer: DeadlineTimer) -> None:
    loop = asyncio.get_running_loop()
    fired = asyncio.Event()
    loop.add_reader(timer, fired.set)
    try:
        timer.arm_at_ns(time.monotonic_ns() + MS)
        async with asyncio.timeout(PATIENCE_S):
            await fired.wait()
        assert timer.acknowledge() == 1
    finally:
        loop.remove_reader(timer)

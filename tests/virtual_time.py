"""An event loop whose time jumps to the next timer when nothing is left to do: hours pass in milliseconds, exactly."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.clock import NS_PER_MS, NS_PER_S

T = TypeVar("T")

START_NS = 1_000 * NS_PER_S
WALL_START_MS = 1_700_000_000_000


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: the time it should have waited has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START_NS
        self.jumps = 0
        """Times the loop slept: its wake-ups by timers."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everyone waits, and no timer will wake them"
            if timeout > 0:
                self.now_ns += max(1, round(timeout * NS_PER_S))
                self.jumps += 1
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop, which is also the `Clock` of what runs on it."""

    def __init__(self) -> None:
        self.virtual = _JumpingSelector()
        self.wall_set_ms = 0
        """How far the wall clock has been set forward since the start."""
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now_ns / NS_PER_S

    def now_ns(self) -> int:
        return self.virtual.now_ns

    def wall_ms(self) -> int:
        return WALL_START_MS + self.wall_set_ms + (self.virtual.now_ns - START_NS) // NS_PER_MS


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a `VirtualLoop` of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The loop we run on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop

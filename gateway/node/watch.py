"""What the node says of itself while we send: its callback queue, which closes the loop of the budget.

The queue holds what the node has for us and could not deliver. It grows when our webhook is slow or the plan is
smaller than we think, and at 100,000 sending fails. While it holds more than some seconds of the plan, each look lowers
the ceiling. Looked at only while sends go out: an idle gateway asks nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

INTERVAL_S: Final = 5.0
"""Between two looks. Each is one request of the 20 a second that the node allows besides messages."""
QUEUE_S: Final = 5
"""Seconds of the plan that may wait at the node, as much as the fan-out window lets be outstanding."""


class Stats(Protocol):
    """The node as this watch sees it."""

    async def callback_queue(self) -> int | None:
        """Callbacks waiting at the node; None when it does not say. Never raises but on cancellation."""


class NodeWatch:
    """One long-lived task; `sent` starts a look."""

    def __init__(self, node: Stats, tps: Callable[[], int], slow_down: Callable[[], None]) -> None:
        """`tps` is the plan of now; `slow_down` is called for each look that finds too much waiting."""
        self._node = node
        self._tps = tps
        self._slow_down = slow_down
        self._sent = asyncio.Event()
        self.callback_queue: int | None = None
        """As of the last look; None before the first answer."""

    def sent(self) -> None:
        """The node took a send: look in a while."""
        self._sent.set()

    async def work(self) -> None:
        """Look for ever, `INTERVAL_S` after sends went out."""
        while True:
            await self._sent.wait()
            await asyncio.sleep(INTERVAL_S)
            self._sent.clear()
            await self.look()

    async def look(self) -> None:
        """Ask once, and lower the ceiling if too much waits."""
        size = await self._node.callback_queue()
        if size is None:
            return
        self.callback_queue = size
        if size > self._tps() * QUEUE_S:
            self._slow_down()

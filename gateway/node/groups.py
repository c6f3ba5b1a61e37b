"""Asks the node how many members a group has, one group at a time, when somebody wants to know."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import NodeError

log = logging.getLogger(__name__)


class Sizes(Protocol):
    """Who wants to know."""

    def next_wanted(self) -> str | None:
        """A group to ask for, once; None: there is none."""

    def told(self, group_id: str, members: int | None, now_ns: int) -> None:
        """The answer; None: there was none."""


class Groups(Protocol):
    """Who can be asked."""

    async def group_members(self, group_id: str) -> int | None:
        """Members without ourselves; None when the node does not say. Raises NodeError when no answer came."""


class GroupAsker:
    """One long-lived task. One question at a time: a node in trouble is not asked by many at once."""

    def __init__(self, node: Groups, sizes: Sizes, on_told: Callable[[], None], clock: Clock) -> None:
        """`on_told` is called after each answer."""
        self._node = node
        self._sizes = sizes
        self._on_told = on_told
        self._clock = clock
        self._wanted = asyncio.Event()
        self.failures = 0

    def wake(self) -> None:
        """There is something to ask for."""
        self._wanted.set()

    async def work(self) -> None:
        """Ask, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while (group_id := self._sizes.next_wanted()) is not None:
                members = await self._ask(group_id)
                self._sizes.told(group_id, members, self._clock.now_ns())
                self._on_told()

    async def _ask(self, group_id: str) -> int | None:
        try:
            members = await self._node.group_members(group_id)
        except NodeError as error:
            members = None
            log.info("no answer about a group", extra={"error": str(error)})
        if members is None:
            self.failures += 1
        return members

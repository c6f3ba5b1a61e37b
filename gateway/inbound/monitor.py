"""Looks at the pressure ten times a second while there is something to look at, and never when idle.

Whoever brings work calls `wake`. The monitor sleeps again once nothing waits and the ladder has stood still for a while;
on a rung it looks now and then all the same: what presses may go without a webhook, as when the disk is cleaned up, and
the next receipt must not be shed for what was.
What is shed is told here too: one line a class and second at most, with the number.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.inbound.admit import Gatekeeper, Reason
from gateway.overload.ladder import Ladder, ReceiptClass
from gateway.overload.pressure import INTERVAL_NS, Pressure, Sample

log = logging.getLogger(__name__)

QUIET_LOOKS: Final = 30
"""Looks without change before sleep: longer than the ladder takes for a step down."""

PRESSED_SLEEP_S: Final = 10.0
"""Longest sleep on a rung."""

_TOLD: Final = (Reason.OVERLOAD, Reason.AGE)
"""What the operator did not ask for; masks and policies do as they were told."""


class Monitor:
    """Feeds the pressure and moves the ladder."""

    def __init__(
        self,
        pressure: Pressure,
        gatekeeper: Gatekeeper,
        look: Callable[[float], Sample],
        has_work: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`look` makes a sample, given the loop's lag in ms; `has_work` says whether anything waits."""
        self.pressure = pressure
        self._gatekeeper = gatekeeper
        self._ladder: Ladder = gatekeeper.ladder
        self._look = look
        self._has_work = has_work
        self._clock = clock
        self._awake = asyncio.Event()
        self._quiet = 0
        self._late_ms = 0.0
        """How late the last look was."""
        self._told: dict[tuple[ReceiptClass | None, Reason], int] = {}
        self._told_ns = clock.now_ns()
        self.on_look: Callable[[float, int], None] = lambda _pressure, _now_ns: None
        """Called with the pressure and the time after each look."""

    def wake(self) -> None:
        """There is work: look. Cheap, so that each webhook may say so."""
        if self._quiet:
            self._quiet = 0
            self._awake.set()

    async def work(self) -> None:
        """Look, until cancelled."""
        self._quiet = 1  # what a start finds on disk is work that no webhook brings
        while True:
            if self._quiet >= QUIET_LOOKS:
                await self._sleep()
            due_ns = self._clock.now_ns() + INTERVAL_NS
            await asyncio.sleep(INTERVAL_NS / NS_PER_S)
            now_ns = self._clock.now_ns()
            self.look((now_ns - due_ns) / NS_PER_MS, now_ns)

    async def _sleep(self) -> None:
        self._awake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._ladder.is_at_rest else PRESSED_SLEEP_S):
                await self._awake.wait()

    def look(self, late_ms: float, now_ns: int) -> None:
        """One look, `late_ms` later than it was meant to be."""
        before = self._ladder.rung
        # The least of two looks in a row, as with other waits: one that came late by itself was a hiccup, and is over.
        lag_ms, self._late_ms = min(late_ms, self._late_ms), late_ms
        figure = self.pressure.feed(self._look(lag_ms))
        if self._ladder.update(figure, now_ns):
            self._tell_rung(before.label, figure)
        self.on_look(figure, now_ns)
        self._tell_shed(now_ns)
        is_quiet = self._ladder.rung is before and not self._has_work()
        self._quiet = self._quiet + 1 if is_quiet else 1

    def _tell_rung(self, before: str, figure: float) -> None:
        cause = self.pressure.main_cause
        log.info(
            "receipts give way" if self._ladder.rung else "receipts pass again",
            extra={
                "rung": self._ladder.rung.label,
                "before": before,
                "pressure": round(figure, 3),
                "cause": cause.value if cause else "",
            },
        )

    def _tell_shed(self, now_ns: int) -> None:
        if now_ns - self._told_ns < NS_PER_S:
            return
        self._told_ns = now_ns
        for (cls, reason), count in self._gatekeeper.dropped.items():
            new = count - self._told.get((cls, reason), 0)
            if reason in _TOLD and new:
                self._told[cls, reason] = count
                label = cls.label if cls is not None else "other"
                log.warning("receipts shed", extra={"class": label, "reason": reason.value, "count": new})

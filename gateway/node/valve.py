"""The outermost valve: while the gateway is overrun, the node makes no delivered and read receipts.

Everything nearer to us has been tried by then. The node's owner has switched this on (GATEWAY_NODE_RECEIPT_VALVE),
because those receipts are lost to the customer. So what was switched off is on disk before the node is told, and is
switched on again by whoever runs next: after kill -9, and with the valve disabled too. A crash between disk and node
costs a request that changes nothing.

`valve_rule.py` says when, `switches.py` how; here is what happens in between. Idle it waits for an event; closed it has
one timer, for the moment when it would open.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.errors import NodeError, StoreError
from gateway.node.switches import ReceiptSwitches, Refused
from gateway.node.valve_rule import REST_NS, ValveRule

log = logging.getLogger(__name__)

NOTE: Final = "receipt_valve"
"""Name of the store's note: what is switched off, empty when nothing is."""
RETRY_MIN_NS: Final = 1 * NS_PER_S
RETRY_MAX_NS: Final = 60 * NS_PER_S


class _Off(msgspec.Struct, frozen=True):
    """What we switched off, or were about to."""

    since_ms: int
    names: list[str]


class ReceiptValve:
    """One long-lived task, `work`. Only receipts that were on are switched off, and only those on again."""

    def __init__(
        self,
        switches: ReceiptSwitches,
        note: bytes,
        keep: Callable[[bytes], Awaitable[None]],
        clock: Clock,
        *,
        is_enabled: bool,
    ) -> None:
        """`note` is what `keep` was last given, by any process; what `keep` returns is done when it is on disk.

        Disabled, it restores what a process before it had switched off, at once, and does nothing else.
        """
        self._switches = switches
        self._keep = keep
        self._clock = clock
        self._may_close = is_enabled
        self._off = msgspec.json.decode(note, type=_Off) if note else None
        # The note of a process that ended before it told the node is taken as done: it opens all the same.
        self._is_off = self._off is not None
        closed_for_ns = None if self._off is None else (clock.wall_ms() - self._off.since_ms) * NS_PER_MS
        self._rule = ValveRule(clock.now_ns(), closed_for_ns=closed_for_ns)
        self._is_due = asyncio.Event()
        self._retry_ns = clock.now_ns()
        self._failures = 0
        self._told: set[str] = set()
        self.changes = {"off": 0, "on": 0}
        """Times the node's receipts were switched, since the start."""

    @property
    def is_closed(self) -> bool:
        """Whether receipts are switched off at the node by us, or may be."""
        return self._off is not None

    @property
    def since_ms(self) -> int | None:
        """Since when (wall clock); None while it is open."""
        return None if self._off is None else self._off.since_ms

    def note(self, pressure: float, now_ns: int) -> None:
        """`pressure` in [0, 1] as of now: to be told every 100 ms or so while there is load. About 1 µs."""
        if not self._may_close:
            return
        self._rule.tell(pressure, now_ns)
        if self._rule.is_due(now_ns):
            self._is_due.set()

    async def work(self) -> None:
        """Close and open, for ever; until the store fails, which ends the process."""
        with contextlib.suppress(StoreError):
            while True:
                self._is_due.clear()
                await self.act()
                wait_ns = self.wait_ns()
                # Rounded up: a timer that is early would only come again.
                timeout_s = None if wait_ns is None else (wait_ns // NS_PER_MS + 1) / 1000
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._is_due.wait()

    def wait_ns(self) -> int | None:
        """Until `act` has something to do if nothing more is told; None: nothing."""
        at_ns = self._retry_ns if self._is_pending() else self._rule.opens_ns() if self._may_close else None
        return None if at_ns is None else max(0, at_ns - self._clock.now_ns())

    async def act(self) -> None:
        """Do what is due now, if anything. Raises StoreError when the store failed: then the node is not told."""
        now_ns = self._clock.now_ns()
        self._rule.try_change(now_ns)
        if now_ns < self._retry_ns or not self._is_pending():
            return
        try:
            refused = await (self._close() if self._wants_closed else self._open())
        except NodeError as error:
            self._retry_after(min(RETRY_MIN_NS << min(self._failures, 10), RETRY_MAX_NS))
            self._failures += 1
            log.warning("the node did not switch its receipts, again later", extra={"error": str(error)})
            return
        self._failures = 0
        if refused is not None:
            self._give_up(refused)

    @property
    def _wants_closed(self) -> bool:
        return self._rule.is_closed and self._may_close

    def _is_pending(self) -> bool:
        """Whether the node is not, or may not be, as it should."""
        return not self._is_off if self._wants_closed else self._off is not None

    async def _close(self) -> Refused | None:
        webhooks = await self._switches.read()
        if isinstance(webhooks, Refused):
            return webhooks
        if self._off is None:
            names = webhooks.on()
            if not names:
                # Somebody else has switched them off: nothing to do, and nothing of ours to restore.
                self._retry_after(REST_NS)
                return None
            await self._remember(_Off(self._clock.wall_ms(), names))
        assert self._off is not None
        refused = await self._switches.write(webhooks, self._off.names, is_on=False)
        if refused is None:
            self._is_off = True
            self._took_effect("off")
            log.warning("overrun: receipts switched off at the node", extra={"receipts": self._off.names})
        return refused

    async def _open(self) -> Refused | None:
        assert self._off is not None
        webhooks = await self._switches.read()
        if isinstance(webhooks, Refused):
            return webhooks
        names = [name for name in self._off.names if name not in webhooks.on()]
        if names:
            refused = await self._switches.write(webhooks, names, is_on=True)
            if refused is not None:
                return refused
            closed_ms = max(0, self._clock.wall_ms() - self._off.since_ms)
            log.info(
                "receipts switched on again at the node",
                extra={"receipts": names, "closed_s": closed_ms // 1000},
            )
            self._took_effect("on")
        self._is_off = False
        await self._remember(None)
        return None

    async def _remember(self, off: _Off | None) -> None:
        await self._keep(b"" if off is None else msgspec.json.encode(off))
        self._off = off

    def _took_effect(self, to: str) -> None:
        self.changes[to] += 1
        self._rule.took_effect(self._clock.now_ns())

    def _give_up(self, refused: Refused) -> None:
        """Close no more until a restart. What is noted is restored still: at once, then at every rest."""
        if self._wants_closed:
            what = "the node refuses to switch receipts off; not tried again until a restart"
            self._retry_after(0)
        else:
            what = "receipts stay switched off: the node refuses to switch them on"
            self._retry_after(REST_NS)
        self._may_close = False
        if what not in self._told:
            self._told.add(what)
            log.error(what, extra={"reason": refused.reason})

    def _retry_after(self, wait_ns: int) -> None:
        self._retry_ns = self._clock.now_ns() + wait_ns

"""What the pacing must still know after a restart: bulk's pause, the ceiling, and who was written to just now.

The first two are notes in the store, written when something changes and never for a send that just goes: once for a
pause, once for each time the ceiling is lowered, once when it is whole again. The last needs no write of its own: the
store knows it from the sends that ended.

Times on disk are of the wall clock, which may have been set meanwhile: a pause is then at most as long as it was.
Not kept: a pause of all sends, a minute at most, after which the first send would ask again anyway.
"""

import asyncio
import logging
from typing import Final, TypeVar

import msgspec

from gateway.budget.pairs import PairLimit
from gateway.clock import NS_PER_MS, Clock
from gateway.store.protocol import Change, Recovered, Store

log = logging.getLogger(__name__)
T = TypeVar("T")

CEILING_AGE_MAX_MS: Final = 10 * 60 * 1000
"""A ceiling lowered longer ago is forgotten: the node's trouble was of another time."""
PAUSE_STEP_MS: Final = 60_000
"""A pause that ends so little later is not written again: sends of other classes that are refused as well prolong it
one by one."""

_PAUSE: Final = "bulk pause"
_CEILING: Final = "ceiling"


class _Pause(msgspec.Struct):
    begun_ms: int
    until_ms: int


class _Ceiling(msgspec.Struct):
    share: float
    lowered_ms: int


class PacingMemory:
    """Reads at the start what was kept, and keeps what changes. Calls are made on the loop and don't wait."""

    def __init__(self, recovered: Recovered, store: Store, clock: Clock) -> None:
        """`recovered` is what `store` held when it was opened."""
        self._recovered = recovered
        self._store = store
        self._clock = clock
        self._kept_until_ns = 0

    def bulk_paused_until_ns(self) -> int:
        """When the pause of bulk ends (monotonic); 0 when there is none."""
        pause = self._read(_PAUSE, _Pause)
        if pause is None:
            return 0
        now_ms = self._clock.wall_ms()
        left_ms = pause.until_ms - now_ms
        if left_ms <= 0:
            return 0
        whole_ms = pause.until_ms - pause.begun_ms
        until_ns = self._clock.now_ns() + min(left_ms, whole_ms) * NS_PER_MS
        if left_ms > whole_ms:
            # The clock has been set back, before the pause began: it begins now, and not at each start again.
            self.keep_bulk_pause(until_ns)
        return until_ns

    def keep_bulk_pause(self, until_ns: int) -> None:
        """Bulk is paused until then (monotonic)."""
        if until_ns - self._kept_until_ns < PAUSE_STEP_MS * NS_PER_MS:
            return
        self._kept_until_ns = until_ns
        now_ms = self._clock.wall_ms()
        left_ms = -(-(until_ns - self._clock.now_ns()) // NS_PER_MS)
        self._keep(_PAUSE, _Pause(now_ms, now_ms + left_ms))

    def ceiling_share(self) -> float:
        """The share of the plan to start with."""
        ceiling = self._read(_CEILING, _Ceiling)
        # Either way: a clock that was set back must not keep an old ceiling alive.
        if ceiling is None or abs(self._clock.wall_ms() - ceiling.lowered_ms) > CEILING_AGE_MAX_MS:
            return 1.0
        return ceiling.share

    def keep_ceiling(self, share: float) -> None:
        """The ceiling was lowered to `share`, or is whole again."""
        self._keep(_CEILING, _Ceiling(share, self._clock.wall_ms()))

    def restore_pairs(self, pairs: PairLimit) -> None:
        """Enter the sends of the last while."""
        now_ns, now_ms = self._clock.now_ns(), self._clock.wall_ms()
        for sends in self._recovered.recent:
            age_ns = max(0, now_ms - sends.last_ms) * NS_PER_MS
            pairs.restore(sends.to, sends.attempts, age_ns, now_ns)
        self._recovered.recent.clear()

    def _read(self, name: str, form: type[T]) -> T | None:
        note = self._recovered.notes.get(name)
        if note is None:
            return None
        try:
            return msgspec.json.decode(note, type=form)
        except msgspec.DecodeError as error:
            log.warning("a note of the pacing can't be read", extra={"note": name, "error": str(error)})
            return None

    def _keep(self, name: str, note: _Pause | _Ceiling) -> None:
        written = self._store.submit(Change(notes={name: msgspec.json.encode(note)}))
        written.add_done_callback(_look_at)


def _look_at(written: asyncio.Future[None]) -> None:
    """A store that failed has told so itself, and ends the process: nobody needs to hear it from here."""
    if not written.cancelled():
        written.exception()

"""The breaker and the gate of one destination in plain Python, without those who wait."""

import random
from typing import Final, NamedTuple

from model.limit import NEITHER, WELL, LimitModel, TicketModel

NEVER_NS: Final = 2**63 - 1
NS_PER_MS: Final = 1_000_000
FAILURES_TO_OPEN: Final = 3
SUSPECTS: Final = 10


class BreakerModel:
    """Closed (yes), open (not yet), half open (one probe is under way)."""

    def __init__(self, wait_min_ms: int, wait_max_ms: int, rng: random.Random) -> None:
        self._wait_min_ms = wait_min_ms
        self._wait_max_ms = wait_max_ms
        self._rng = rng
        self._failures = 0
        self._open_until_ns: int | None = None
        self._is_probing = False
        self.opened = 0

    @property
    def state(self) -> str:
        if self._is_probing:
            return "half_open"
        return "closed" if self._open_until_ns is None else "open"

    @property
    def is_closed(self) -> bool:
        return self._open_until_ns is None and not self._is_probing

    def may_pass(self, now_ns: int) -> bool:
        if self._is_probing:
            return False
        return self._open_until_ns is None or now_ns >= self._open_until_ns

    def passes_at_ns(self) -> int | None:
        return None if self._is_probing else self._open_until_ns

    def enter(self) -> bool:
        self._is_probing = self._open_until_ns is not None
        return self._is_probing

    def succeed(self) -> None:
        self._failures = 0
        self._open_until_ns = None
        self._is_probing = False

    def fail(self, now_ns: int, retry_after_ms: int, *, is_probe: bool) -> None:
        if self._open_until_ns is not None and not is_probe:
            self._open_until_ns = max(self._open_until_ns, now_ns + retry_after_ms * NS_PER_MS)
            return
        self._failures += 1
        self._is_probing = False
        if self._failures < FAILURES_TO_OPEN and not retry_after_ms:
            return
        doublings = min(max(0, self._failures - FAILURES_TO_OPEN), 30)
        ceiling_ms = min(self._wait_min_ms << doublings, self._wait_max_ms)
        wait_ms = max(self._rng.randint(ceiling_ms // 2, ceiling_ms), retry_after_ms)
        if self._open_until_ns is None:
            self.opened += 1
        self._open_until_ns = now_ns + wait_ms * NS_PER_MS


class PassageModel(NamedTuple):
    """One request under way."""

    ticket: TicketModel
    is_probe: bool
    is_retry: bool


class GateModel:
    """Breaker and limit together, with half of the places for retries."""

    def __init__(self, breaker: BreakerModel, limit: LimitModel, *, is_dry_run: bool) -> None:
        self.breaker = breaker
        self.limit = limit
        self.would_have = 0
        self.closed_by: set[str] = set()
        self._is_dry_run = is_dry_run
        self._retries = 0
        self._fails_in_a_row = 0
        self._was_retry = False

    def opens_at_ns(self, now_ns: int) -> int:
        if self.closed_by or self._places <= self.limit.in_flight:
            return NEVER_NS
        if self.breaker.may_pass(now_ns):
            return now_ns
        passes_at_ns = self.breaker.passes_at_ns()
        return NEVER_NS if passes_at_ns is None else passes_at_ns

    @property
    def _places(self) -> int:
        return self.limit.highest if self._is_dry_run else self.limit.limit

    @property
    def prefers_fresh(self) -> bool:
        if not self.breaker.is_closed or not self.has_room_for_retry:
            return True
        return self._was_retry and self._places == 1

    @property
    def has_room_for_retry(self) -> bool:
        return not self._retries or self._retries < self._places // 2

    def enter(self, now_ns: int, *, is_retry: bool) -> PassageModel:
        self.would_have += not self.limit.has_room
        self._retries += is_retry
        self._was_retry = is_retry
        return PassageModel(self.limit.enter(now_ns), self.breaker.enter(), is_retry)

    def succeed(self, passage: PassageModel, now_ns: int) -> bool:
        was_closed = self.breaker.is_closed
        self._fails_in_a_row = 0
        self.breaker.succeed()
        self._leave(passage, now_ns, WELL)
        return not was_closed

    def fail(
        self, passage: PassageModel, now_ns: int, sign: int, retry_after_ms: int, *, shows_trouble: bool
    ) -> bool:
        was_open = not self.breaker.is_closed
        self._fails_in_a_row += 1
        shows_trouble = shows_trouble or self._fails_in_a_row > SUSPECTS
        if shows_trouble or passage.is_probe:
            self.breaker.fail(now_ns, retry_after_ms, is_probe=passage.is_probe)
        self._leave(passage, now_ns, sign if shows_trouble and not passage.is_probe else NEITHER)
        return self.breaker.state == "open" and not was_open

    def _leave(self, passage: PassageModel, now_ns: int, sign: int) -> None:
        self.limit.leave(passage.ticket, now_ns, sign)
        self._retries -= passage.is_retry

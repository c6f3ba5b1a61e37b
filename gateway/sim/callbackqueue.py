"""Coreapp's callback queue: what waits, what waits for its next attempt, and what comes next. Pure."""

import random
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from gateway.clock import NS_PER_MS
from gateway.sim.faults import Faults
from gateway.sim.journal import Callback
from gateway.sim.settings import Settings

QUEUE_MAX: Final = 100_000
"""Published: at so many callbacks the client's sends fail with 1016."""


@dataclass(slots=True)
class Delivery:
    """One request to the webhook: a body of one or several events, retried as it is."""

    callbacks: list[Callback]
    attempts: int = 0
    is_duplicate: bool = False


class CallbackQueue:
    """At most `queue_max` events wait, be it for their first attempt or for the next one."""

    def __init__(
        self,
        settings: Settings,
        faults: Faults,
        rng: random.Random,
        *,
        queue_max: int = QUEUE_MAX,
        time_scale: float = 1.0,
    ) -> None:
        assert queue_max >= 1, queue_max
        self._settings = settings
        self._faults = faults
        self._rng = rng
        self._queue_max = queue_max
        self._time_scale = time_scale
        self._ready: deque[Callback] = deque()
        self._delayed: list[tuple[int, int, Delivery]] = []
        self._delayed_events = 0
        self._tie = 0

    def __len__(self) -> int:
        return len(self._ready) + self._delayed_events

    @property
    def is_full(self) -> bool:
        return len(self) >= self._queue_max

    def try_put(self, callback: Callback) -> bool:
        """Queue one event. False: full."""
        if self.is_full:
            return False
        self._ready.append(callback)
        return True

    def take(self, now_ns: int) -> Delivery | None:
        """The next request: a due retry first, otherwise new events. None: nothing is due."""
        if self._delayed and self._delayed[0][0] <= now_ns:
            delivery = heappop(self._delayed)[2]
            self._delayed_events -= len(delivery.callbacks)
            return delivery
        if not self._ready:
            return None
        first = self._pop(self._pick())
        batch = [first]
        while len(batch) < self._faults.batch_max and self._ready and self._ready[0].array == first.array:
            batch.append(self._pop(0))
        return Delivery(batch)

    def next_ns(self) -> int | None:
        """When the earliest retry is due; None: none waits. Events in `ready` are due at once."""
        return self._delayed[0][0] if self._delayed else None

    def put_back(self, delivery: Delivery, now_ns: int) -> None:
        """Wait for the next attempt: 3 s, 6 s, 9 s ... up to 15 min by default, times the scale.

        Comes back even into a full queue: it was counted before and must not be lost.
        """
        delay_ms = min(delivery.attempts * self._settings.backoff_ms, self._settings.backoff_max_ms)
        self._delay(delivery, now_ns + int(delay_ms * NS_PER_MS * self._time_scale))

    def repeat(self, delivery: Delivery, now_ns: int) -> None:
        """Make the same callback once more although it was answered 200."""
        self._delay(Delivery(delivery.callbacks, is_duplicate=True), now_ns)

    def _delay(self, delivery: Delivery, due_ns: int) -> None:
        self._tie += 1
        self._delayed_events += len(delivery.callbacks)
        heappush(self._delayed, (due_ns, self._tie, delivery))

    def _pick(self) -> int:
        window = min(self._faults.reorder_window, len(self._ready))
        return self._rng.randrange(window) if window > 1 else 0

    def _pop(self, index: int) -> Callback:
        if index == 0:
            return self._ready.popleft()
        callback = self._ready[index]
        del self._ready[index]
        return callback

"""The queue of sends: a backlog that knows how many of those waiting go to groups, and how many are scheduled.

A scheduled send is on disk only, apart from the line of its class, until `schedule.py` brings it in. It waits, so it is
counted; it is nowhere in memory. Those brought in are counted too until they end: `STARTED_MAX` of a class at a time.
What a start found on the disk is not counted: whether it goes to groups is known as it is read, and it may never be.
"""

from collections.abc import Callable
from typing import Any, Final

from gateway.events import Kind, SendClass, SendRecord
from gateway.store.backlog import Backlog


def lane_of(record: SendRecord) -> tuple[SendClass, str]:
    """Sends to one recipient keep their order within a class."""
    return record.cls, record.to.lstrip("+")


NEVER_MS: Final = (1 << 63) - 1

STARTED_MAX: Final = 256
"""Of each class: what a campaign scheduled for one moment takes of memory then."""


class SendQueue(Backlog[SendRecord]):
    """A backlog of sends. A few additions a send, and nothing to look through."""

    first_new_seq = 0
    """Sends before it were there at the start."""
    _new = 0
    _new_to_groups = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As a backlog."""
        super().__init__(*args, **kwargs)
        self._scheduled = [0] * len(SendClass)
        self._started: dict[int, SendClass] = {}
        self._started_counts = [0] * len(SendClass)
        self.on_scheduled: Callable[[], None] = lambda: None
        """Called when there is a scheduled send more, or room to start some."""
        self.expires_first_ms = 0
        """No send expires before (wall clock); NEVER_MS: none does. Whoever has looked at the disk says so."""
        self.on_expires_first: Callable[[], None] = lambda: None
        """Called when one comes that expires before the others."""

    # -- scheduled

    def restore_scheduled(self, cls: SendClass, count: int) -> None:
        """Start with what the store already holds."""
        self._scheduled[cls] += count

    def schedule(self, record: SendRecord) -> None:
        """Count a scheduled send, which is on disk now."""
        self._scheduled[record.cls] += 1
        self.on_scheduled()
        self._note_expiry(record)

    def unschedule(self, record: SendRecord) -> None:
        """A scheduled send has ended, or has another class."""
        self._scheduled[record.cls] -= 1
        assert self._scheduled[record.cls] >= 0, record.cls

    def start(self, record: SendRecord) -> None:
        """A scheduled send is due, and the store has been asked to put it into line; `moves.reinstate` it when it has."""
        self.unschedule(record)
        self._started[record.seq] = record.cls
        self._started_counts[record.cls] += 1
        self.announce(record)

    def scheduled(self, cls: SendClass) -> int:
        """Sends of a class whose time has not come."""
        return self._scheduled[cls]

    def room_to_start(self, cls: SendClass) -> int:
        """How many scheduled sends of a class may be brought in, where the backlog has room for them."""
        return STARTED_MAX - self._started_counts[cls]

    def _finish(self, record: SendRecord) -> None:
        cls = self._started.pop(record.seq, None)
        if cls is not None:
            self._started_counts[cls] -= 1
            # At half, so that several are started by one change on disk.
            if self._scheduled[cls] and self._started_counts[cls] == STARTED_MAX // 2:
                self.on_scheduled()

    # -- counted

    def total(self) -> int:
        """Sends not settled, scheduled ones too."""
        return super().total() + sum(self._scheduled)

    def waiting(self) -> dict[Kind, int]:
        """The same, as the books want it."""
        waiting = super().waiting()
        if any(self._scheduled):
            waiting[Kind.SEND] = waiting.get(Kind.SEND, 0) + sum(self._scheduled)
        return waiting

    def announce(self, record: SendRecord) -> None:
        """As `Moves.announce`."""
        self.moves.announce(record)
        if record.seq >= self.first_new_seq:
            self._count(record, 1)

    def drop(self, record: SendRecord) -> None:
        """As `Moves.drop`."""
        self.moves.drop(record)
        self._finish(record)
        if record.seq >= self.first_new_seq:
            self._count(record, -1)

    def push(self, record: SendRecord) -> None:
        super().push(record)
        self._count(record, 1)
        self._note_expiry(record)

    def settle(self, record: SendRecord) -> None:
        super().settle(record)
        self._finish(record)
        if record.seq >= self.first_new_seq:
            self._count(record, -1)

    def _note_expiry(self, record: SendRecord) -> None:
        if 0 < record.expires_ms < self.expires_first_ms:
            self.expires_first_ms = record.expires_ms
            self.on_expires_first()

    def _count(self, record: SendRecord, change: int) -> None:
        self._new += change
        self._new_to_groups += change * record.is_group
        assert 0 <= self._new_to_groups <= self._new, (self._new_to_groups, self._new)

    @property
    def groups_share(self) -> float | None:
        """Of the sends that came since the start and wait, those to groups, in [0, 1]; None: there are none."""
        return self._new_to_groups / self._new if self._new else None

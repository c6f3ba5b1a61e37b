"""The queue of sends: a backlog that knows how many of those waiting go to groups.

What a start found on the disk is not counted: whether it goes to groups is known as it is read, and it may never be.
"""

from gateway.events import SendRecord
from gateway.store.backlog import Backlog


class SendQueue(Backlog[SendRecord]):
    """A backlog of sends. Two additions a send, and nothing to look through."""

    first_new_seq = 0
    """Sends before it were there at the start."""
    _new = 0
    _new_to_groups = 0

    def push(self, record: SendRecord) -> None:
        super().push(record)
        self._count(record, 1)

    def settle(self, record: SendRecord) -> None:
        super().settle(record)
        if record.seq >= self.first_new_seq:
            self._count(record, -1)

    def _count(self, record: SendRecord, change: int) -> None:
        self._new += change
        self._new_to_groups += change * record.is_group
        assert 0 <= self._new_to_groups <= self._new, (self._new_to_groups, self._new)

    @property
    def groups_share(self) -> float | None:
        """Of the sends that came since the start and wait, those to groups, in [0, 1]; None: there are none."""
        return self._new_to_groups / self._new if self._new else None

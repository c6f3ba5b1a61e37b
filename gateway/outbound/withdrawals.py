"""Sends taken back from wherever they wait: in line, aside, in the pacer's hand, on disk or for their time."""

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Final

from gateway.clock import Clock
from gateway.events import SendClass, SendRecord
from gateway.outbound.queue import SendQueue
from gateway.store.protocol import SendStatus

SCHEDULED: Final = "scheduled"
"""The state of a send whose time has not come."""

SLICE: Final = 256
"""Sends taken back before the loop has its turn again: one walk over each class, about 2 ms of 4,096."""


class Withdrawals:
    """Takes sends back from the queue and from whoever has them and has not begun. All calls on the loop."""

    def __init__(self, queue: SendQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self.release: Callable[[int, int], None] = lambda _seq, _now_ns: None
        """Called before a send is withdrawn: whoever has it in hand and has not begun gives it back."""
        self.forget: Callable[[int], None] = lambda _seq: None
        """Called when a send is withdrawn for good: nothing is to be kept for it."""

    def lift(self, seqs: Collection[int], cls: SendClass) -> dict[int, SendRecord | None]:
        """Sends out of the line of a class, as `Moves.withdraw_all`."""
        now_ns = self._clock.now_ns()
        for seq in seqs:
            self.release(seq, now_ns)
        return self._queue.moves.withdraw_all(seqs, cls)

    def take_back(self, statuses: Sequence[SendStatus]) -> list[SendRecord]:
        """Waiting sends for good, to be ended; without those that somebody works on. SLICE of them at a time.

        `statuses` are as they are now: the caller sees that no send changes its place in between.
        """
        taken: list[SendRecord] = []
        in_line = [status for status in statuses if status.state != SCHEDULED]
        for cls, of_class in groupby(
            sorted(in_line, key=lambda status: status.cls), lambda status: status.cls
        ):
            by_seq = {status.seq: status for status in of_class}
            for seq, record in self.lift(by_seq.keys(), cls).items():
                taken.append(_record(by_seq[seq]) if record is None else record)
        taken += [_record(status) for status in statuses if status.state == SCHEDULED]
        for record in taken:
            self.forget(record.seq)
        return taken


def _record(status: SendStatus) -> SendRecord:
    """A send that is on disk only. What its end is told of is known without the body."""
    return SendRecord(
        status.seq,
        status.id,
        status.cls,
        status.to,
        bool(status.is_group),
        b"",
        status.accepted_ms,
        mask=status.mask,
        batch=status.batch,
        not_before_ms=status.not_before_ms,
        expires_ms=status.expires_ms,
        attempts=status.attempts,
        is_uncertain=status.is_uncertain,
        is_scheduled=status.state == SCHEDULED,
    )

"""Receipts that came before the answer of their send: held back from the backend until the node has named the message.

Which receipts of a message are wanted is known by WhatsApp's id, and that is known by the answer. A receipt is held when
it came after such a send had begun whose answer is still out, and nothing that was named lately has its id. It is held
until that send has an answer, or the request has failed, so at most as long as the node may take (`GATEWAY_NODE_TIMEOUT`).
It is on disk and acked all the while. Failures are held too, for there is a mask that wants none; messages are not.
"""

from typing import Final, Protocol

from gateway.clock import Clock
from gateway.events import InboundClass, InboundRecord
from gateway.inbound.compose import Sorted
from gateway.store.backlog import Backlog

HELD_MAX: Final = 1_024
"""Records; what comes beyond goes on, wanted or not. The receipts of some hundred sends under way at once."""


class Nameless(Protocol):
    """The sends whose answers are out. Handed in, because inbound does not know outbound."""

    def is_possible(self, seq: int, message_id: str) -> bool:
        """Whether a receipt with this sequence number may be of one of them."""

    def is_possible_at(self, seq: int) -> bool:
        """The same, whatever the receipt's message."""


class EarlyReceipts:
    """What is held. All calls on the loop."""

    def __init__(self, backlog: Backlog[InboundRecord], clock: Clock) -> None:
        self._backlog = backlog
        self._clock = clock
        self._held: dict[int, InboundRecord] = {}
        """Taken from the backlog, by sequence number."""
        self.nameless: Nameless | None = None
        """None: nothing is held."""
        self.passed = 0
        """Receipts that should have been held, and HELD_MAX were already."""

    def try_hold(self, found: Sorted) -> bool:
        """Hold a record that was taken, if it must be. Then it is ours until `release` gives it back."""
        record = found.record
        if self.nameless is None or record.cls is InboundClass.MESSAGE:
            return False
        if not self.nameless.is_possible_at(record.seq):
            return False
        named = (event.message_id for event in (*found.kept, *found.digested) if event.message_id)
        if not any(self.nameless.is_possible(record.seq, message_id) for message_id in named):
            return False
        if len(self._held) >= HELD_MAX:
            self.passed += 1
            return False
        self._held[record.seq] = record
        return True

    def may_be_nameless(self, seq: int) -> bool:
        """Whether a receipt with this sequence number may have to be held."""
        return self.nameless is not None and self.nameless.is_possible_at(seq)

    def release(self) -> None:
        """A send has its answer: what was held for it is due now."""
        if not self._held:
            return
        assert self.nameless is not None
        now_ns = self._clock.now_ns()
        # A send that began later holds nothing that came before it, so what goes is what is oldest.
        for seq in sorted(self._held):
            if self.nameless.is_possible_at(seq):
                return
            self._backlog.defer(self._held.pop(seq), now_ns)

    def __len__(self) -> int:
        """Records held."""
        return len(self._held)

"""Sends that WhatsApp may have taken and has not named to us yet, so that receipts of theirs are known as early.

Only those are followed of which not all receipts are wanted: for others it makes no difference. What is known of the
names is bounded; a receipt of a name that was forgotten is taken for an early one, and waits for an answer of the node.
"""

from collections.abc import Callable
from typing import Final

from gateway._fast.seen import SeenSet, fingerprint
from gateway.events import SendRecord

NAMES_MAX: Final = 32_768
"""Names remembered, in 1 MB at most: at 20 sends a second those of 27 minutes."""


class Unnamed:
    """Follows sends from their request to the node's answer. Their number is bounded by the sender's workers."""

    def __init__(self, next_seq: Callable[[], int], secret: bytes) -> None:
        """`next_seq` gives the store's sequence numbers, `secret` (16 bytes) keys the fingerprints of names."""
        self._next_seq = next_seq
        self._secret = secret
        self._began: dict[int, int] = {}
        """Sequence numbers of sends, and those at which their requests began, which only grow."""
        self._names = SeenSet(NAMES_MAX)
        self.on_answer: Callable[[], None] = lambda: None
        """Called when one that was followed is so no more."""

    def began(self, record: SendRecord) -> None:
        """A send goes to the node now."""
        if record.mask:
            self._began[record.seq] = self._next_seq()

    def ended(self, record: SendRecord, node_id: str) -> None:
        """The request has ended; `node_id` is empty where WhatsApp named nothing."""
        if node_id:
            self._names.add(self._mark(node_id))
        if self._began.pop(record.seq, None) is not None:
            self.on_answer()

    def is_possible(self, seq: int, message_id: str) -> bool:
        """Whether a receipt with this sequence number may be of a send whose answer has not come."""
        return self.is_possible_at(seq) and self._mark(message_id) not in self._names

    def is_possible_at(self, seq: int) -> bool:
        """The same, whatever the receipt's message: a send began before it and has no answer."""
        return bool(self._began) and next(iter(self._began.values())) < seq

    def _mark(self, message_id: str) -> int:
        return fingerprint(message_id.encode(errors="surrogatepass"), self._secret)

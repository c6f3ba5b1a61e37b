"""Which receipts go as they are, each by itself."""

from collections.abc import Callable
from typing import Any, Self, final

from gateway._fast.ledger import ReceiptLedger

@final
class ReceiptSieve:
    """Asked about each record of the event webhook whose turn has come."""

    def __new__(
        cls,
        ledger: ReceiptLedger,
        secret: bytes,
        age_max_ms: int,
        forwards_each: Callable[[], bool],
        may_be_nameless: Callable[[int], bool],
    ) -> Self:
        """`ledger` has the masks, by fingerprints keyed with `secret` (16 bytes, else ValueError); `age_max_ms` 0: no limit.

        `forwards_each()`: whether receipts are forwarded each by itself now; `may_be_nameless(seq)`: whether a receipt with
        this sequence number may be of a send whose answer has not come.
        """

    def lets_through(self, record: Any, wall_ms: int) -> bool:
        """Whether a record goes as it is, and nothing else has to be asked."""

"""What became of each message: the ledger of receipts, by WhatsApp's message id, shed and forwarded alike.

Every change of it comes as log items for the store change that causes it, so that both are on disk or neither. Times are
those at which a receipt came to us: a status's own time is its sender's clock.
"""

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway._fast.ledger import ReceiptLedger, pack_mask, pack_record
from gateway._fast.seen import fingerprint
from gateway.dialects.receipts import Tally
from gateway.dialects.webhook import Event
from gateway.events import Kind, ReceiptMask
from gateway.store.protocol import Change, Recovered

log = logging.getLogger(__name__)

_LEVELS: Final = frozenset({Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.FAILED})
_STATUSES: Final = {0: "unknown", Kind.SENT: "sent", Kind.DELIVERED: "delivered", Kind.READ: "read"}


class Phones(msgspec.Struct, frozen=True):
    """Receipts of one kind: how many phones, and when the first and the last came (UTC seconds; None: never)."""

    count: int
    first_s: int | None
    last_s: int | None


class Known(msgspec.Struct, frozen=True):
    """What the ledger knows of one message."""

    id: str
    status: str
    """The highest of `sent`, `delivered`, `read`; `failed` where a failure came and nothing else."""
    sent_s: int | None
    delivered: Phones
    read: Phones
    failed: int


class ReceiptBook:
    """The ledger, with ids in place of fingerprints. All calls on the loop."""

    def __init__(self, ledger: ReceiptLedger, secret: bytes, retention_ms: int) -> None:
        """`secret` (16 bytes) keys the fingerprints; what is older than `retention_ms` is not told."""
        self.ledger = ledger
        self._secret = secret
        self._retention_s = retention_ms // 1000
        self._has_logged = False
        self._resets = False
        self._last_ms: int | None = None
        """When something was entered last; None: not since the start."""

    def restore(self, recovered: Recovered) -> None:
        """Put back what a store held. Pages of another size (the setting was changed) are let go, and that is logged."""
        ledger = self.ledger
        try:
            for number, page in recovered.ledger_pages:
                ledger.restore_page(number, page)
            ledger.finish_restore()
        except ValueError as error:
            log.warning("the receipt ledger begins anew", extra={"problem": str(error)})
            self.ledger = ReceiptLedger(ledger.capacity)
            self._resets = True
            return
        self._has_logged = ledger.apply_log(recovered.ledger_items) > 0

    def note(self, events: Iterable[Event], wall_ms: int) -> bytes:
        """Enter the receipts among new `events`, and return their log items."""
        at_s = max(1, wall_ms // 1000)
        items = []
        for event in events:
            if event.message_id and event.kind in _LEVELS:
                mark = self._mark(event.message_id)
                self.ledger.record(mark, event.kind, at_s)
                items.append(pack_record(mark, event.kind, at_s))
        if items:
            self.noted(wall_ms)
        return b"".join(items)

    def noted(self, wall_ms: int) -> None:
        """A receipt was entered in the ledger, or some, and their items are on the way to its log."""
        self._has_logged = True
        self._last_ms = wall_ms

    def want(self, message_id: str, mask: ReceiptMask) -> bytes:
        """Enter which receipts of a message are wanted, and return the log item."""
        mark = self._mark(message_id)
        self.ledger.set_mask(mark, mask)
        self._has_logged = True
        return pack_mask(mark, mask)

    def mask_of(self, message_id: str) -> int:
        """Which receipts of a message are wanted, a `ReceiptMask`."""
        return self.ledger.mask(self._mark(message_id))

    def tally(self, message_id: str) -> Tally | None:
        """The counts of all receipts of a message so far, for a digest; None when it has left the ledger."""
        found = self.ledger.look(self._mark(message_id))
        if found is None:
            return None
        times = [at for at in (found.delivered_first_s, found.read_first_s) if at]
        last_s = max(found.delivered_last_s, found.read_last_s)
        return Tally(None, found.delivered, found.read, min(times, default=None), last_s or None)

    def look(self, message_id: str, wall_ms: int) -> Known | None:
        """What is known of a message; None when it has left the ledger, or nothing was heard of it for long."""
        found = self.ledger.look(self._mark(message_id))
        if found is None:
            return None
        last_s = max(found.sent_s, found.delivered_last_s, found.read_last_s)
        if last_s and last_s < wall_ms // 1000 - self._retention_s:
            return None
        status = _STATUSES[found.status]
        return Known(
            message_id,
            "failed" if found.failed and not found.delivered and not found.read else status,
            found.sent_s or None,
            Phones(found.delivered, found.delivered_first_s or None, found.delivered_last_s or None),
            Phones(found.read, found.read_first_s or None, found.read_last_s or None),
            found.failed,
        )

    def forget(self, wall_ms: int) -> None:
        """Let go of everything, if it is all too old to be told: after a storm the store gets its room back.

        Of what a start has found that is known when it has been here for as long. What a message's sender wants is
        never too old: as long as there is such a wish, everything stays.
        """
        if self._last_ms is None:
            self._last_ms = wall_ms
        is_old = wall_ms - self._last_ms > self._retention_s * 1000
        if is_old and len(self.ledger) and not self.ledger.has_masks():
            self.ledger.clear()
            self._resets = True

    def checkpoint(self) -> Change | None:
        """The change that replaces the log by pages; None while there is no log."""
        if not self._has_logged and not self._resets:
            return None
        change = Change(ledger_pages=self.ledger.take_dirty_pages(), ledger_resets=self._resets)
        self._has_logged = False
        self._resets = False
        return change

    def _mark(self, message_id: str) -> int:
        return fingerprint(message_id.encode(errors="surrogatepass"), self._secret)

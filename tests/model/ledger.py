"""The receipt ledger as a dict, which remembers the order of insertion."""

import struct
from dataclasses import dataclass, field

LOG_ITEM = struct.Struct("<QIBBH")


@dataclass
class Heard:
    """All receipts of one message."""

    mask: int = 0
    receipts: list[tuple[int, int]] = field(default_factory=list)
    """`(level, at_s)`, in the order they came."""

    def times(self, level: int) -> list[int]:
        return [at_s for heard, at_s in self.receipts if heard == level]


class LedgerModel:
    """The oldest message is the first one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: dict[int, Heard] = {}
        self.evicted = 0

    def _message(self, fingerprint: int) -> Heard:
        if fingerprint not in self.held and len(self.held) == self.capacity:
            del self.held[next(iter(self.held))]
            self.evicted += 1
        return self.held.setdefault(fingerprint, Heard())

    def record(self, fingerprint: int, level: int, at_s: int) -> None:
        self._message(fingerprint).receipts.append((level, at_s))

    def set_mask(self, fingerprint: int, mask: int) -> None:
        self._message(fingerprint).mask = mask

    def apply_log(self, data: bytes) -> int:
        for fingerprint, at_s, level, mask, _ in LOG_ITEM.iter_unpack(data):
            if level:
                self.record(fingerprint, level, at_s)
            else:
                self.set_mask(fingerprint, mask)
        return len(data) // LOG_ITEM.size

    def look(self, fingerprint: int) -> dict[str, int] | None:
        """The fields of `Receipts`."""
        heard = self.held.get(fingerprint)
        if heard is None:
            return None
        sent, delivered, read, failed = (heard.times(level) for level in (1, 2, 3, 4))
        return {
            "status": max((level for level, _ in heard.receipts if level < 4), default=0),
            "mask": heard.mask,
            "sent_s": min(sent, default=0),
            "delivered": len(delivered),
            "delivered_first_s": min(delivered, default=0),
            "delivered_last_s": max(delivered, default=0),
            "read": len(read),
            "read_first_s": min(read, default=0),
            "read_last_s": max(read, default=0),
            "failed": len(failed),
        }

    def __len__(self) -> int:
        return len(self.held)

"""Receipt ledger: what became of the last messages, in 40 bytes each."""

from typing import Final, Self, final

SENT: Final[int]
DELIVERED: Final[int]
READ: Final[int]
FAILED: Final[int]
"""Levels of a receipt, the numbers of `events.Kind`."""

MASK_ALL: Final[int]
MASK_NONE: Final[int]
MASK_FAILED: Final[int]
MASK_DELIVERED: Final[int]
MASK_READ: Final[int]
"""Which receipts of a message are wanted. The ledger keeps the number and does not act on it."""

def pack_record(fingerprint: int, level: int, at_s: int) -> bytes:
    """Pack a call of `ReceiptLedger.record` as a log item of 16 bytes. Raises what that raises."""

def pack_mask(fingerprint: int, mask: int) -> bytes:
    """Pack a call of `ReceiptLedger.set_mask` as a log item of 16 bytes. Raises what that raises."""

@final
class Receipts:
    """What the ledger knew of one message when it was asked. Times are UTC seconds, 0 for never."""

    def __init__(self) -> None:
        """Make one that says nothing; `ReceiptLedger.look` makes those that do."""

    @property
    def status(self) -> int:
        """The highest of SENT, DELIVERED and READ, else 0. Failures are apart: one may follow any of them."""

    @property
    def mask(self) -> int:
        """The receipts that are wanted, as `set_mask` left it."""

    @property
    def sent_s(self) -> int:
        """The earliest time it was sent."""

    @property
    def delivered(self) -> int:
        """Participants it was delivered to, up to 2**32-1. One who read it without that counts in `read` alone."""

    @property
    def delivered_first_s(self) -> int:
        """The earliest time."""

    @property
    def delivered_last_s(self) -> int:
        """The latest time."""

    @property
    def read(self) -> int:
        """Participants who read it, up to 2**32-1."""

    @property
    def read_first_s(self) -> int:
        """The earliest time."""

    @property
    def read_last_s(self) -> int:
        """The latest time."""

    @property
    def failed(self) -> int:
        """Failures told, up to 65,535."""

@final
class ReceiptLedger:
    """The receipts of the last `capacity` messages; the message known longest leaves first.

    Messages are fingerprints of 0..2**64-1, else OverflowError, well mixed as `seen.fingerprint` makes them.
    What is recorded again counts again: the caller drops duplicates.
    The same receipts in any order give the same entry.
    """

    def __new__(cls, capacity: int) -> Self:
        """Make an empty ledger for 1..2**26 messages, else ValueError.

        Takes 48 to 56 bytes for each, allocated now: 40 of entry and 8 to 16 of index, whose size is a power of two.
        """

    @property
    def capacity(self) -> int:
        """The most messages it holds."""

    @property
    def memory_bytes(self) -> int:
        """Bytes allocated."""

    @property
    def evicted(self) -> int:
        """Messages that left to make room, restarts included."""

    @property
    def dirty_pages(self) -> int:
        """Pages changed since they were last taken; one receipt changes one page."""

    def record(self, fingerprint: int, level: int, at_s: int) -> None:
        """Count one participant's receipt; the oldest message goes if this one is new and the ledger full. O(1).

        A level that is none, and a time outside 1..2**32-1, raise ValueError.
        """

    def set_mask(self, fingerprint: int, mask: int) -> None:
        """Keep which receipts are wanted, MASK_ALL..MASK_READ, else ValueError. Makes an entry, as `record`. O(1)."""

    def mask(self, fingerprint: int) -> int:
        """Which receipts are wanted; MASK_ALL when the message is not known. O(1)."""

    def look(self, fingerprint: int) -> Receipts | None:
        """What is known of a message, or None. O(1)."""

    def apply_log(self, data: bytes) -> int:
        """Do again what `pack_record` and `pack_mask` packed, in order, and return how many items it was.

        What is no row of items raises ValueError, and nothing is applied.
        """

    def take_dirty_pages(self) -> list[tuple[int, bytes]]:
        """The pages changed since the last call, by number, 4016 bytes each; they count as clean from now on.

        All at once: together with the clean ones they are the ledger at this moment, a checkpoint, and what is logged
        from here on brings that up to date. Pages of two moments do not: keep the old ones, and the log since they
        were taken, until all new ones are on disk. 4 µs a page.
        """

    def has_masks(self) -> bool:
        """Whether there is a message of which not all receipts are wanted. O(capacity)."""

    def clear(self) -> None:
        """Be as a new one: no entry, no page that was taken counts any more. O(capacity)."""

    def restore_page(self, number: int, page: bytes) -> None:
        """Put back one page, the newest taken of its number, into a ledger that was not used yet.

        ValueError, and nothing changed, for bytes that are no such page, a page of another capacity, or one twice.
        RuntimeError if the ledger has entries already.
        """

    def finish_restore(self) -> None:
        """Make a ledger of the pages put back. Until then it answers as empty, and changes raise RuntimeError.

        Pages that are missing, or not of one ledger, raise ValueError and leave an empty one. O(capacity).
        """

    def __len__(self) -> int:
        """Messages held."""

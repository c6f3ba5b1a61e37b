"""Bounded set of 64-bit fingerprints, and the keyed hash that makes them."""

from typing import Self, final

def fingerprint(key: bytes, secret: bytes) -> int:
    """SipHash-2-4 of `key` under the 16-byte `secret`, 0..2**64-1.

    A secret of another length raises ValueError.
    """

def fingerprint_str(key: str, secret: bytes) -> int:
    """`fingerprint` of the UTF-8 of `key`, without a copy for ASCII.

    A lone surrogate raises UnicodeEncodeError.
    """

@final
class SeenSet:
    """The last `capacity` different fingerprints; the oldest leaves first.

    Fingerprints are ints of 0..2**64-1, else OverflowError, and must be well mixed, as `fingerprint` makes them:
    others are counted right but may be slow to find.
    Seeing one again does not make it younger.
    """

    def __new__(cls, capacity: int) -> Self:
        """Make an empty set for 1..2**26 fingerprints, else ValueError.

        Takes 24 to 40 bytes for each, allocated now: 8 in order of age and 16 to 32 in the table,
        whose size is a power of two.
        """

    @property
    def capacity(self) -> int:
        """The most fingerprints it holds."""

    def add(self, fingerprint: int) -> bool:
        """Add one, and let the oldest go if the set is full; False if it was there already. O(1)."""

    def add_packed(self, data: bytes) -> int:
        """Add little-endian 64-bit fingerprints, oldest first, and return how many were new.

        A length that is no multiple of 8 raises ValueError, and nothing is added.
        """

    def discard(self, fingerprint: int) -> bool:
        """Take one out; False if it was not there.

        Made for taking back what was just added: O(fingerprints added since).
        What left to make room for it does not come back.
        """

    def __contains__(self, fingerprint: int, /) -> bool:
        """Whether it is held. O(1)."""

    def __len__(self) -> int:
        """Fingerprints held."""

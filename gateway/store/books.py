"""The books: every accepted item ends in exactly one named outcome, and the sum holds at every moment.

`accepted = delivered + failed + expired + cancelled + shed + waiting`, per kind. What waits is counted by
the queues themselves, so the sum is a check of them and not an identity.
"""

import functools
from collections.abc import Iterable, Mapping

from gateway._fast.books import BookTotals
from gateway.events import Kind, Outcome
from gateway.store.protocol import BookEntry


class Books:
    """Totals over the life of the store. Changed on the loop, together with the queues."""

    def __init__(self, entries: Iterable[BookEntry] = ()) -> None:
        self.totals = BookTotals()
        """As what is native changes them."""
        self.apply(entries)

    @property
    def accepted(self) -> dict[Kind, int]:
        """Events of each kind that were accepted."""
        return {kind: self.totals.accepted(kind) for kind in Kind}

    @property
    def outcomes(self) -> dict[tuple[Kind, Outcome], int]:
        """Events of each kind that ended in each way."""
        return {(kind, outcome): self.totals.ended(kind, outcome) for kind in Kind for outcome in Outcome}

    def apply(self, entries: Iterable[BookEntry]) -> None:
        """Enter what is now on disk."""
        for entry in entries:
            self.totals.enter(entry.kind, entry.outcome, entry.count)

    def expected_waiting(self, kind: Kind) -> int:
        """What must be waiting now, by the books."""
        return self.totals.accepted(kind) - sum(self.totals.ended(kind, outcome) for outcome in Outcome)

    def difference(self, waiting: Mapping[Kind, int]) -> int:
        """How far the queues' own count is from the books, over all kinds; 0 is the promise."""
        return sum(abs(self.expected_waiting(kind) - waiting.get(kind, 0)) for kind in Kind)


def accepted_entries(counts: Iterable[tuple[Kind, int]]) -> list[BookEntry]:
    """Entries for items that are accepted."""
    return [book_entry(kind, None, count) for kind, count in counts]


def outcome_entries(counts: Iterable[tuple[Kind, int]], outcome: Outcome) -> list[BookEntry]:
    """Entries for items that end with `outcome`."""
    return [book_entry(kind, outcome, count) for kind, count in counts]


@functools.lru_cache(maxsize=4096)
def book_entry(kind: Kind, outcome: Outcome | None, count: int) -> BookEntry:
    """Nearly all are one of a few, and none is ever changed."""
    return BookEntry(kind, outcome, count)

"""The totals of the books: how many events of each kind were accepted, and how many ended how."""

from typing import final

@final
class BookTotals:
    """Begins with nothing. Kinds (0..7) and outcomes (0..4) beyond what there is raise ValueError."""

    def enter(self, kind: int, outcome: int | None, count: int) -> None:
        """Add to what ended with `outcome`, or (None) was accepted."""

    def accepted(self, kind: int) -> int: ...
    def ended(self, kind: int, outcome: int) -> int: ...

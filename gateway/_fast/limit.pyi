"""The limit of requests under way to one destination, found by trying."""

from typing import Final, Self, final

WELL: Final[int]
OVERLOADED: Final[int]
NEITHER: Final[int]
"""Signs: what an answer says about the load of whoever gave it."""

START: Final[int]
"""The limit before the first answer."""

DECREASE: Final[float]
"""What is left of a limit that is lowered."""

ROUND_SAMPLES: Final[int]
"""Answers of a round by which slow start judges it."""

@final
class Passage:
    """One request under way. Made by a limit or a gate, which take it back; 48 bytes."""

    @property
    def era(self) -> int:
        """How often the limit had changed by more than one when it went: it speaks of that limit only."""

    @property
    def number(self) -> int:
        """Which request of its limit it is, from 1."""

    @property
    def entered_ns(self) -> int:
        """When it went."""

    @property
    def is_probe(self) -> bool:
        """Whether it goes to find out if the destination is back. False where no gate has let it through."""

    @property
    def is_retry(self) -> bool:
        """Whether it carries what has failed before."""

@final
class ConcurrencyLimit:
    """The limit of one destination, from 1 to `highest`. Both steps are O(1)."""

    def __new__(cls, highest: int) -> Self:
        """`highest` is 1..1e6, else ValueError."""

    @property
    def highest(self) -> int:
        """What the limit never passes."""

    @property
    def limit(self) -> int:
        """How many may be under way now."""

    @property
    def in_flight(self) -> int:
        """How many are."""

    @property
    def lowered(self) -> int:
        """Times an overload or a queue lowered it."""

    @property
    def has_room(self) -> bool:
        """Whether one more may go."""

    def enter(self, now_ns: int) -> Passage:
        """A request goes. Whether there is room is for the caller to ask: a dry run goes without."""

    def leave(self, passage: Passage, now_ns: int, sign: int) -> None:
        """A request has ended, with or without an answer.

        `sign` is WELL, OVERLOADED or NEITHER, else ValueError. More that left than entered is an AssertionError.
        """

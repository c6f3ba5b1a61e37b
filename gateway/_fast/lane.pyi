"""Who holds each lane: what every record asks when it goes out and when it has ended."""

from array import array
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from typing_extensions import disjoint_base

_R = TypeVar("_R")

@disjoint_base
class LaneHolders(Generic[_R]):
    """Base of `gateway.store.lanes.Lanes`, which brings `_advance`: called with a lane when others wait behind its holder."""

    unread: dict[Hashable, None]
    """Lanes whose next record is on disk, in the order in which they came to that."""
    @property
    def _lane_of(self) -> Callable[[_R], Hashable]: ...
    _holders: dict[Hashable, int]
    _kept: dict[Hashable, list[_R]]
    """Records by number, all of them before those of which only the number is here."""
    _numbers: dict[Hashable, array[int]]
    """Sequence numbers in order, each with its class in the lowest bits."""

    def __init__(self, lane_of: Callable[[_R], Hashable]) -> None:
        """`lane_of` a record is its lane; None, or the empty string: it has none."""

    def enter(self, record: _R) -> bool:
        """Whether a record may go out: it holds its lane now. Else it is to wait."""

    def leave(self, record: _R) -> _R | None:
        """A record has ended: the next of its lane, which holds it now.

        None: there is none, or it is among the `unread`, or the record held nothing.
        """

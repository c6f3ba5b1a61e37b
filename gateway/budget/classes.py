"""Which class of sends goes next: strict order, with a floor below and a cap on top. Pure.

Order is reply > high > normal > bulk. Two shares bend it, counted in sends and only while they are needed:
- while bulk waits, at least `bulk_floor` of all sends are bulk;
- while others wait, at most `reply_share` of all sends are replies: a bot that answers everything with twenty
  replies must not close the door to everyone else.

Both work by credit: each send that passes a waiting class over gives that class its share of a send, and a whole
one lets it go first. Credit is lost when nothing of it waits, so idle classes save nothing up.
"""

from typing import Final

from gateway.events import SendClass

_REPLY: Final = 1 << SendClass.REPLY
_BULK: Final = 1 << SendClass.BULK


class ClassShares:
    """Chooses among the classes that have something ready."""

    def __init__(self, bulk_floor_percent: int, reply_share_percent: int) -> None:
        """`bulk_floor_percent` is 0 to 50, `reply_share_percent` 50 to 100 (100: no cap)."""
        assert 0 <= bulk_floor_percent <= 50, bulk_floor_percent
        assert 50 <= reply_share_percent <= 100, reply_share_percent
        self._bulk_floor = bulk_floor_percent
        self._others_floor = 100 - reply_share_percent
        self._bulk_credit = 0
        self._others_credit = 0

    def choose(self, ready: int) -> SendClass:
        """The class to send next, of the bit mask `ready` of at least one class. Changes nothing."""
        assert ready, "nothing is ready"
        if ready & _BULK and self._bulk_credit >= 100:
            return SendClass.BULK
        if ready & ~_REPLY and self._others_credit >= 100:
            ready &= ~_REPLY
        return SendClass((ready & -ready).bit_length() - 1)

    def sent(self, cls: int, ready: int) -> None:
        """Note that a send of `cls` goes, while the classes in `ready` (with `cls`) had something ready."""
        self._bulk_credit = _credit(
            self._bulk_credit,
            self._bulk_floor,
            is_waiting=bool(ready & _BULK),
            is_served=cls == SendClass.BULK,
        )
        self._others_credit = _credit(
            self._others_credit,
            self._others_floor,
            is_waiting=bool(ready & ~_REPLY),
            is_served=cls != SendClass.REPLY,
        )


def _credit(credit: int, share: int, *, is_waiting: bool, is_served: bool) -> int:
    """A waiting class gains `share` hundredths of a send with each send, and pays a whole one for its own."""
    if not is_waiting:
        return 0
    return min(max(credit + share - (100 if is_served else 0), 0), 100)

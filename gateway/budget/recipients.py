"""How many recipients a send has, of the sends that the node took in the last hour. Pure."""

from typing import Final

from gateway._fast.history import HOUR_S, SecondsHistory

_SENDS: Final = 0
_RECIPIENTS: Final = 1


class Recipients:
    """Sends and their recipients in the last hour, 31 kB. A group counts as the members we take it to have."""

    def __init__(self, now_ns: int) -> None:
        self._history = SecondsHistory(now_ns, rows=2)

    def sent(self, members: int, now_ns: int) -> None:
        """The node took a send to `members` recipients: 1, or a group's."""
        self._history.record(_SENDS, 1, now_ns)
        self._history.record(_RECIPIENTS, members, now_ns)

    def mean(self, now_ns: int) -> float | None:
        """Recipients of a send, over the whole seconds of the last hour; None: nothing was sent."""
        sends = self._history.count(_SENDS, HOUR_S, now_ns)
        return self._history.count(_RECIPIENTS, HOUR_S, now_ns) / sends if sends else None

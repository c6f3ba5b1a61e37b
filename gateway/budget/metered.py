"""The budget with its last hour: what is granted is entered in a `SecondsHistory` as well. Arrivals: `ArrivalMeter`."""

from gateway._fast.history import SecondsHistory
from gateway.budget.tps import TpsBudget
from gateway.events import TpsKind


class MeteredBudget:
    """A `TpsBudget` and its history, for the one who asks."""

    def __init__(self, budget: TpsBudget, history: SecondsHistory) -> None:
        self._budget = budget
        self._history = history

    def try_send(self, now_ns: int) -> int:
        """Grant and count one send (the answer is `now_ns`), or say when to ask again."""
        free_at_ns = self._budget.try_send(now_ns)
        if free_at_ns == now_ns:
            self._history.record(TpsKind.SEND, 1, now_ns)
        return free_at_ns

    def slow_down(self, now_ns: int) -> None:
        """The node asked us to slow down."""
        self._budget.slow_down(now_ns)

    def succeeded(self, now_ns: int) -> None:
        """The node took a send."""
        self._budget.succeeded(now_ns)

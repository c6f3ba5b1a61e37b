"""The independent counter: what crossed the wire at the number's end, counted again from nothing.

It knows no budget. For every send it looks at the second that ends when the send reaches the number, and adds
up the sends that reached it in that second and the events the number served in it which the gateway had been
told of when the send left. What nobody could know yet is not held against a send: light is not faster either.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Final

from gateway.clock import NS_PER_S
from gateway.events import TpsKind

FLOOR_SLACK: Final = 1.005
"""Of two sends one may be 5 ms longer on its way, so that more of them reach the number in a second than left in it."""
SHOWN_MAX: Final = 5
"""Violations told in words; the rest is a number."""


class WireCounter:
    """Takes notes during a run, and judges them afterwards. About 40 bytes an event."""

    def __init__(self, costs: dict[TpsKind, int], floor_percent: int = 0) -> None:
        """`floor_percent` of the plan may be sent although arrivals leave less."""
        self._costs = costs
        self._floor_percent = floor_percent
        self._served_ns: list[int] = []
        self._known_ns: list[int] = []
        self._cost_until: list[int] = [0]
        self._longest_way_ns = 0
        self._left_ns: list[int] = []
        self._offered_ns: list[int] = []
        self._limits: list[int] = []
        self.known: Counter[TpsKind] = Counter()
        """Events by kind that the gateway was told of, or that left it."""

    def served(self, kind: TpsKind, served_ns: int, known_ns: int) -> None:
        """The number served an event, and the gateway knows it at `known_ns`. In the order served."""
        assert not self._served_ns or served_ns >= self._served_ns[-1], served_ns
        assert known_ns >= served_ns, (served_ns, known_ns)
        self._served_ns.append(served_ns)
        self._known_ns.append(known_ns)
        self._cost_until.append(self._cost_until[-1] + self._costs[kind])
        self._longest_way_ns = max(self._longest_way_ns, known_ns - served_ns)

    def told(self, kind: TpsKind) -> None:
        """The gateway now knows of one event that was served."""
        self.known[kind] += 1

    def sent(self, left_ns: int, offered_ns: int, limit: int) -> None:
        """A send left while the plan was `limit` and reaches the number at `offered_ns`. In order of both."""
        assert not self._left_ns or (left_ns >= self._left_ns[-1] and offered_ns >= self._offered_ns[-1])
        self._left_ns.append(left_ns)
        self._offered_ns.append(offered_ns)
        self._limits.append(limit)
        self.known[TpsKind.SEND] += 1

    @property
    def sends_ns(self) -> list[int]:
        """When sends left."""
        return self._left_ns

    def cost_between(self, begin_ns: int, end_ns: int) -> int:
        """What was counted in `(begin_ns, end_ns]`: events by when they were served, sends by when they left."""
        first, last = (bisect_right(self._served_ns, ns) for ns in (begin_ns, end_ns))
        first_send, last_send = (bisect_right(self._left_ns, ns) for ns in (begin_ns, end_ns))
        sends = (last_send - first_send) * self._costs[TpsKind.SEND]
        return self._cost_until[last] - self._cost_until[first] + sends

    def told_between(self, begin_ns: int, end_ns: int, *, sends: bool = True) -> int:
        """What the gateway counted in `(begin_ns, end_ns]`: events by when it was told, sends by when they left."""
        events = sum(
            self._cost_until[n + 1] - self._cost_until[n]
            for n, known_ns in enumerate(self._known_ns)
            if begin_ns < known_ns <= end_ns
        )
        if not sends:
            return events
        first_send, last_send = (bisect_right(self._left_ns, ns) for ns in (begin_ns, end_ns))
        return events + (last_send - first_send) * self._costs[TpsKind.SEND]

    def sends_between(self, begin_ns: int, end_ns: int) -> int:
        """Sends that left in `[begin_ns, end_ns)`."""
        return bisect_left(self._left_ns, end_ns) - bisect_left(self._left_ns, begin_ns)

    def worst_windows(self) -> tuple[int, int]:
        """Least room left in the second that any send ended: of all events, and of sends alone.

        Below 0 the plan was exceeded.
        """
        rooms = [self._rooms(send) for send in range(len(self._left_ns))]
        return min((room for room, _ in rooms), default=0), min((room for _, room in rooms), default=0)

    def violations(self) -> list[str]:
        """Every second, in words, in which we sent although the plan had no room."""
        found: list[str] = []
        for send, limit in enumerate(self._limits):
            room, room_of_sends = self._rooms(send)
            if min(room, room_of_sends) < 0 and limit - room_of_sends > self._floor_events(limit):
                found.append(
                    f"send {send} at {self._offered_ns[send] / NS_PER_S:.6f} s: {limit - room} events in its second, "
                    f"{limit - room_of_sends} of them sends, allowed {limit}"
                )
        more = [f"and {len(found) - SHOWN_MAX} more sends beyond the plan"] if len(found) > SHOWN_MAX else []
        return found[:SHOWN_MAX] + more

    def _floor_events(self, limit: int) -> float:
        """Of sends in a second, that may pass the plan: the floor's share, a send saved up, and what is not whole.

        So arrivals have left less than that, or the sends of that second had their share and more.
        """
        if not self._floor_percent:
            return 0.0
        return limit * self._floor_percent / 100 * FLOOR_SLACK + self._costs[TpsKind.SEND] + 1

    def _rooms(self, send: int) -> tuple[int, int]:
        """What the plan had left in the second that `send` ends, with and without the events that arrived."""
        limit, left_ns = self._limits[send], self._left_ns[send]
        begin_ns = self._offered_ns[send] - NS_PER_S
        first_send = bisect_right(self._offered_ns, begin_ns)
        sends = (send + 1 - first_send) * self._costs[TpsKind.SEND]
        first = bisect_right(self._served_ns, begin_ns)
        last = bisect_right(self._served_ns, left_ns)
        events = self._cost_until[last] - self._cost_until[first] if last > first else 0
        # Only the youngest can have been on their way still.
        for n in range(max(first, bisect_right(self._served_ns, left_ns - self._longest_way_ns)), last):
            if self._known_ns[n] > left_ns:
                events -= self._cost_until[n + 1] - self._cost_until[n]
        return limit - sends - events, limit - sends

"""How much a number was used in one second, as seen from the node. Pure."""

from bisect import bisect_left, bisect_right

from gateway.clock import NS_PER_S
from gateway.events import TPS_KIND
from gateway.sim.journal import Journal


def worst_second_at_a_send(journal: Journal) -> int:
    """Most events in the second that ends with a send, that send included; 0 without sends.

    The gateway charges a callback somewhere between the begin of the attempt and its 200. So only those
    count here of which both lie in the second: what is on the wire at its edges is not held against it.
    """
    sends = sorted(entry.at_ns for entry in journal.sends)
    acked = sorted(
        (callback.acked_ns, callback.acked_ns - callback.ack_latency_ns)
        for callback in journal.callbacks
        # A repeat may be of an event that the gateway has counted long ago, before a crash took its 200 away.
        if callback.acked_ns >= 0 and callback.attempts == 1 and callback.kind in TPS_KIND
    )
    ends = [end_ns for end_ns, _ in acked]
    worst = 0
    for index, at_ns in enumerate(sends):
        after_ns = at_ns - NS_PER_S
        first, last = bisect_right(ends, after_ns), bisect_right(ends, at_ns)
        callbacks = sum(1 for _, begin_ns in acked[first:last] if begin_ns > after_ns)
        worst = max(worst, index + 1 - bisect_right(sends, after_ns) + callbacks)
    return worst


def busiest_second(journal: Journal) -> int:
    """Most events of all kinds in any second, sends or not: what arrives by itself cannot be refused."""
    times = [entry.at_ns for entry in journal.sends]
    times += [c.acked_ns for c in journal.callbacks if c.acked_ns >= 0 and c.kind in TPS_KIND]
    times.sort()
    return max((n + 1 - bisect_left(times, at_ns - NS_PER_S + 1) for n, at_ns in enumerate(times)), default=0)

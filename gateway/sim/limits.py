"""Limits other than the plan, checked from the times of sends alone: smoothing, the pair limit, and 429.

As the counter of the plan they know nothing of the parts that keep them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from gateway.clock import NS_PER_S
from gateway.sim.counter import WireCounter
from gateway.sim.workload import Push

SHOWN_MAX: Final = 3
PAUSE_NS: Final = 2 * NS_PER_S
"""Nothing goes so long after 429."""
SLOW_NS: Final = 10 * NS_PER_S
SLOW_SHARE: Final = 0.8
"""Of the rate aimed at, at most, in the 10 s after the pause: 0.7, and a hundredth more with each second."""
FAR_NS: Final = 1 << 62
_ROUNDING: Final = 1e-6


def bursts(sends_ns: Sequence[int], cost: int, saved: float, per_s: float) -> list[str]:
    """Where a span of t seconds has more than `saved` + t * `per_s` events of sends that cost `cost`, in words."""
    found = []
    level, last_ns = saved, 0
    for at_ns in sends_ns:
        level = min(saved, level + (at_ns - last_ns) * per_s / NS_PER_S) - cost
        last_ns = at_ns
        if level < -_ROUNDING:
            found.append(
                f"the send at {at_ns / NS_PER_S:.6f} s is {-level:.2f} events more than smoothing allows"
            )
            level = 0.0
    return _shown(found)


def pairs(
    sends: Sequence[tuple[int, Push]], interval_ns: int, burst: int, restarts_ns: Sequence[int]
) -> list[str]:
    """Where one recipient got more than `burst` + t / `interval_ns` in a span of t, in words.

    Group sends are of no pair. After a restart nothing is known of what was before.
    """
    found = []
    for recipient, of_one in _by_recipient(sends, restarts_ns):
        whole_ns = 0  # when all of the burst is there again
        for at_ns, _ in of_one:
            whole_ns = max(whole_ns, at_ns) + interval_ns
            if whole_ns - at_ns > burst * interval_ns:
                found.append(f"{recipient} at {at_ns / NS_PER_S:.6f} s: more than its pair limit allows")
                whole_ns = at_ns + burst * interval_ns
    return _shown(found)


def _by_recipient(
    sends: Sequence[tuple[int, Push]], restarts_ns: Sequence[int]
) -> list[tuple[str, list[tuple[int, Push]]]]:
    """Sends to single chats, by recipient and time between restarts."""
    found: dict[tuple[str, int], list[tuple[int, Push]]] = {}
    for at_ns, push in sends:
        if not push.members:
            found.setdefault((push.recipient, bisect_right(restarts_ns, at_ns)), []).append((at_ns, push))
    return [(recipient, of_one) for (recipient, _), of_one in found.items()]


def slowed(
    counter: WireCounter,
    refused_ns: Sequence[int],
    restarts_ns: Sequence[int],
    saved: float,
    aim_per_s: float,
) -> list[str]:
    """Where sends went on as if the node had not said 429 at `refused_ns`, in words.

    Until the next 429 or restart: nothing for 2 s, then everything together at most `SLOW_SHARE` of `aim_per_s`.
    """
    found = []
    sends_ns = counter.sends_ns
    for at_ns in refused_ns:
        others_ns = [other_ns for other_ns in (*refused_ns, *restarts_ns) if other_ns > at_ns]
        until_ns = min(others_ns, default=FAR_NS)
        after_ns = min(at_ns + PAUSE_NS, until_ns)
        in_pause = bisect_left(sends_ns, after_ns) - bisect_right(sends_ns, at_ns)
        if in_pause:
            found.append(f"{in_pause} sends in the 2 s after 429 at {at_ns / NS_PER_S:.6f} s")
        sent = bisect_left(sends_ns, min(after_ns + SLOW_NS, until_ns))
        if not sent or sends_ns[sent - 1] <= after_ns:
            continue
        last_ns = sends_ns[sent - 1]
        allowed = saved + SLOW_SHARE * aim_per_s * (last_ns - after_ns) / NS_PER_S
        events = counter.told_between(after_ns, last_ns)
        # Arrivals can't be slowed down: more of them than are allowed leave sends nothing, which is another promise.
        if events > allowed and counter.told_between(after_ns - SLOW_NS, last_ns, sends=False) < allowed:
            found.append(
                f"{events} events, {allowed:.1f} allowed, in {(last_ns - after_ns) / NS_PER_S:.1f} s after the pause "
                f"for 429 at {at_ns / NS_PER_S:.6f} s"
            )
    return _shown(found)


def _shown(found: list[str]) -> list[str]:
    more = [f"and {len(found) - SHOWN_MAX} more of it"] if len(found) > SHOWN_MAX else []
    return found[:SHOWN_MAX] + more

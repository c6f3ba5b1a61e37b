"""The fan-out window: receipts that group sends have caused and that have not come yet.

A message to M members causes up to M `delivered` within seconds, and nothing stops them once it is sent: at 10 TPS a
group of 256 is half a minute of the number's time, spent in front of every message that comes in meanwhile. So the
next group send waits until the receipts of those before have come, while sends to single chats go on.

Rules, for a send that is expected to cause k receipts (k = 1 is a single chat: never held, never tracked):
1. It goes when no receipts are outstanding, or when with its own they come to no more than the window: a time at the
   rate of the plan, 5 s by default.
2. If k alone is above that, it is *large*, and goes no sooner than three times its predecessor's k / TPS after it: in
   two thirds of the time single chats have the number.
3. A large one goes into *quiet* only: what arrived in 10 s is at most a quarter of the plan. When only that is missing
   the pacer *clears* the way: sends of its class and below wait, for 20 s at most; then it goes anyway.
4. After a large one sends of its class and below *hush* for 2 s: until its first receipts are here the budget sees an
   idle number and would let them go at the full rate, right in front of the flood.

Simulated (`gateway.sim.pacing`): an endless campaign at 10 TPS and ten messages to groups of 256, wait of incoming
messages at the number over two hours, p99, mean of eight seeds: 17.4 s (17.9 at most); without rule 4 18.2 s, without
rules 3 and 4 18.5 s, with no window 41 s. At 20 TPS 5.4 s. One group of 256 alone makes 17.3 s at its worst moment.
The last of the ten goes after 14 minutes; while a large one's receipts come, campaigns stand still.

An entry shrinks as receipts for its WhatsApp id come and leaves after 20 s whatever is missing. Receipts may come
before the answer that names the id: as long as a send is unnamed, those for unknown ids are kept aside.
Bounds: entries ENTRIES_MAX; ids kept aside EARLY_IDS_MAX, of each EARLY_RECEIPTS_MAX; participants seen, k an entry.
Cost: a receipt is two dict look-ups; a verdict a few of them, and a walk over entries only when it must wait.
"""

import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway._fast.window import SlidingWindow
from gateway.clock import NS_PER_S

WINDOW_MS: Final = 5_000
"""Of the plan, that may be outstanding by default: what an incoming message then waits at most."""
EXPIRY_NS: Final = 20 * NS_PER_S
"""Of phones that are on, all but a few per cent answer within it (lognormal, median 2 s); the rest come one by one."""
GAP_FACTOR: Final = 3
QUIET_NS: Final = 10 * NS_PER_S
QUIET_PERCENT: Final = 25
CLEAR_MAX_NS: Final = 20 * NS_PER_S
"""Longest that single chats wait for the sake of a group."""
HUSH_NS: Final = 2 * NS_PER_S
"""Half of the receipts have come by then, and the budget sees the rest. Without it p99 of the study is 0.75 s more."""

ENTRIES_MAX: Final = 4_096
"""Group sends on their way at once. At 5,000 TPS and ten members each the window itself allows 2,500."""
EARLY_IDS_MAX: Final = 64
"""Ids kept aside: twice the sends that are usually under way at the node at once."""
EARLY_RECEIPTS_MAX: Final = 1_024
"""Of one id: as many as the largest group has members."""
_WINDOW_ENTRIES: Final = (1_024, 65_536)


class Verdict(enum.Enum):
    """Whether a group send may go."""

    GO = 0
    WAIT = 1
    """Not before the time given, or `on_room`. Everything else may."""
    CLEAR = 2
    """Not before the time given; meanwhile nothing of its class or below may."""


class Ruling(NamedTuple):
    """A verdict, and when to ask again (now for GO)."""

    verdict: Verdict
    until_ns: int


class _Entry:
    __slots__ = ("expires_ns", "left", "message_id", "seen", "token")

    def __init__(self, token: int, left: int, expires_ns: int) -> None:
        self.token = token
        self.left = left
        self.expires_ns = expires_ns
        self.message_id = ""
        self.seen: set[str] = set()


class FanOut:
    """The books of what group sends have caused. Pure: time comes in as `now_ns`, which never runs back."""

    def __init__(
        self, tps: int, cost: int = 1, started_ns: int | None = None, *, window_ms: int = WINDOW_MS
    ) -> None:
        """`tps` is the plan, `cost` what one receipt takes from it; `window_ms` of the plan may be outstanding.

        After a start at `started_ns` large sends wait as long as the receipts of one before it might still come.
        """
        assert tps >= 1, tps
        assert cost >= 1, "receipts that cost nothing need no window"
        assert window_ms >= 1, "no window is no FanOut"
        self.tps = tps
        """May be changed at any time."""
        self._cost = cost
        self._window_ms = window_ms
        low, high = _WINDOW_ENTRIES
        self.arrivals = SlidingWindow(QUIET_NS, min(max(low, 2 * tps * QUIET_NS // NS_PER_S), high))
        """What was used by what came in, as `charge_arrival` enters it: quiet is measured by it."""
        self._entries: dict[int, _Entry] = {}
        """By token, oldest first: so the first one is the next to expire."""
        self._named: dict[str, _Entry] = {}
        self._early: dict[str, list[str]] = {}
        """Participants whose receipts came for an id nobody has named, while something was unnamed."""
        self._unnamed = 0
        self._last_token = 0
        self._gap_until_ns = 0 if started_ns is None else started_ns + EXPIRY_NS
        self._gap_token = 0
        self._clearing_until_ns: int | None = None
        self.hush_until_ns = 0
        """Until then nothing of the class of the last large send or below may go."""
        self._room_wanted: int | None = None
        """Someone waits until no more than this is outstanding."""
        self.outstanding = 0
        """Receipts expected and not come."""
        self.on_room: Callable[[], None] = lambda: None
        """Called once when there is room for the send that was told to WAIT for it."""

    @property
    def limit(self) -> int:
        """Receipts that may be outstanding beside others; a send that causes more is large."""
        return self.tps * self._window_ms // (1_000 * self._cost)

    def verdict(self, k: int, now_ns: int) -> Ruling:
        """Whether a send that will cause `k` receipts may go now. Changes no books but those of clearing."""
        self._room_wanted = None
        if k <= 1:
            return Ruling(Verdict.GO, now_ns)
        self.expire(now_ns)
        is_large = k > self.limit
        if is_large and now_ns < self._gap_until_ns:
            return Ruling(Verdict.WAIT, self._gap_until_ns)
        if not self._fits(k, self.outstanding, len(self._entries)):
            self._room_wanted = max(0, self.limit - k)
            return Ruling(Verdict.WAIT, self._fits_at_ns(k))
        if is_large and (until_ns := self._quiet_at_ns(now_ns)) > now_ns:
            return Ruling(Verdict.CLEAR, until_ns)
        return Ruling(Verdict.GO, now_ns)

    def _fits(self, k: int, outstanding: int, entries: int) -> bool:
        return not entries or (outstanding + k <= self.limit and entries < ENTRIES_MAX)

    def _fits_at_ns(self, k: int) -> int:
        """When it fits if no receipt comes at all."""
        left, entries = self.outstanding, len(self._entries)
        at_ns = 0
        for entry in self._entries.values():
            left, entries, at_ns = left - entry.left, entries - 1, entry.expires_ns
            if self._fits(k, left, entries):
                break
        return at_ns

    def _quiet_at_ns(self, now_ns: int) -> int:
        """When it is quiet if nothing more arrives, but no later than the end of clearing, which may begin now."""
        quiet = self.tps * QUIET_NS // NS_PER_S * QUIET_PERCENT // 100
        quiet_at_ns = self.arrivals.free_at_ns(now_ns, 0, quiet)
        if quiet_at_ns <= now_ns:
            return now_ns
        if self._clearing_until_ns is None:
            self._clearing_until_ns = now_ns + CLEAR_MAX_NS
        return min(quiet_at_ns, self._clearing_until_ns)

    def open(self, k: int, now_ns: int) -> int:
        """A send that will cause `k` receipts goes; the token stands for it. 0: not tracked (`k` up to 1)."""
        if k <= 1:
            return 0
        self.expire(now_ns)
        assert len(self._entries) < ENTRIES_MAX, "a send was let go that the verdict had not allowed"
        self._last_token += 1
        token = self._last_token
        self._entries[token] = _Entry(token, k, now_ns + EXPIRY_NS)
        self.outstanding += k
        self._unnamed += 1
        if k > self.limit:
            self._gap_until_ns = now_ns - (-GAP_FACTOR * k * self._cost * NS_PER_S // self.tps)
            self._gap_token = token
            self.hush_until_ns = now_ns + HUSH_NS
            self._clearing_until_ns = None
        return token

    def name(self, token: int, message_id: str, now_ns: int) -> None:
        """The node took the send and calls it `message_id` (empty: it said no id, and the entry just expires)."""
        self.expire(now_ns)
        early = self._early.pop(message_id, [])
        entry = self._entries.get(token)
        if entry is None or entry.message_id or not message_id:
            return
        if message_id in self._named:
            return  # an id given twice: the receipts are the first one's
        entry.message_id = message_id
        self._named[message_id] = entry
        self._one_unnamed_less()
        for participant in early:
            self._count(entry, participant)
        self._tell_of_room()

    def cancel(self, token: int, now_ns: int) -> None:
        """The node refused the send: it causes nothing, and the next large one needs no gap after it."""
        self.expire(now_ns)
        entry = self._entries.get(token)
        if entry is not None:
            self._drop(entry)
        if token and token == self._gap_token:
            self._gap_until_ns = 0
            self.hush_until_ns = 0
        self._tell_of_room()

    def arrived(self, message_id: str, participant: str, now_ns: int) -> None:
        """A participant's delivered or read has come. The second one of a participant counts nothing.

        Without a participant (empty) each counts: tell only of delivered then.
        """
        self.expire(now_ns)
        entry = self._named.get(message_id)
        if entry is not None:
            self._count(entry, participant)
            self._tell_of_room()
        elif self._unnamed and message_id:
            self._keep_aside(message_id, participant)

    def charge_arrival(self, count: int, now_ns: int) -> None:
        """So much of the plan was used by what came in, of whatever kind: quiet is measured by it."""
        if count:
            self.arrivals.record(now_ns, count)

    def expire(self, now_ns: int) -> None:
        """Forget what should have come by now. Every other call does it too."""
        while self._entries:
            entry = next(iter(self._entries.values()))
            if entry.expires_ns > now_ns:
                break
            self._drop(entry)

    def _count(self, entry: _Entry, participant: str) -> None:
        if entry.left == 0 or participant in entry.seen:
            return
        if participant:
            entry.seen.add(participant)
        entry.left -= 1
        self.outstanding -= 1
        if entry.left == 0:
            self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        del self._entries[entry.token]
        self.outstanding -= entry.left
        entry.left = 0
        assert self.outstanding >= 0, self.outstanding
        if entry.message_id:
            del self._named[entry.message_id]
        else:
            self._one_unnamed_less()

    def _one_unnamed_less(self) -> None:
        self._unnamed -= 1
        assert self._unnamed >= 0, self._unnamed
        if not self._unnamed:
            self._early.clear()  # nobody is left whose receipts these could be

    def _keep_aside(self, message_id: str, participant: str) -> None:
        kept = self._early.get(message_id)
        if kept is None:
            if len(self._early) >= EARLY_IDS_MAX:
                del self._early[next(iter(self._early))]
            kept = self._early[message_id] = []
        if len(kept) < EARLY_RECEIPTS_MAX:
            kept.append(participant)

    def _tell_of_room(self) -> None:
        if self._room_wanted is not None and self.outstanding <= self._room_wanted:
            self._room_wanted = None
            self.on_room()

    def early(self) -> int:
        """Ids kept aside, out of EARLY_IDS_MAX."""
        return len(self._early)

    def entries(self) -> int:
        """Group sends whose receipts are expected, out of ENTRIES_MAX."""
        return len(self._entries)

"""How many members a group has: as the node says, or as many as its messages have reached.

A number that nobody knows is asked for: `wanted` names the groups, whoever may wait asks the node and calls `told`.
Until then, for two seconds at most, a send to the group waits; then the largest size is assumed.
Pure; bounded by GROUPS_MAX, the group not written to for longest being forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.budget.ratios import Ratios
from gateway.clock import NS_PER_S

GROUPS_MAX: Final = 10_000
"""As many as a number may have in the Cloud API; about 3 MB."""
MEMBERS_ASSUMED: Final = 256
"""Of a group we know nothing of: too many holds sends a while, too few lets the number drown."""
ASK_WAIT_NS: Final = 2 * NS_PER_S
"""Longest wait of a send for the node's word. The WebApp answers in tens of milliseconds, or is in trouble."""
FAILURE_AGE_NS: Final = 300 * NS_PER_S
"""How long we don't ask again after a failure."""
ANSWER_AGE_NS: Final = 24 * 3600 * NS_PER_S
"""How long an answer is used before it is asked for again, in the background: members come and go."""
WANTED_MAX: Final = 256
"""Groups waiting to be asked for; beyond it one is asked for when it is looked at again."""


class _Group:
    __slots__ = ("ask_at_ns", "members", "wait_until_ns")

    def __init__(self) -> None:
        self.members = 0
        """0: not known."""
        self.ask_at_ns = 0
        """Not asked before then."""
        self.wait_until_ns = -1
        """Until when sends wait for the answer; -1 when nobody has asked."""


class GroupSizes:
    """Members by group id."""

    def __init__(self, ratios: Ratios, *, asks: bool = True) -> None:
        """`asks`: whether there is a node that can be asked."""
        self.ratios = ratios
        ratios.on_reached = self.reached
        self.on_wanted: Callable[[], None] = lambda: None
        """Called when `next_wanted` has a group."""
        self._asks = asks
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._members_sum = 0
        self._known = 0

    def look(self, group_id: str, now_ns: int) -> tuple[int, int]:
        """The members of a group, and until when it is worth to wait for a better answer (`now_ns`: it is not)."""
        self.ratios.settle(now_ns)
        group = self._group(group_id)
        if self._asks and now_ns >= group.ask_at_ns and len(self._wanted) < WANTED_MAX:
            # The time of the next asking is set now, so that one question is open at a time.
            group.ask_at_ns = now_ns + FAILURE_AGE_NS
            group.wait_until_ns = now_ns + ASK_WAIT_NS
            self._wanted[group_id] = None
            self.on_wanted()
        if group.members:
            return group.members, now_ns
        return MEMBERS_ASSUMED, max(now_ns, group.wait_until_ns)

    def next_wanted(self) -> str | None:
        """A group to ask the node for, once; None: there is none."""
        return self._wanted.popitem(last=False)[0] if self._wanted else None

    def told(self, group_id: str, members: int | None, now_ns: int) -> None:
        """The node's answer: members without ourselves, or None when it gave none. Sends stop waiting for it."""
        group = self._group(group_id)
        group.wait_until_ns = -1
        group.ask_at_ns = now_ns + (FAILURE_AGE_NS if members is None else ANSWER_AGE_NS)
        if members is not None:
            self._set(group, members)

    def reached(self, group_id: str, participants: int) -> None:
        """A message to the group has come to so many distinct participants: it has at least as many members."""
        group = self._groups.get(group_id)
        if group is not None and participants > group.members:
            self._set(group, participants)

    def _group(self, group_id: str) -> _Group:
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = _Group()
            if len(self._groups) > GROUPS_MAX:
                forgotten_id, forgotten = self._groups.popitem(last=False)
                self._set(forgotten, 0)
                self._wanted.pop(forgotten_id, None)
        else:
            self._groups.move_to_end(group_id)
        return group

    def _set(self, group: _Group, members: int) -> None:
        self._members_sum += members - group.members
        self._known += (members > 0) - (group.members > 0)
        group.members = members

    def known(self) -> int:
        """Groups whose size is known."""
        return self._known

    @property
    def members_mean(self) -> float:
        """Of the groups whose size is known; 0 when there are none."""
        return self._members_sum / self._known if self._known else 0.0

    @property
    def members_expected(self) -> float:
        """Of a group that we are told nothing more of: the mean, or what is assumed where none is known."""
        return self.members_mean or MEMBERS_ASSUMED

    @property
    def delivered_ratio(self) -> float:
        return self.ratios.delivered_ratio

    @property
    def read_ratio(self) -> float:
        return self.ratios.read_ratio

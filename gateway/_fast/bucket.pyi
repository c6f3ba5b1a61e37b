"""Token bucket (GCRA) that can go into bounded debt."""

from typing import Final, Self, final

NEVER_NS: Final[int]
"""2**63 - 1: the time that never comes."""

@final
class TokenBucket:
    """One token each `interval_ns`, whole tokens only, in exact integer nanoseconds.

    With Z the time at which the bucket holds exactly nothing, the level at `t` is `(t - Z) / interval_ns` tokens.
    Idle time saves at most `1 + burst_ns / interval_ns` tokens: at `t`, Z is never before `t - interval_ns - burst_ns`.
    Debt is at most `debt_max_ns`: at the time of a debit, Z is never after `now_ns + debt_max_ns`,
    so the next token comes no later than `now_ns + interval_ns + debt_max_ns`.
    The bucket starts empty, Z = `start_ns`: its first token exists at `start_ns + interval_ns`.

    Time never runs back: a `now_ns` before the newest one of a changing call is taken as that one.
    `now_ns` above 4e18, and a cost outside 0..1e6, raise ValueError in every method. Each is O(1).
    """

    def __new__(cls, interval_ns: int, burst_ns: int, debt_max_ns: int, start_ns: int) -> Self:
        """Make an empty bucket.

        `interval_ns` is 1..1e12, `burst_ns` and `debt_max_ns` 0..1e18, `start_ns` 0..4e18; else ValueError.
        """

    @property
    def interval_ns(self) -> int:
        """Time in which one token grows."""

    @property
    def burst_ns(self) -> int:
        """Time that may be saved up beyond one token."""

    @property
    def debt_max_ns(self) -> int:
        """The furthest the level's zero may lie ahead."""

    def debit(self, now_ns: int, cost: int) -> None:
        """Take `cost` tokens whether they are there or not; what exceeds `debt_max_ns` is forgiven."""

    def ready_at_ns(self, now_ns: int, cost: int) -> int:
        """Earliest time, `now_ns` or later, at which `cost` whole tokens are there; takes nothing.

        Taking them at exactly that time is allowed, one nanosecond before is not.
        `NEVER_NS` when the bucket can't save that many: `cost * interval_ns > interval_ns + burst_ns`.
        Cost 0 asks when the debt is paid.
        """

    def try_take(self, now_ns: int, cost: int) -> int:
        """Take `cost` tokens and return `now_ns`, or take nothing and return `ready_at_ns(now_ns, cost)`.

        They were taken if, and only if, the answer equals `now_ns`.
        """

    def debt_ns(self, now_ns: int) -> int:
        """Time until the level is back at zero; 0 without debt, at most `debt_max_ns`."""

    def set_interval_ns(self, now_ns: int, interval_ns: int) -> None:
        """Change the rate from now on, and keep the level in tokens, saved or owed.

        The level is rounded down by less than a nanosecond's worth.
        Both bounds then hold at the new interval: savings beyond them are dropped, debt beyond them is forgiven.
        `interval_ns` is 1..1e12, else ValueError.
        """

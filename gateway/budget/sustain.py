"""What a send costs a number, and how many a second it can go on sending. Pure.

One formula carries it all. A send costs its own events and those it causes,

    cost = cost.send + delivered_per_send * cost.delivered + read_per_send * cost.read

and what the plan leaves after headroom and arrivals pays for so many of them a second:

    sends_per_s = (plan * (1 - headroom) - inbound * cost.receive) / cost

A plan of 10 TPS, 5 % headroom, 1 message/s received, receipts 0.95 and 0.70: (9.5 - 1) / 2.65 = 3.2075 sends/s.
"""

import math
from typing import Final, Literal

import msgspec

from gateway.budget.shards import SHARD_COUNTS
from gateway.config import Dialect, TpsCost

DELIVERED_RATIO: Final = 0.95
"""Delivery receipts per recipient where we have not measured."""
READ_RATIO: Final = 0.70
"""Read receipts per recipient where we have not measured: many users switch theirs off."""

MESSAGES_PER_SHARD: Final = 10
"""Messages a second that one shard of an On-Premises node carries: the planning figure of Meta's own templates."""
MESSAGES_MAX: Final = 250
"""Messages a second beyond which Meta supports no On-Premises node, however many shards."""

Receipts = Literal["all", "no_read", "no_delivered", "neither"]
"""Which receipts the node reports: `webhooks.message.delivered` and `.read` of its settings."""
RECEIPTS: Final[tuple[Receipts, ...]] = ("all", "no_read", "no_delivered", "neither")


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What the number gets beside its sends, and what a send causes."""

    inbound_per_s: float
    """Messages received."""
    delivered_per_send: float
    """Delivery receipts; more than 1 where sends go to groups."""
    read_per_send: float

    def to_recipients(self, factor: float) -> "Traffic":
        """The same for sends to `factor` times as many recipients."""
        return msgspec.structs.replace(
            self,
            delivered_per_send=self.delivered_per_send * factor,
            read_per_send=self.read_per_send * factor,
        )

    def reporting(self, receipts: Receipts) -> "Traffic":
        """The same with the receipts of a kind switched off at the node."""
        is_read_off = receipts in {"no_read", "neither"}
        is_delivered_off = receipts in {"no_delivered", "neither"}
        return msgspec.structs.replace(
            self,
            delivered_per_send=0.0 if is_delivered_off else self.delivered_per_send,
            read_per_send=0.0 if is_read_off else self.read_per_send,
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a number, and what counts against it."""

    dialect: Dialect
    plan_tps: float
    """Of the number."""
    headroom_percent: float
    costs: TpsCost
    send_floor_percent: float = 0.0
    """Share of the plan that sends keep although arrivals fill it, what they cause not counted."""
    shards: int = 1
    """Shards of the node. This gateway serves one: rates and traffic are those of its part of the plan."""
    own_part_tps: float | None = None
    """Our part, where it is not exactly one of `shards` equal ones."""
    ceiling_events_per_s: float = math.inf
    """What the node has shown to stand, arrivals included."""

    @property
    def part_tps(self) -> float:
        """This gateway's part of the plan."""
        return self.plan_tps / self.shards if self.own_part_tps is None else self.own_part_tps

    @property
    def aim_events_per_s(self) -> float:
        """What may be used: our part of the plan less the headroom, or the ceiling if that is lower."""
        return min(self.part_tps * (100 - self.headroom_percent) / 100, self.ceiling_events_per_s)


def cost_of_send(costs: TpsCost, traffic: Traffic) -> float:
    """Events that one send takes from the plan, those it causes included."""
    caused = traffic.delivered_per_send * costs.delivered + traffic.read_per_send * costs.read
    return costs.send + caused


def sustainable_sends_per_s(terms: Terms, traffic: Traffic) -> float:
    """Sends a second that can go on for ever; 0 when arrivals leave nothing, infinite when a send costs nothing.

    A send floor is granted whatever it does to the plan, so the rate is not below it.
    """
    cost = cost_of_send(terms.costs, traffic)
    left = terms.aim_events_per_s - traffic.inbound_per_s * terms.costs.receive
    if cost == 0:
        return math.inf
    return max(floor_sends_per_s(terms), left / cost)


def floor_sends_per_s(terms: Terms) -> float:
    """Sends a second that the send floor grants by itself."""
    if not terms.send_floor_percent or not terms.costs.send:
        return 0.0
    return terms.part_tps * terms.send_floor_percent / 100 / terms.costs.send


def drain_s(waiting_sends: int, sends_per_s: float) -> float | None:
    """Seconds until all that waits is sent; None is never."""
    if waiting_sends == 0:
        return 0.0
    return waiting_sends / sends_per_s if sends_per_s > 0 else None


def shards_for(messages_per_s: float) -> int | None:
    """The fewest shards that carry so many messages a second; None: no number of them does."""
    for shards in SHARD_COUNTS:
        if messages_per_s <= shard_capacity(shards):
            return shards
    return None


def shard_capacity(shards: int) -> int:
    """Messages a second that so many shards carry."""
    return min(shards * MESSAGES_PER_SHARD, MESSAGES_MAX)

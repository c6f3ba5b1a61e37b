"""The budget explains itself: what a send costs, how fast sends can go, and what would change that. Pure."""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.budget import wording
from gateway.budget.shards import SHARD_COUNTS
from gateway.budget.sustain import (
    MESSAGES_MAX,
    MESSAGES_PER_SHARD,
    RECEIPTS,
    Receipts,
    Terms,
    Traffic,
    cost_of_send,
    drain_s,
    shard_capacity,
    shards_for,
    sustainable_sends_per_s,
)
from gateway.config import Dialect, TpsCost
from gateway.config.settings import CLOUD_PRESET
from gateway.events import TpsKind

ONPREM_PLANS_TPS: Final = (10, 15, 20)
CLOUD_PLANS_TPS: Final = (80, 1_000)
"""The Cloud API's default, and what it raises numbers to."""


Source = Literal["measured", "default", "given", "assumed"]
"""Where the receipts per send come from: the last hour, usual ratios because the hour tells too little, the caller,
or usual ratios because the caller gave none."""
Limit = Literal["plan", "ceiling", "inbound", "floor", "nothing"]
"""Why sends go no faster: the plan, what the node stands, or arrivals that fill the plan, with or without a send
floor that grants some all the same; or nothing, where a send costs nothing."""


class PlannedUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind will use while sends go as fast as they can; `all` is their weighed sum."""

    kind: str
    events_per_s: float
    share_of_plan_percent: float
    events: float | None
    """Until all sends are out; null when that is never."""


class SendCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one send really takes from the plan."""

    events: float
    """The sum of the three below."""
    own_events: int
    delivered_events: float
    """Its delivery receipts, each at its cost."""
    read_events: float
    delivered_per_send: float
    read_per_send: float
    recipients_mean: float
    """Of a send: 1, or a group's members."""
    source: Source
    measured_sends: int
    """Sends of the last hour: what was measured on, or what was too few or too uneven for it."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """How it would be under a plan, with these receipts reported."""

    dialect: Dialect
    plan_tps: float
    """Of the number."""
    part_tps: float
    """Of it, for this gateway: all, or a part where the node has shards."""
    receipts: Receipts
    send_cost_events: float
    sends_per_s: float | None
    """Null: a send costs nothing, so the plan sets no limit."""
    drain_s: float | None
    """Until what waits is sent; null: never."""
    shards_needed: int | None
    """For sends and arrivals of the whole number; null: no number of shards, or the Cloud API, which has none."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would change the rate: in words, and what it leads to."""

    change: Literal["plan", "receipts"]
    sentence: str
    option: Option


class ShardSize(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the sizing table of an On-Premises node."""

    shards: int
    messages_per_s: int
    """Sent and received, that so many shards carry."""
    is_enough: bool
    """For what the plan allows now."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a report that looks ahead."""

    plan_tps: float
    """Of the number."""
    part_tps: float
    """Of it, for this gateway."""
    headroom_percent: float
    inbound_per_s: float
    send_cost: SendCost
    now: Option
    limited_by: Limit
    waiting_sends: int
    waiting_recipients_mean: float
    """Of a send that waits; what it costs and the time until all are out follow from it."""
    planned: list[PlannedUse]
    changes: list[Change]
    options: list[Option]
    """Every plan with every choice of receipts that makes a difference, the plan of now first."""
    shards: int
    shard_sizes: list[ShardSize]
    """Empty for the Cloud API."""
    shards_sentence: str


def advise(
    terms: Terms,
    traffic: Traffic,
    waiting_sends: int,
    source: Source = "given",
    measured_sends: int = 0,
    *,
    recipients_mean: float = 1.0,
    waiting_recipients_mean: float | None = None,
) -> Advice:
    """What a send costs under `terms`, how fast sends go, when those waiting are out, and what would change it.

    `traffic` is of sends to `recipients_mean` each; those waiting go to `waiting_recipients_mean` each, or as many.
    """
    waiting_mean = recipients_mean if waiting_recipients_mean is None else waiting_recipients_mean
    waiting = _Waiting(waiting_sends, traffic.to_recipients(waiting_mean / recipients_mean))
    now = _option(terms, traffic, waiting, "all")
    planned = _planned(terms, traffic, now, waiting)
    options = [
        _option(other, traffic, waiting, receipts)
        for other in _plans(terms)
        for receipts in _choices(other.costs, traffic)
    ]
    return Advice(
        plan_tps=terms.plan_tps,
        part_tps=terms.part_tps,
        headroom_percent=terms.headroom_percent,
        inbound_per_s=traffic.inbound_per_s,
        send_cost=SendCost(
            events=now.send_cost_events,
            own_events=terms.costs.send,
            delivered_events=traffic.delivered_per_send * terms.costs.delivered,
            read_events=traffic.read_per_send * terms.costs.read,
            delivered_per_send=traffic.delivered_per_send,
            read_per_send=traffic.read_per_send,
            recipients_mean=recipients_mean,
            source=source,
            measured_sends=measured_sends,
        ),
        now=now,
        limited_by=_limit(terms, traffic, now),
        waiting_sends=waiting_sends,
        waiting_recipients_mean=waiting_mean,
        planned=planned,
        changes=_changes(now, options, planned, waiting_sends),
        options=options,
        shards=terms.shards,
        shard_sizes=_sizes(terms, traffic, now),
        shards_sentence=_shards_sentence(terms, traffic, now),
    )


class _Waiting(NamedTuple):
    sends: int
    traffic: Traffic
    """While they go out: their receipts per send are their own."""


def _option(terms: Terms, traffic: Traffic, waiting: _Waiting, receipts: Receipts) -> Option:
    reported = traffic.reporting(receipts)
    rate = sustainable_sends_per_s(terms, reported)
    rate_of_waiting = sustainable_sends_per_s(terms, waiting.traffic.reporting(receipts))
    has_shards = terms.dialect == "onprem"
    return Option(
        dialect=terms.dialect,
        plan_tps=terms.plan_tps,
        part_tps=terms.part_tps,
        receipts=receipts,
        send_cost_events=cost_of_send(terms.costs, reported),
        sends_per_s=rate if math.isfinite(rate) else None,
        drain_s=drain_s(waiting.sends, rate_of_waiting),
        shards_needed=shards_for((rate + traffic.inbound_per_s) * terms.shards) if has_shards else None,
    )


def _plans(terms: Terms) -> list[Terms]:
    """The terms of now, and those of the other plans there are."""
    sizes = ONPREM_PLANS_TPS if terms.dialect == "onprem" else CLOUD_PLANS_TPS
    others = [
        # The ceiling belongs to the plan of now: a number that is given more is given it by the node too.
        msgspec.structs.replace(terms, plan_tps=tps, own_part_tps=None, ceiling_events_per_s=math.inf)
        for tps in sizes
        if tps != terms.plan_tps
    ]
    if terms.dialect == "onprem":
        others.append(
            Terms(
                dialect="cloud",
                plan_tps=CLOUD_PRESET["tps"],
                shards=terms.shards,
                headroom_percent=0,
                costs=CLOUD_PRESET["tps_cost"],
                send_floor_percent=terms.send_floor_percent,
            )
        )
    return [terms, *others]


def _choices(costs: TpsCost, traffic: Traffic) -> Sequence[Receipts]:
    """The choices of receipts that lead to different rates."""
    has_read = costs.read * traffic.read_per_send > 0
    has_delivered = costs.delivered * traffic.delivered_per_send > 0
    matters = {"all": True, "no_read": has_read, "no_delivered": has_delivered}
    return [name for name in RECEIPTS if matters.get(name, has_read and has_delivered)]


def _limit(terms: Terms, traffic: Traffic, now: Option) -> Limit:
    if now.sends_per_s is None:
        return "nothing"
    if now.sends_per_s == 0:
        return "inbound"
    without_floor = msgspec.structs.replace(terms, send_floor_percent=0.0)
    if sustainable_sends_per_s(without_floor, traffic) < now.sends_per_s:
        return "floor"
    planned = msgspec.structs.replace(terms, ceiling_events_per_s=math.inf).aim_events_per_s
    # A whole ceiling may come as a hair less, being a product of floats.
    return "ceiling" if terms.ceiling_events_per_s < planned * (1 - 1e-9) else "plan"


def _planned(terms: Terms, traffic: Traffic, now: Option, waiting: _Waiting) -> list[PlannedUse]:
    sends_per_s = now.sends_per_s or 0.0
    per_s = {
        TpsKind.RECEIVE: traffic.inbound_per_s,
        TpsKind.SEND: sends_per_s,
        TpsKind.DELIVERED: sends_per_s * traffic.delivered_per_send,
        TpsKind.READ: sends_per_s * traffic.read_per_send,
    }
    caused = {
        TpsKind.SEND: float(waiting.sends),
        TpsKind.DELIVERED: waiting.sends * waiting.traffic.delivered_per_send,
        TpsKind.READ: waiting.sends * waiting.traffic.read_per_send,
    }
    if now.drain_s is not None:
        caused[TpsKind.RECEIVE] = now.drain_s * traffic.inbound_per_s
    rows = [
        PlannedUse(
            kind=kind.label,
            events_per_s=per_s[kind],
            share_of_plan_percent=per_s[kind] * terms.costs.of(kind) * 100 / terms.part_tps,
            events=None if now.drain_s is None else caused[kind],
        )
        for kind in TpsKind
    ]
    weights = [terms.costs.of(kind) for kind in TpsKind]
    counted = sum(row.events_per_s * weight for row, weight in zip(rows, weights, strict=True))
    total = sum((row.events or 0.0) * weight for row, weight in zip(rows, weights, strict=True))
    rows.append(
        PlannedUse(
            kind="all",
            events_per_s=counted,
            share_of_plan_percent=counted * 100 / terms.part_tps,
            events=None if now.drain_s is None else total,
        )
    )
    return rows


def _changes(
    now: Option, options: list[Option], planned: list[PlannedUse], waiting_sends: int
) -> list[Change]:
    """Each single change: another plan with the receipts of now, or other receipts under the plan of now."""
    shares = {row.kind: row.share_of_plan_percent for row in planned}
    taken = {
        "no_read": shares["read"],
        "no_delivered": shares["delivered"],
        "neither": shares["read"] + shares["delivered"],
    }
    has_queue = waiting_sends > 0
    changes = []
    for option in options:
        is_own_plan = (option.dialect, option.plan_tps) == (now.dialect, now.plan_tps)
        if is_own_plan and option.sends_per_s != now.sends_per_s:
            sentence = wording.receipts_sentence(
                option.receipts, taken[option.receipts], now.sends_per_s, option.sends_per_s
            )
            sentence += wording.drain_clause(option.drain_s) if has_queue else ""
            changes.append(Change(change="receipts", sentence=f"{sentence}.", option=option))
        elif not is_own_plan and option.receipts == "all":
            plan = wording.plan_name(option.dialect, option.plan_tps)
            sentence = wording.plan_sentence(plan, now.sends_per_s, option.sends_per_s)
            sentence += wording.drain_clause(option.drain_s) if has_queue else ""
            changes.append(Change(change="plan", sentence=f"{sentence}.", option=option))
    return changes


def _messages_per_s(terms: Terms, traffic: Traffic, now: Option) -> float:
    """Messages in and out of the whole number, its shards being alike."""
    return ((now.sends_per_s or 0.0) + traffic.inbound_per_s) * terms.shards


def _sizes(terms: Terms, traffic: Traffic, now: Option) -> list[ShardSize]:
    if terms.dialect != "onprem":
        return []
    load = _messages_per_s(terms, traffic, now)
    return [
        ShardSize(shards=n, messages_per_s=shard_capacity(n), is_enough=load <= shard_capacity(n))
        for n in SHARD_COUNTS
    ]


def _shards_sentence(terms: Terms, traffic: Traffic, now: Option) -> str:
    if terms.dialect != "onprem":
        return ""
    load = _messages_per_s(terms, traffic, now)
    return wording.shards_sentence(
        load, terms.shards, shard_capacity(terms.shards), now.shards_needed, MESSAGES_PER_SHARD, MESSAGES_MAX
    )

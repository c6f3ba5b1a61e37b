"""What a number uses, now and over the last hour, and the report that is made of it. Pure."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway._fast.history import HOUR_S
from gateway.budget.advice import Advice, advise
from gateway.budget.sustain import DELIVERED_RATIO, READ_RATIO, Terms, Traffic
from gateway.config import Dialect
from gateway.events import TpsKind

SPANS_S: Final = (60, 300, HOUR_S)
"""What reports show beside the second of now."""

MEASURE_SENDS_MIN: Final = 100
"""Sends in the hour to measure ratios on: a ratio of 0.7 is then known to about 0.09."""
EDGE_S: Final = 300
"""Length of the first and of the last stretch of the hour."""
MEASURE_EDGE_PERCENT: Final = 25
"""Of them, at most so many in the first or in the last of these: the receipts of the last have not come
yet (a read takes minutes), and receipts of sends before the hour count as if they were of the first."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a running gateway has counted."""

    terms: Terms
    last_second: dict[TpsKind, int]
    per_s: dict[int, dict[TpsKind, float]]
    """By span in seconds: 60, 300 and 3600."""
    observed_s: int
    """Seconds since the start, at most an hour: longer spans are averages over these."""
    events_60m: dict[TpsKind, int]
    sends_first_5m: int
    """Sends in the first five minutes (EDGE_S) of the observed hour."""
    sends_last_5m: int
    waiting_sends: int
    recipients_mean: float | None = None
    """Of the sends of the last hour; null: there were none."""
    waiting_groups_share: float | None = None
    """Of the sends that wait, those to groups; null: not known."""
    group_members: float = 1.0
    """Of a group, on average."""

    @property
    def waiting_recipients_mean(self) -> float:
        """Of the sends that wait; where that is not known, as of those of the last hour."""
        if self.waiting_groups_share is None:
            return 1.0 if self.recipients_mean is None else self.recipients_mean
        return 1.0 + self.waiting_groups_share * (self.group_members - 1.0)


class KindUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind uses, now and over time; `all` is their sum, each weighed by its cost."""

    kind: str
    cost_events: int
    """What one of them takes from the plan; 1 for `all`."""
    events_last_s: float
    events_per_s_1m: float
    events_per_s_5m: float
    events_per_s_60m: float
    share_of_plan_percent_now: float
    share_of_plan_percent_1m: float
    share_of_plan_percent_5m: float
    share_of_plan_percent_60m: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /v1/budget` answers."""

    dialect: Dialect
    observed_s: int
    ceiling_events_per_s: float
    used: list[KindUse]
    advice: Advice


def measured_traffic(usage: Usage) -> tuple[Traffic, Literal["measured", "default"]]:
    """What arrives (over 5 minutes), and receipts per send: of the last hour where it tells enough, else usual ones."""
    inbound_per_s = usage.per_s[300][TpsKind.RECEIVE]
    sends = usage.events_60m[TpsKind.SEND]
    at_edges = max(usage.sends_first_5m, usage.sends_last_5m)
    if sends >= MEASURE_SENDS_MIN and at_edges * 100 <= sends * MEASURE_EDGE_PERCENT:
        measured = Traffic(
            inbound_per_s=inbound_per_s,
            delivered_per_send=usage.events_60m[TpsKind.DELIVERED] / sends,
            read_per_send=usage.events_60m[TpsKind.READ] / sends,
        )
        return measured, "measured"
    recipients = _recipients_per_send(usage)
    usual = Traffic(
        inbound_per_s=inbound_per_s,
        delivered_per_send=DELIVERED_RATIO * recipients,
        read_per_send=READ_RATIO * recipients,
    )
    return usual, "default"


def _recipients_per_send(usage: Usage) -> float:
    """Of the sends of the last hour; before the first one, of those that wait for it."""
    return usage.waiting_recipients_mean if usage.recipients_mean is None else usage.recipients_mean


def report(usage: Usage) -> Report:
    """Everything a running gateway can say about its budget."""
    traffic, source = measured_traffic(usage)
    sends = usage.events_60m[TpsKind.SEND]
    return Report(
        dialect=usage.terms.dialect,
        observed_s=usage.observed_s,
        ceiling_events_per_s=usage.terms.aim_events_per_s,
        used=_uses(usage),
        advice=advise(
            usage.terms,
            traffic,
            usage.waiting_sends,
            source,
            sends,
            recipients_mean=_recipients_per_send(usage),
            waiting_recipients_mean=usage.waiting_recipients_mean,
        ),
    )


def _uses(usage: Usage) -> list[KindUse]:
    costs = usage.terms.costs
    spans: list[Mapping[TpsKind, float]] = [usage.last_second, *(usage.per_s[span] for span in SPANS_S)]
    rows = [(kind.label, costs.of(kind), [float(span[kind]) for span in spans]) for kind in TpsKind]
    weighed = [sum((span[kind] * costs.of(kind) for kind in TpsKind), 0.0) for span in spans]
    rows.append(("all", 1, weighed))
    return [_use(kind, cost, events, usage.terms.part_tps) for kind, cost, events in rows]


def _use(kind: str, cost: int, events: list[float], part_tps: float) -> KindUse:
    shares = [count * cost * 100 / part_tps for count in events]
    return KindUse(
        kind=kind,
        cost_events=cost,
        events_last_s=events[0],
        events_per_s_1m=events[1],
        events_per_s_5m=events[2],
        events_per_s_60m=events[3],
        share_of_plan_percent_now=shares[0],
        share_of_plan_percent_1m=shares[1],
        share_of_plan_percent_5m=shares[2],
        share_of_plan_percent_60m=shares[3],
    )

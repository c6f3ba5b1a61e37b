"""The budget report of a gateway, from its parts."""

import logging
from typing import Final

import msgspec
import orjson

from gateway._fast.history import HOUR_S
from gateway.app.parts import Parts
from gateway.budget.shards import shard_part
from gateway.budget.sustain import Terms
from gateway.budget.usage import EDGE_S, SPANS_S, Usage, report
from gateway.events import Kind, TpsKind

log = logging.getLogger(__name__)

PLAN_MAX: Final = 5_000
"""As GATEWAY_TPS."""


class _Plan(msgspec.Struct, forbid_unknown_fields=True):
    tps: int


def budget_page(parts: Parts) -> bytes:
    """The report as JSON; its fields are those of `gateway.budget.usage.Report`."""
    return orjson.dumps(msgspec.to_builtins(report(usage_of(parts))))


def change_plan(parts: Parts, authorization: str | None, body: bytes) -> tuple[int, bytes]:
    """Carry out `PUT /v1/budget` with `{"tps": N}` by whoever has a push token; HTTP status and JSON.

    It lasts until the next start: what must last is GATEWAY_TPS.
    """
    refusal = parts.push.authorise(authorization)
    if refusal is not None:
        return refusal.status, refusal.body
    low, high = int(parts.settings.shards), PLAN_MAX
    try:
        tps = msgspec.json.decode(body, type=_Plan).tps
    except (msgspec.DecodeError, UnicodeDecodeError):
        tps = 0
    settings = parts.settings
    send_cost = settings.tps_cost.of(TpsKind.SEND)
    if not low <= tps <= high or shard_part(tps, int(settings.shards), settings.shard_index) < send_cost:
        expected = f'expected {{"tps": N}} with N from {low} to {high}, in whose part of a shard a send fits'
        return 400, orjson.dumps({"error": expected})
    log.warning("plan changed", extra={"tps_before": parts.plan_tps, "tps": tps})
    parts.set_plan(tps)
    return 200, budget_page(parts)


def usage_of(parts: Parts) -> Usage:
    """What the parts have counted, as plain values."""
    settings, budget, history, now_ns = parts.settings, parts.budget, parts.history, parts.clock.now_ns()

    def count(kind: TpsKind, seconds: int) -> int:
        return history.count(kind, seconds, now_ns) if seconds else 0

    shards = int(settings.shards)
    observed_s = history.observed_s(HOUR_S, now_ns)
    sends = count(TpsKind.SEND, HOUR_S)
    return Usage(
        terms=Terms(
            dialect=settings.dialect,
            plan_tps=parts.plan_tps,
            headroom_percent=budget.headroom_percent,
            costs=settings.tps_cost,
            send_floor_percent=settings.send_floor_percent,
            shards=shards,
            own_part_tps=budget.tps,
            ceiling_events_per_s=budget.ceiling_per_s(),
        ),
        last_second={kind: budget.used(kind, now_ns) for kind in TpsKind},
        per_s={span: {kind: history.rate_per_s(kind, span, now_ns) for kind in TpsKind} for span in SPANS_S},
        observed_s=observed_s,
        events_60m={kind: count(kind, HOUR_S) for kind in TpsKind},
        sends_first_5m=sends - count(TpsKind.SEND, max(0, observed_s - EDGE_S)),
        sends_last_5m=count(TpsKind.SEND, EDGE_S),
        waiting_sends=parts.sends.waiting().get(Kind.SEND, 0),
        recipients_mean=parts.recipients.mean(now_ns),
        waiting_groups_share=parts.sends.groups_share,
        group_members=parts.sizes.members_expected,
    )

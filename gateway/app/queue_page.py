"""`GET /v1/queue`: what waits, since when, and why. Counts only, so that anyone who reaches the listener may ask.

A reason has the time it ends, where time alone ends it, and how many records wait for it, where that is known. Several
may hold at once: then nothing goes until the last of them is gone.
"""

from typing import Any

import orjson

from gateway.app.operator_state import ISOLATED, OperatorState
from gateway.app.parts import Parts
from gateway.clock import NS_PER_MS
from gateway.events import InboundClass, SendClass
from gateway.http.operations import Call, Operation
from gateway.inbound.forward import GONE, Forwarder


def queue_operations(parts: Parts, state: OperatorState) -> list[Operation]:
    """The route."""

    async def show(_call: Call) -> tuple[int, bytes]:
        return 200, orjson.dumps(queue_page(parts, state))

    return [Operation("GET", "/v1/queue", show, is_open=True)]


def queue_page(parts: Parts, state: OperatorState) -> dict[str, Any]:
    """The report as JSON would have it."""
    message, event = parts.inbound.forwarders
    return {
        "state": state.names() or ["running"],
        "queues": [
            _inbound(parts, message, [InboundClass.MESSAGE], state),
            _inbound(parts, event, [InboundClass.FAILURE, InboundClass.RECEIPT], state),
            _outbound(parts, state),
        ],
    }


def _reason(name: str, *, ends_in_ms: int | None = None, records: int | None = None) -> dict[str, Any]:
    return {"reason": name, "ends_in_ms": ends_in_ms, "records": records}


def _ms_left(until_ns: int, now_ns: int) -> int:
    return max(0, -(-(until_ns - now_ns) // NS_PER_MS))


def _inbound(
    parts: Parts, forwarder: Forwarder, classes: list[InboundClass], state: OperatorState
) -> dict[str, Any]:
    backlog, gate, now_ns = forwarder.backlog, forwarder.gate, parts.clock.now_ns()
    why: list[dict[str, Any]] = []
    if state.is_draining:
        why.append(_reason("draining"))
    if ISOLATED in gate.closed_by:
        why.append(_reason("isolated"))
    if GONE in gate.closed_by:
        why.append(_reason("destination_gone"))
    if gate.breaker.state == "half_open":
        why.append(_reason("breaker_probing"))
    elif (passes_at_ns := gate.breaker.passes_at_ns()) is not None:
        why.append(_reason("breaker_open", ends_in_ms=_ms_left(passes_at_ns, now_ns)))
    if not gate.limit.has_room:
        why.append(_reason("backend_limit", records=gate.limit.in_flight))
    if gate.is_held_by_rate(now_ns):
        why.append(_reason("backend_rate"))
    if delayed := backlog.delayed():
        why.append(_reason("retry", records=delayed))
    if behind := backlog.behind():
        why.append(_reason("contact_busy", records=behind))
    return {
        "side": "inbound",
        "destination": forwarder.name,
        "under_way": backlog.taken(),
        "classes": [_class(parts, backlog, cls, cls.label) for cls in classes],
        "why": why if backlog.total() else [],
    }


def _outbound(parts: Parts, state: OperatorState) -> dict[str, Any]:
    sends, pacer, now_ns = parts.sends, parts.pacer, parts.clock.now_ns()
    why: list[dict[str, Any]] = []
    if state.is_draining:
        why.append(_reason("draining"))
    if state.is_suspended:
        why.append(_reason("suspended"))
    if not parts.node.has_token:
        why.append(_reason("no_login"))
    if paused_ms := pacer.paused_ms():
        why.append(_reason("node_pause", ends_in_ms=paused_ms))
    bulk = sends.unsettled(SendClass.BULK)
    if bulk and (paused_ms := pacer.bulk_paused_ms()):
        why.append(_reason("bulk_pause", ends_in_ms=paused_ms, records=bulk))
    if pacer.free_at_ns > now_ns:
        why.append(_reason("budget", ends_in_ms=_ms_left(pacer.free_at_ns, now_ns)))
    scheduled = sum(sends.scheduled(cls) for cls in SendClass)
    for name, records in (
        ("group_receipts", pacer.front.held()),
        ("recipient_pace", pacer.front.booked()),
        ("recipient_busy", sends.behind()),
        ("retry", max(0, sends.delayed() - pacer.front.booked())),
        ("scheduled", scheduled),
    ):
        if records:
            why.append(_reason(name, records=records))
    return {
        "side": "outbound",
        "destination": "node",
        "under_way": parts.sender.under_way,
        "classes": [
            {**_class(parts, sends, cls, cls.label), "scheduled": sends.scheduled(cls)} for cls in SendClass
        ],
        "why": why if sends.total() else [],
    }


def _class(parts: Parts, backlog: Any, cls: int, label: str) -> dict[str, Any]:
    oldest_ms = backlog.oldest_ms(cls)
    return {
        "class": label,
        "waiting": backlog.unsettled(cls),
        "in_memory": backlog.depth(cls),
        "on_disk": backlog.on_disk(cls),
        "oldest_age_ms": None if oldest_ms is None else max(0, parts.clock.wall_ms() - oldest_ms),
    }

"""What Coreapp tells of an event that the number served: one item of a callback."""

from typing import Final

from gateway.clock import NS_PER_MS
from gateway.events import Kind, TpsKind
from gateway.sim import bodies
from gateway.sim.journal import Callback
from gateway.sim.number import Event

_RECEIPT: Final = {TpsKind.DELIVERED: Kind.DELIVERED, TpsKind.READ: Kind.READ}


def callback_of(event: Event, now_ns: int, wall_ms: int) -> Callback:
    """The callback of a served event; `now_ns` and `wall_ms` name the same moment, for the timestamps."""
    at_ms = wall_ms - (now_ns - event.served_ns) // NS_PER_MS
    kind, item = _item(event, at_ms)
    contact = bodies.contact(event.peer) if kind is Kind.MESSAGE else None
    return Callback(kind, event.id, event.peer, item, contact, event.made_ns, event.served_ns)


def _item(event: Event, at_ms: int) -> tuple[Kind, bodies.Json]:
    if event.kind is TpsKind.RECEIVE:
        item = bodies.message(event.id, event.peer, event.payload, at_ms, event.group)
        return Kind.MESSAGE, item
    if event.is_failed:
        return Kind.FAILED, bodies.failed_status(event.id, event.peer, at_ms, event.group)
    kind = _RECEIPT.get(event.kind, Kind.SENT)
    return kind, bodies.status(event.id, event.peer, kind.label, at_ms, event.group)

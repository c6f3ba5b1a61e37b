"""How hard the gateway is pressed and what gives way for it, as metrics."""

from gateway.app.inbound_parts import InboundParts
from gateway.ops.exposition import Family
from gateway.ops.metrics import counter, gauge


def overload_families(inbound: InboundParts, now_ns: int) -> list[Family]:
    """Pressure and ladder, what receipts became, dry runs, the ledger, and the gates to the backend."""
    return [*_pressure_families(inbound), *_receipt_families(inbound), *_gate_families(inbound, now_ns)]


def _pressure_families(inbound: InboundParts) -> list[Family]:
    pressure, ladder = inbound.pressure, inbound.gatekeeper.ladder
    return [
        gauge("gateway_pressure", "How hard the gateway is pressed, 0 to 1.", [({}, pressure.figure)]),
        gauge(
            "gateway_pressure_cause",
            "The same by cause; the highest is the pressure.",
            [({"cause": cause.value}, figure) for cause, figure in pressure.causes.items()],
        ),
        gauge(
            "gateway_ladder_rung",
            "0 forward, 1 batch, 2 fold, 3 digest, 4 to 8 shed one class more each, 9 refuse.",
            [({}, ladder.rung)],
        ),
        counter("gateway_ladder_climbs_total", "Steps taken upwards.", [({}, ladder.climbs)]),
    ]


def _receipt_families(inbound: InboundParts) -> list[Family]:
    ledger = inbound.receipts.ledger
    return [
        counter(
            "gateway_receipts_dropped_total",
            "Events not forwarded for themselves, by class and reason; class other: a failure, an unknown status.",
            [
                ({"class": cls.label if cls is not None else "other", "reason": reason.value}, count)
                for (cls, reason), count in sorted(
                    inbound.gatekeeper.dropped.items(), key=lambda item: (str(item[0][0]), item[0][1].value)
                )
            ],
        ),
        counter(
            "gateway_limiter_would_have_total",
            "What limiters in a dry run would have held or dropped.",
            [({"limiter": name}, count) for name, count in inbound.would_have().items()],
        ),
        gauge("gateway_ledger_messages", "Messages whose receipts are kept.", [({}, len(ledger))]),
        gauge("gateway_ledger_bytes", "Memory of the ledger.", [({}, ledger.memory_bytes)]),
        gauge(
            "gateway_receipts_early",
            "Receipts held until a send under way has its answer; they may be of it.",
            [({}, len(inbound.early))],
        ),
        counter(
            "gateway_receipts_early_passed_total",
            "Receipts that were not held because too many were.",
            [({}, inbound.early.passed)],
        ),
        counter("gateway_ledger_evicted_total", "Messages that left to make room.", [({}, ledger.evicted)]),
    ]


def _gate_families(inbound: InboundParts, now_ns: int) -> list[Family]:
    forwarders = inbound.forwarders
    return [
        gauge(
            "gateway_backend_limit",
            "Requests that may be under way at once, as found by trying.",
            [({"destination": f.name}, f.gate.limit.limit) for f in forwarders],
        ),
        gauge(
            "gateway_backend_limit_max",
            "The most that may be tried: this destination's part of GATEWAY_BACKEND_CONCURRENCY.",
            [({"destination": f.name}, f.gate.limit.highest) for f in forwarders],
        ),
        gauge(
            "gateway_backend_in_flight",
            "Requests under way.",
            [({"destination": f.name}, f.gate.limit.in_flight) for f in forwarders],
        ),
        counter(
            "gateway_backend_limit_lowered_total",
            "Times overload or a queue at the destination lowered the limit.",
            [({"destination": f.name}, f.gate.limit.lowered) for f in forwarders],
        ),
        gauge(
            "gateway_backend_rate_waiting",
            "1 while GATEWAY_BACKEND_TPS alone holds the next request back.",
            [({"destination": f.name}, int(f.gate.is_held_by_rate(now_ns))) for f in forwarders],
        ),
    ]

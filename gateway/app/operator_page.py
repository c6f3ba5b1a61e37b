"""What an operator has switched off, and the dead letters that wait for him, as metrics."""

from gateway.app.operator_state import OperatorState
from gateway.events import Side
from gateway.ops.exposition import Family
from gateway.ops.metrics import counter, gauge
from gateway.store.protocol import OpenStore


def operator_families(state: OperatorState, store: OpenStore, wall_ms: int) -> list[Family]:
    """States, destinations that are gone, and dead letters by side."""
    counts = store.parked_counts()
    gone = state.gone
    return [
        gauge(
            "gateway_state",
            "1 while in that state: nothing forwarded, nothing sent, about to end.",
            [
                ({"state": "isolated"}, state.is_isolated),
                ({"state": "suspended"}, state.is_suspended),
                ({"state": "draining"}, state.is_draining),
            ],
        ),
        gauge(
            "gateway_destination_gone",
            "1 while paused because it answered 410, until an operator resumes it.",
            [({"destination": name}, name in gone) for name in state.destinations],
        ),
        gauge(
            "gateway_dead_letters",
            "Records given up and kept for the operator.",
            [({"side": side.label}, counts[side].count if side in counts else 0) for side in Side],
        ),
        gauge(
            "gateway_dead_letters_oldest_seconds",
            "How long ago the oldest of them was given up; 0 when there is none.",
            [
                (
                    {"side": side.label},
                    max(0, wall_ms - counts[side].oldest_ms) / 1000 if side in counts else 0,
                )
                for side in Side
            ],
        ),
        counter(
            "gateway_dead_letters_dropped_total",
            "Dead letters deleted to make room: GATEWAY_DEAD_MAX, or a store over half full.",
            [({}, store.parked_dropped())],
        ),
    ]

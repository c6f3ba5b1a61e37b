"""The metrics page: what the number uses, what waits and since when, how everything ended, and that it adds up.

Labels come from closed sets (side, kind, class, outcome, reason), so the page has a bounded length.
"""

import os
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway import __version__
from gateway._fast.histogram import LatencyHistogram
from gateway.budget.tps import TpsBudget
from gateway.clock import NS_PER_S
from gateway.events import Kind, Outcome, TpsKind
from gateway.ops.exposition import Family, Histogram, Sample, histogram
from gateway.store.backlog import Backlog
from gateway.store.books import Books

LATENCY_BOUNDS_S: Final = tuple(round(0.0005 * 2 ** (step / 2), 6) for step in range(36))
"""Half powers of two from 0.5 ms to about 90 s: what a gateway with retries of seconds needs."""


class Queue(msgspec.Struct, frozen=True):
    """A backlog as the page names it. `side` is inbound or outbound."""

    side: str
    classes: Mapping[int, str]
    """Classes of the backlog that are in use, with their labels."""
    backlog: Backlog[Any]


def counter(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Family:
    """A family of totals."""
    return Family(name, "counter", text, [Sample(labels, value) for labels, value in samples])


def gauge(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Family:
    """A family of values of now."""
    return Family(name, "gauge", text, [Sample(labels, value) for labels, value in samples])


def budget_families(budget: TpsBudget, now_ns: int) -> list[Family]:
    """The number's TPS: limit, use and totals per kind, and the fullest second in which a send went out."""
    return [
        gauge("gateway_tps_limit", "Events a second the number may have.", [({}, budget.tps)]),
        gauge(
            "gateway_tps_used",
            "Events in the last second.",
            [({"kind": kind.label}, budget.used(kind, now_ns)) for kind in TpsKind],
        ),
        counter(
            "gateway_tps_events_total",
            "Events since the start.",
            [({"kind": kind.label}, budget.totals[kind]) for kind in TpsKind],
        ),
        gauge(
            "gateway_tps_aim",
            "Events a second aimed at: the limit less the headroom.",
            [({}, budget.aim_per_s())],
        ),
        gauge(
            "gateway_tps_ceiling",
            "Events a second the node stands: lowered while it asks us to slow down, raised slowly.",
            [({}, budget.ceiling_per_s())],
        ),
        counter(
            "gateway_tps_ceiling_lowered_total",
            "Times the ceiling was lowered.",
            [({}, budget.ceiling.lowered)],
        ),
        counter(
            "gateway_tps_floor_grants_total",
            "Sends granted by GATEWAY_SEND_FLOOR although the limit left no room.",
            [({}, budget.floor_grants)],
        ),
        gauge(
            "gateway_tps_window_max",
            "Most events in a one-second window at a moment when a send was granted, that send included.",
            [({}, budget.window_max)],
        ),
    ]


def queue_families(queues: Sequence[Queue], wall_ms: int) -> list[Family]:
    """What waits, where, and since when."""
    rows = [
        ({"side": queue.side, "class": label}, queue.backlog, cls)
        for queue in queues
        for cls, label in queue.classes.items()
    ]

    def age_s(backlog: Backlog[Any], cls: int) -> float:
        oldest_ms = backlog.oldest_ms(cls)
        return 0.0 if oldest_ms is None else max(0, wall_ms - oldest_ms) / 1000

    return [
        gauge(
            "gateway_queue_depth", "Records ready in memory.", [(labels, b.depth(c)) for labels, b, c in rows]
        ),
        gauge(
            "gateway_queue_capacity",
            "Records that fit in memory.",
            [(labels, b.slots) for labels, b, _ in rows],
        ),
        gauge(
            "gateway_queue_on_disk",
            "Records waiting on disk behind those in memory.",
            [(labels, b.on_disk(c)) for labels, b, c in rows],
        ),
        gauge(
            "gateway_queue_oldest_age_seconds",
            "Age of the oldest record not settled; 0 when there is none.",
            [(labels, age_s(b, c)) for labels, b, c in rows],
        ),
        gauge(
            "gateway_queue_under_way",
            "Records being delivered or sent now.",
            [({"queue": _name(queue)}, queue.backlog.taken()) for queue in queues],
        ),
        gauge(
            "gateway_queue_delayed",
            "Records waiting for their next attempt.",
            [({"queue": _name(queue)}, queue.backlog.delayed()) for queue in queues],
        ),
    ]


def _name(queue: Queue) -> str:
    return "_".join([queue.side, *queue.classes.values()])


def books_families(books: Books, queues: Sequence[Queue]) -> list[Family]:
    """How everything accepted ended, what waits, and the difference, which is 0."""
    waiting = dict.fromkeys(Kind, 0)
    for queue in queues:
        for kind, count in queue.backlog.waiting().items():
            waiting[kind] += count
    return [
        counter(
            "gateway_accepted_total",
            "Items stored and answered 2xx, over the life of the store.",
            [({"kind": kind.label}, books.accepted[kind]) for kind in Kind],
        ),
        counter(
            "gateway_outcome_total",
            "How accepted items ended, over the life of the store.",
            [
                ({"kind": kind.label, "outcome": outcome.label}, books.outcomes[kind, outcome])
                for kind in Kind
                for outcome in Outcome
            ],
        ),
        gauge(
            "gateway_waiting",
            "Accepted items without an outcome yet, as the queues count them.",
            [({"kind": kind.label}, waiting[kind]) for kind in Kind],
        ),
        gauge(
            "gateway_conservation_difference",
            "Accepted less outcomes less waiting; anything but 0 is a bug.",
            [({}, books.difference(waiting))],
        ),
    ]


def latency_family(
    name: str, text: str, series: Iterable[tuple[Mapping[str, str], LatencyHistogram]]
) -> Family:
    """Latency histograms in seconds, each with its labels."""
    bounds_ns = [int(bound * NS_PER_S) for bound in LATENCY_BOUNDS_S]
    return histogram(
        name,
        text,
        LATENCY_BOUNDS_S,
        [
            Histogram(labels, one.cumulative(bounds_ns), one.count, one.sum_ns / NS_PER_S)
            for labels, one in series
        ],
    )


def process_families(started_wall_ms: int, log_dropped: Callable[[], int]) -> list[Family]:
    """The process: version, memory, CPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [
        gauge("gateway_build_info", "Version.", [({"version": __version__}, 1)]),
        gauge("process_start_time_seconds", "Start, UTC.", [({}, started_wall_ms / 1000)]),
        gauge("process_resident_memory_bytes", "Memory in use.", [({}, _resident_bytes())]),
        counter("process_cpu_seconds_total", "CPU time used.", [({}, usage.ru_utime + usage.ru_stime)]),
        counter(
            "gateway_log_dropped_total",
            "Log lines dropped, the reader being too slow.",
            [({}, log_dropped())],
        ),
    ]


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  (procfs, read at each scrape: pathlib costs more)
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""The metrics page of a gateway, from its parts."""

from collections.abc import Callable
from typing import Final

from gateway.app.operator_page import operator_families
from gateway.app.operator_state import OperatorState
from gateway.app.overload_page import overload_families
from gateway.app.parts import Parts
from gateway.events import Kind, Outcome, SendClass
from gateway.http.ingest import Ingest
from gateway.ops.exposition import Family, render
from gateway.ops.metrics import (
    books_families,
    budget_families,
    counter,
    gauge,
    latency_family,
    process_families,
    queue_families,
)

ENDINGS: Final = (Outcome.FAILED, Outcome.EXPIRED, Outcome.CANCELLED)
BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


def metrics_page(
    parts: Parts,
    state: OperatorState,
    ingest: Ingest,
    started_wall_ms: int,
    log_dropped: Callable[[], int],
) -> bytes:
    """The exposition of everything, in Prometheus text format."""
    return render(
        [
            *budget_families(parts.budget, parts.clock.now_ns()),
            *queue_families(parts.queues, parts.clock.wall_ms()),
            *books_families(parts.books, parts.queues),
            counter(
                "gateway_requests_refused_total",
                "Requests of the ingest listener that were not looked at, by reason.",
                [({"reason": reason}, n) for reason, n in sorted(ingest.refused.items())],
            ),
            gauge(
                "gateway_connections", "Connections to the ingest listener.", [({}, len(ingest.connections))]
            ),
            gauge(
                "gateway_bodies_reading_bytes",
                "What request bodies that are being read may come to; 64 MiB at most.",
                [({}, ingest.reading_bytes)],
            ),
            counter(
                "gateway_connections_evicted_total",
                "Idle connections closed to make room for others.",
                [({}, ingest.connections.evicted)],
            ),
            *_inbound_families(parts),
            *overload_families(parts.inbound, parts.clock.now_ns()),
            *_outbound_families(parts),
            *_store_families(parts),
            *operator_families(state, parts.store, parts.clock.wall_ms()),
            *process_families(started_wall_ms, log_dropped),
        ]
    )


def _inbound_families(parts: Parts) -> list[Family]:
    receiver, forwarders = parts.receiver, parts.inbound.forwarders
    return [
        counter("gateway_webhooks_total", "Webhooks received.", [({}, receiver.webhooks)]),
        counter("gateway_webhooks_not_json_total", "Answered 400.", [({}, receiver.not_json)]),
        counter(
            "gateway_webhooks_unrecognised_total",
            "JSON of a shape we don't know; forwarded in the message class.",
            [({}, receiver.unrecognised)],
        ),
        counter(
            "gateway_webhooks_refused_total",
            "Answered 503, by reason.",
            [({"reason": reason}, n) for reason, n in sorted(receiver.refused.items())],
        ),
        counter(
            "gateway_duplicates_total",
            "Events dropped because they had come before.",
            [({"kind": kind.label}, n) for kind, n in receiver.duplicates.items() if kind is not Kind.SEND],
        ),
        gauge("gateway_webhooks_pending", "Webhooks waiting for the disk.", [({}, receiver.pending)]),
        counter(
            "gateway_forwards_total",
            "Attempts to forward, by what the answer meant.",
            [
                ({"destination": forwarder.name, "verdict": verdict.value}, n)
                for forwarder in forwarders
                for verdict, n in forwarder.verdicts.items()
            ],
        ),
        gauge(
            "gateway_breaker_state",
            "0 closed, 1 half open, 2 open.",
            [({"destination": f.name}, BREAKER_STATES[f.gate.breaker.state]) for f in forwarders],
        ),
        latency_family(
            "gateway_forward_latency_seconds",
            "From acceptance of a record to the backend's 2xx.",
            [({"destination": forwarder.name}, forwarder.latency) for forwarder in forwarders],
        ),
    ]


def _outbound_families(parts: Parts) -> list[Family]:
    sender, pacer, replies = parts.sender, parts.pacer, parts.instant_replies
    return [
        counter(
            "gateway_pushes_refused_total",
            "Requests of the push API refused, by reason.",
            [({"reason": reason}, n) for reason, n in sorted(parts.push.refusals.counts.items())],
        ),
        counter(
            "gateway_instant_replies_total", "Sends taken from a backend's answers.", [({}, replies.taken)]
        ),
        counter(
            "gateway_instant_replies_bad_total",
            "Answers of a backend with something like a reply that can't be sent.",
            [({}, replies.bad_answers)],
        ),
        counter(
            "gateway_send_answers_total",
            "The node's answers to sends, by what they meant.",
            [({"effect": effect.value}, n) for effect, n in sender.effects.items()],
        ),
        counter(
            "gateway_sends_uncertain_total",
            "Attempts without an answer: the node may have taken them.",
            [({}, sender.uncertain)],
        ),
        counter(
            "gateway_ended_sends_told_total",
            "Sends that ended without reaching WhatsApp and were told to the event webhook, by outcome.",
            [
                ({"outcome": outcome.label}, n)
                for outcome, n in parts.ended_sends.told.items()
                if outcome in ENDINGS
            ],
        ),
        gauge(
            "gateway_sends_scheduled",
            "Sends whose time has not come.",
            [({"class": cls.label}, parts.sends.scheduled(cls)) for cls in SendClass],
        ),
        gauge(
            "gateway_pushes_waiting",
            "Sends for whose end a push waits.",
            [({}, len(parts.push.node_answers))],
        ),
        counter("gateway_send_pauses_total", "Times the node's answers paused sends.", [({}, pacer.pauses)]),
        gauge(
            "gateway_send_paused_seconds",
            "How much longer sends pause: all, or those of the bulk class.",
            [
                ({"scope": "all"}, pacer.paused_ms() / 1000),
                ({"scope": "bulk"}, pacer.bulk_paused_ms() / 1000),
            ],
        ),
        *_fan_out_families(parts),
        counter("gateway_logins_total", "Logins at the node.", [({}, parts.node.logins)]),
        gauge(
            "gateway_node_callback_queue",
            "Callbacks waiting at the node, as of the last look; absent before the first.",
            [({}, size)] if parts.watch and (size := parts.watch.callback_queue) is not None else [],
        ),
        *_valve_families(parts),
    ]


def _valve_families(parts: Parts) -> list[Family]:
    valve = parts.valve
    return [
        gauge(
            "gateway_node_receipts_switched_off",
            "1 while delivered and read are, or may be, switched off at the node by us.",
            [({}, valve is not None and valve.is_closed)],
        ),
        counter(
            "gateway_node_receipts_switched_total",
            "Times delivered and read were switched at the node.",
            [({"to": to}, n) for to, n in valve.changes.items()] if valve is not None else [],
        ),
    ]


def _fan_out_families(parts: Parts) -> list[Family]:
    fanout, sizes, front = parts.fanout, parts.sizes, parts.pacer.front
    return [
        gauge(
            "gateway_fanout_outstanding",
            "Receipts that group sends have caused and that have not come.",
            [({}, fanout.outstanding if fanout is not None else 0)],
        ),
        gauge(
            "gateway_fanout_sends",
            "Group sends whose receipts are expected.",
            [({}, fanout.entries() if fanout is not None else 0)],
        ),
        gauge(
            "gateway_fanout_early_ids",
            "Ids whose receipts came before the answer to their send.",
            [({}, fanout.early() if fanout is not None else 0)],
        ),
        gauge("gateway_fanout_held", "Group sends that wait for receipts.", [({}, front.held())]),
        gauge("gateway_pair_limited", "Sends that wait for their recipient's slot.", [({}, front.booked())]),
        gauge(
            "gateway_pair_recipients",
            "Recipients the pair limit remembers.",
            [({}, len(parts.pairs) if parts.pairs is not None else 0)],
        ),
        gauge("gateway_group_sizes_known", "Groups whose size is known.", [({}, sizes.known())]),
        gauge(
            "gateway_receipts_watched", "Sends whose receipts are counted.", [({}, sizes.ratios.watched())]
        ),
        counter(
            "gateway_group_asks_failed_total", "Sizes the node did not tell.", [({}, parts.asker.failures)]
        ),
    ]


def _store_families(parts: Parts) -> list[Family]:
    store, settings = parts.store, parts.settings
    return [
        gauge("gateway_store_used_bytes", "Bytes in use on disk.", [({}, store.used_bytes())]),
        gauge(
            "gateway_store_disk_free_bytes",
            "Free on its disk beyond the reserve; at 0 webhooks get 503.",
            [({}, parts.room.free_bytes())],
        ),
        gauge("gateway_store_max_bytes", "Bytes that may be used.", [({}, settings.store_max_bytes)]),
        counter("gateway_store_commits_total", "Commits, one sync each.", [({}, store.commits)]),
        latency_family(
            "gateway_store_commit_seconds",
            "Writing a commit, for which answers wait, and syncing it with STORE_SYNC=full; empty with off.",
            [({}, store.commit_times())],
        ),
        counter("gateway_store_changes_total", "Changes in them.", [({}, store.changes)]),
        gauge(
            "gateway_store_pending",
            "Changes waiting for the disk; what comes together is one.",
            [({}, store.waiting_changes)],
        ),
        gauge("gateway_store_log_bytes", "Committed and not in the tables yet.", [({}, store.log_bytes())]),
        counter(
            "gateway_store_check_ins_total",
            "Times that what the log had went into the tables.",
            [({}, store.check_ins())],
        ),
    ]

"""Checks the promises of the design page against what a run left behind. Pure: facts in, verdicts out.

The node's journal knows what was sent, the backend's ledger what arrived, the gateway's metrics what it
says of itself; a promise is kept where the three agree. `tests/test_sim_checker.py` breaks each on purpose.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import INBOUND_KINDS, Kind, Outcome
from gateway.sim.facts import Facts, percentile
from gateway.sim.rate import worst_second_at_a_send

MESSAGE_P99_NS: Final = NS_PER_S
"""Through the gateway, in the storm."""

STALL_NS: Final = 20 * NS_PER_MS
"""What is shorter is the ordinary turn of a loop, and in what is allowed for the wire."""

CALLBACK_QUEUE_MAX: Final = 100
"""Callbacks that may wait at the node: five seconds of 20 TPS, a thousandth of the node's own limit."""
RSS_MAX_BYTES: Final = 256 << 20

_NAMED: Final = tuple(outcome.label for outcome in Outcome if outcome is not Outcome.DELIVERED)
_WAITS: Final = (
    "accepted",
    "waiting",
    "queued",
    "held",
    "sending",
    "parked",
    "paused",
    "scheduled",
    "uncertain",
)
"""States of a push that has not reached the node and is not lost."""
_SUPERSEDED_BY: Final = {Kind.SENT: (Kind.DELIVERED, Kind.READ), Kind.DELIVERED: (Kind.READ,)}
"""A fold keeps the later status only: who has `read` needs no `delivered`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise and what became of it; `evidence` gives the numbers, the broken ones first."""

    promise: str
    is_kept: bool
    evidence: str


def check(facts: Facts) -> list[Verdict]:
    """A verdict on each promise, in the order of the design page, and on how the run ended."""
    return [_verdict(promise, judge(facts)) for promise, judge in _PROMISES]


def _verdict(promise: str, found: list[tuple[bool, str]]) -> Verdict:
    broken = [text for is_kept, text in found if not is_kept]
    return Verdict(promise, not broken, "; ".join(broken or [text for _, text in found]))


def _judge_kept(facts: Facts) -> list[tuple[bool, str]]:
    seen = {callback.kind for callback in facts.journal.callbacks}
    arrived = (_arrived(facts, kind) for kind in INBOUND_KINDS if kind in seen)
    return [_conservation(facts), *arrived, *_sends_kept(facts)]


def _conservation(facts: Facts) -> tuple[bool, str]:
    """By kind and in every sample: accepted = delivered + failed + expired + cancelled + shed + waiting."""
    if not facts.samples:
        return False, "no metrics were sampled"
    for sample in facts.samples:
        accepted = sample.metrics.by("kind", "gateway_accepted_total")
        if not accepted or not sample.metrics.has("gateway_conservation_difference"):
            return False, "gateway_accepted_total or gateway_conservation_difference is not exported"
        for kind, count in accepted.items():
            ended = sample.metrics.total("gateway_outcome_total", {"kind": kind})
            waiting = sample.metrics.total("gateway_waiting", {"kind": kind})
            if count != ended + waiting:
                sums = f"accepted {count:.0f}, ended {ended:.0f}, waiting {waiting:.0f}"
                return False, f"the books of {kind} don't balance: {sums}"
        if any(value for _, value in sample.metrics.series("gateway_conservation_difference")):
            return False, "gateway_conservation_difference is not 0"
    return True, f"books balance in {len(facts.samples)} samples"


def _arrived(facts: Facts, kind: Kind) -> tuple[bool, str]:
    """What the node was told 200 for arrived, or is counted where it is."""
    acked = {(c.id, c.participant) for c in facts.journal.callbacks if c.kind is kind and c.acked_ns >= 0}
    arrived = {(event.id, event.participant) for event in facts.ledger.received if event.kind is kind}
    later = _SUPERSEDED_BY.get(kind, ())
    superseded = {(event.id, event.participant) for event in facts.ledger.received if event.kind in later}
    missing = acked - arrived - superseded
    counted = facts.waiting(kind) + sum(facts.outcome(kind, outcome) for outcome in _NAMED)
    if len(missing) > counted:
        return False, f"{len(missing)} acked {kind.label} did not arrive, {counted} are accounted for"
    return True, f"{kind.label} {len(acked) - len(missing)} of {len(acked)} arrived"


def _sends_kept(facts: Facts) -> list[tuple[bool, str]]:
    """What was answered 2xx, or taken from an answer as a reply, reached the node or is accounted for."""
    at_node = {entry.text for entry in facts.journal.sends}
    accepted = [push for push in facts.ledger.pushes if push.is_accepted]
    missing = [push for push in accepted if push.text not in at_node]
    lost = [p.text for p in missing if facts.push_states.get(p.id, "") not in (*_NAMED, *_WAITS)]
    counted = facts.waiting(Kind.SEND) + sum(facts.outcome(Kind.SEND, outcome) for outcome in _NAMED)
    unsent = set(facts.ledger.replies) - at_node
    return [
        (not lost, f"pushes lost: {len(lost)} of {len(accepted)}"),
        (
            len(missing) + len(unsent) <= counted,
            f"sends not at the node: {len(missing) + len(unsent)}, accounted for {counted}",
        ),
    ]


def _judge_rate(facts: Facts) -> list[tuple[bool, str]]:
    allowance = max(1, facts.tps // 10)
    # What came while the node stood still is counted when it went on: its second is as much longer.
    stalled = math.ceil(facts.tps * facts.stall_ns / NS_PER_S) if facts.stall_ns >= STALL_NS else 0
    exported = [s.metrics for s in facts.samples if s.metrics.has("gateway_tps_window_max")]
    books = max((round(metrics.total("gateway_tps_window_max")) for metrics in exported), default=-1)
    at_node = worst_second_at_a_send(facts.journal)
    return [
        (0 <= books <= facts.tps, f"worst second in the gateway's books {books} of {facts.tps}"),
        (
            at_node <= facts.tps + allowance + stalled,
            f"at the node {at_node} of {facts.tps} + {allowance} for what is on the wire"
            + (
                f" + {stalled} for {facts.stall_ns // NS_PER_MS} ms in which it stood still"
                if stalled
                else ""
            ),
        ),
    ]


def _judge_messages_first(facts: Facts) -> list[tuple[bool, str]]:
    shed = facts.outcome(Kind.MESSAGE, "shed") + facts.outcome(Kind.FAILED, "shed")
    passages = facts.passages(facts.phases.get("storm"))
    p99_ns = percentile((passage.gateway_ns for passage in passages), 0.99)
    where = "in the storm" if "storm" in facts.phases else "in the run"
    took = f"{p99_ns / NS_PER_MS:.0f} ms of {MESSAGE_P99_NS / NS_PER_MS:.0f} ms"
    return [
        (shed == 0, f"messages and failure notices shed: {shed}"),
        (p99_ns <= MESSAGE_P99_NS, f"p99 of {len(passages)} messages {where} {took}"),
    ]


def _judge_never_waits(facts: Facts) -> list[tuple[bool, str]]:
    bad = [
        attempt.reason
        for attempt in facts.journal.bad_attempts
        if not any(span.overlaps(attempt.begin_ns, attempt.end_ns) for span in facts.restarts)
    ]
    down_s = sum(span.end_ns - span.begin_ns for span in facts.restarts) / NS_PER_S
    bound = CALLBACK_QUEUE_MAX + round(2 * facts.tps * down_s)
    queue_max, lost = facts.journal.callback_queue_max, facts.journal.lost_callbacks
    latency_ns = percentile((c.ack_latency_ns for c in facts.journal.callbacks if c.acked_ns >= 0), 0.99)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(bad).items()))
    return [
        (not bad, f"callbacks not answered 200: {len(bad)}" + (f" ({reasons})" if bad else "")),
        (queue_max <= bound, f"callback queue {queue_max} of {bound}"),
        (lost == 0, f"callbacks lost: {lost}"),
        (True, f"ack p99 {latency_ns / NS_PER_MS:.1f} ms"),
    ]


def _judge_bounded(facts: Facts) -> list[tuple[bool, str]]:
    over, fullest, seen = "", 0.0, False
    for sample in facts.samples:
        for labels, capacity in sample.metrics.series("gateway_queue_capacity"):
            seen = True
            depth = sample.metrics.total("gateway_queue_depth", labels)
            fullest = max(fullest, depth / capacity if capacity else 0.0)
            if depth > capacity:
                name = "/".join(labels.values())
                over = f"queue {name} held {depth:.0f} of {capacity:.0f}"
    rss = max((s.metrics.total("process_resident_memory_bytes") for s in facts.samples), default=0.0)
    return [
        (seen, "queues export their limits" if seen else "gateway_queue_capacity is not exported"),
        (not over, over or f"fullest queue at {fullest:.1%} of its limit"),
        (0 < rss <= RSS_MAX_BYTES, f"memory {rss / (1 << 20):.0f} MiB of {RSS_MAX_BYTES >> 20}"),
    ]


def _judge_end(facts: Facts) -> list[tuple[bool, str]]:
    waiting = round(facts.last.total("gateway_waiting"))
    codes = ", ".join(map(str, facts.exit_codes)) or "none"
    return [
        (bool(facts.exit_codes) and not any(facts.exit_codes), f"exit code {codes}"),
        (waiting == 0, f"waiting at the end: {waiting}"),
        (facts.lost_messages == 0, f"messages lost at WhatsApp's end: {facts.lost_messages}"),
    ]


_PROMISES: Final[tuple[tuple[str, Callable[[Facts], list[tuple[bool, str]]]], ...]] = (
    ("acked is kept", _judge_kept),
    ("the number's TPS is never exceeded", _judge_rate),
    ("messages first", _judge_messages_first),
    ("the node is never made to wait", _judge_never_waits),
    ("everything is bounded", _judge_bounded),
    ("it ends well", _judge_end),
)

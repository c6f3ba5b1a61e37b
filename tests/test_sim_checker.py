"""The checker must be able to fail: a run that keeps every promise, then each promise broken on purpose."""

from collections.abc import Callable

import pytest

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import Kind
from gateway.sim.checker import CALLBACK_QUEUE_MAX, RSS_MAX_BYTES, check
from gateway.sim.exposition import Exposition
from gateway.sim.facts import Facts, Sample, Span, percentile
from gateway.sim.journal import BadAttempt, Callback, SendEntry
from gateway.sim.ledger import Pushed, Received
from gateway.sim.report import render

KEPT, RATE, FIRST, WAITS, BOUNDED, END = (
    "acked is kept",
    "the number's TPS is never exceeded",
    "messages first",
    "the node is never made to wait",
    "everything is bounded",
    "it ends well",
)
TPS = 10


def make_metrics(
    *,
    accepted: int = 20,
    delivered: int = 20,
    shed: int = 0,
    waiting: int = 0,
    difference: int = 0,
    window_max: int = TPS,
    depth: int = 3,
    rss: int = 64 << 20,
    kind: str = "message",
) -> Exposition:
    """One scrape of a gateway with balanced books; what a test sets is what it is about."""
    return Exposition(
        f"""# HELP gateway_accepted_total Items.
gateway_accepted_total{{kind="{kind}"}} {accepted}
gateway_outcome_total{{kind="{kind}",outcome="delivered"}} {delivered}
gateway_outcome_total{{kind="{kind}",outcome="shed"}} {shed}
gateway_waiting{{kind="{kind}"}} {waiting}
gateway_conservation_difference {difference}
gateway_tps_window_max {window_max}
gateway_queue_depth{{side="inbound",class="message"}} {depth}
gateway_queue_capacity{{side="inbound",class="message"}} 100
process_resident_memory_bytes {rss}
"""
    )


def make_callback(n: int, kind: Kind = Kind.MESSAGE) -> Callback:
    """Served and acked in second `n`, 5 ms after it began."""
    at_ns = n * NS_PER_S
    ack_ns = at_ns + 5 * NS_PER_MS
    return Callback(kind, f"id{n}", "peer", {}, None, at_ns, at_ns, at_ns, ack_ns, ack_ns - at_ns, 1)


def make_facts() -> Facts:
    """Twenty messages through in 20 ms each, twenty answered pushes at the node, one a second."""
    facts = Facts(TPS, phases={"steady": Span(0, 5 * NS_PER_S), "storm": Span(5 * NS_PER_S, 20 * NS_PER_S)})
    for n in range(20):
        facts.journal.callbacks.append(make_callback(n))
        facts.ledger.received.append(
            Received(n * NS_PER_S + 20 * NS_PER_MS, Kind.MESSAGE, f"id{n}", "peer", "messages")
        )
        facts.ledger.pushes.append(Pushed(n * NS_PER_S, f"push {n}", 202, f"gw{n}"))
        facts.journal.sends.append(SendEntry(n * NS_PER_S + 1, f"wa{n}", "peer", f"push {n}", 1))
    set_samples(facts, make_metrics())
    facts.exit_codes = [0]
    return facts


def set_samples(facts: Facts, last: Exposition) -> None:
    """A scrape before anything happened, then `last`."""
    first = make_metrics(accepted=0, delivered=0)
    facts.samples = [Sample(0, first), Sample(20 * NS_PER_S, last)]


def broken(facts: Facts) -> list[str]:
    return [verdict.promise for verdict in check(facts) if not verdict.is_kept]


def test_a_good_run_keeps_every_promise() -> None:
    verdicts = check(make_facts())
    assert [verdict.promise for verdict in verdicts] == [KEPT, RATE, FIRST, WAITS, BOUNDED, END]
    assert all(verdict.is_kept for verdict in verdicts), verdicts


def lose_a_message(facts: Facts) -> None:
    facts.ledger.received.pop()


def lose_a_receipt(facts: Facts) -> None:
    facts.journal.callbacks.append(make_callback(30, Kind.READ))


def lose_a_push(facts: Facts) -> None:
    facts.journal.sends.pop()


def forget_a_push(facts: Facts) -> None:
    """The gateway says it was sent, the node never saw it."""
    facts.journal.sends.pop()
    facts.push_states["gw19"] = "sent"


def lose_a_reply(facts: Facts) -> None:
    facts.ledger.replies.append("reply to id1")


def unbalance_the_books(facts: Facts) -> None:
    set_samples(facts, make_metrics(accepted=21))


def report_a_difference(facts: Facts) -> None:
    set_samples(facts, make_metrics(difference=1))


def export_no_books(facts: Facts) -> None:
    kept = "gateway_tps_window_max 10\nprocess_resident_memory_bytes 1\ngateway_queue_capacity 1"
    set_samples(facts, Exposition(kept))


def exceed_the_books(facts: Facts) -> None:
    set_samples(facts, make_metrics(window_max=TPS + 1))


def exceed_at_the_node(facts: Facts) -> None:
    """Twelve sends in one second, where ten and one on the wire are allowed."""
    for n in range(12):
        at_ns = 50 * NS_PER_S + n * NS_PER_MS
        facts.journal.sends.append(SendEntry(at_ns, f"x{n}", "peer", f"extra {n}", 1))


def send_into_a_full_second(facts: Facts) -> None:
    """Eleven receipts came by themselves; the send on top of them is ours."""
    for n in range(11):
        callback = make_callback(60, Kind.DELIVERED)
        callback.id = f"receipt{n}"
        facts.journal.callbacks.append(callback)
        facts.ledger.received.append(Received(61 * NS_PER_S, Kind.DELIVERED, callback.id, "peer", "events"))
    facts.journal.sends.append(SendEntry(60 * NS_PER_S + 500 * NS_PER_MS, "x", "peer", "extra", 1))


def delay_a_message_in_the_storm(facts: Facts) -> None:
    late = facts.ledger.received.pop()
    facts.ledger.received.append(
        Received(late.at_ns + NS_PER_S, late.kind, late.id, late.participant, late.webhook)
    )


def shed_a_message(facts: Facts) -> None:
    set_samples(facts, make_metrics(delivered=19, shed=1))


def shed_a_failure(facts: Facts) -> None:
    set_samples(facts, make_metrics(kind="failed", delivered=19, shed=1))


def time_out_a_callback(facts: Facts) -> None:
    facts.journal.bad_attempts.append(BadAttempt(0, NS_PER_S, "timeout"))


def answer_a_callback_503(facts: Facts) -> None:
    facts.journal.bad_attempts.append(BadAttempt(0, NS_PER_S, "503"))


def let_the_callback_queue_grow(facts: Facts) -> None:
    facts.journal.callback_queue_max = CALLBACK_QUEUE_MAX + 1


def overfill_a_queue(facts: Facts) -> None:
    set_samples(facts, make_metrics(depth=101))


def grow_fat(facts: Facts) -> None:
    set_samples(facts, make_metrics(rss=RSS_MAX_BYTES + 1))


def exit_badly(facts: Facts) -> None:
    facts.exit_codes = [1]


def never_stop(facts: Facts) -> None:
    facts.exit_codes = []


def leave_something_waiting(facts: Facts) -> None:
    set_samples(facts, make_metrics(accepted=21, waiting=1))


def lose_messages_at_whatsapp(facts: Facts) -> None:
    facts.lost_messages = 1


@pytest.mark.parametrize(
    ("do", "promise"),
    [
        (lose_a_message, KEPT),
        (lose_a_receipt, KEPT),
        (lose_a_push, KEPT),
        (forget_a_push, KEPT),
        (lose_a_reply, KEPT),
        (unbalance_the_books, KEPT),
        (report_a_difference, KEPT),
        (export_no_books, KEPT),
        (exceed_the_books, RATE),
        (exceed_at_the_node, RATE),
        (send_into_a_full_second, RATE),
        (delay_a_message_in_the_storm, FIRST),
        (shed_a_message, FIRST),
        (shed_a_failure, FIRST),
        (time_out_a_callback, WAITS),
        (answer_a_callback_503, WAITS),
        (let_the_callback_queue_grow, WAITS),
        (overfill_a_queue, BOUNDED),
        (grow_fat, BOUNDED),
        (exit_badly, END),
        (never_stop, END),
        (leave_something_waiting, END),
        (lose_messages_at_whatsapp, END),
    ],
)
def test_each_promise_broken_on_purpose_fails_alone(do: Callable[[Facts], None], promise: str) -> None:
    facts = make_facts()
    do(facts)
    assert broken(facts) == [promise]


def test_no_samples_at_all_break_what_only_the_gateway_can_show() -> None:
    facts = make_facts()
    facts.samples = []
    assert broken(facts) == [KEPT, RATE, BOUNDED]


def test_a_shed_receipt_that_is_counted_is_kept() -> None:
    facts = make_facts()
    lose_a_receipt(facts)
    set_samples(facts, make_metrics(kind="read", accepted=1, delivered=0, shed=1))
    assert broken(facts) == []


def test_a_read_stands_for_its_delivered() -> None:
    facts = make_facts()
    for kind in (Kind.DELIVERED, Kind.READ):
        facts.journal.callbacks.append(make_callback(30, kind))
    facts.ledger.received.append(Received(31 * NS_PER_S, Kind.READ, "id30", "peer", "events"))
    assert broken(facts) == []


@pytest.mark.parametrize("state", ["queued", "expired", "cancelled"])
def test_a_push_that_waits_or_has_ended_is_kept(state: str) -> None:
    facts = make_facts()
    facts.journal.sends.pop()
    facts.push_states["gw19"] = state
    outcome = {"queued": make_metrics(kind="send", accepted=1, delivered=0, waiting=1)}
    set_samples(facts, outcome.get(state, make_metrics(kind="send", accepted=1, delivered=0, shed=1)))
    assert KEPT not in broken(facts)


def test_a_burst_that_arrives_by_itself_is_not_our_fault() -> None:
    facts = make_facts()
    for n in range(30):
        callback = make_callback(60, Kind.DELIVERED)
        callback.id = f"receipt{n}"
        facts.journal.callbacks.append(callback)
        facts.ledger.received.append(Received(61 * NS_PER_S, Kind.DELIVERED, callback.id, "peer", "events"))
    assert broken(facts) == []


def test_a_node_that_stood_still_sees_what_came_meanwhile_as_one_moment() -> None:
    """A tenth of a second more is one event more at ten a second, and says so; 19 ms are no standstill."""
    for stall_ms, is_kept in ((19, False), (100, True)):
        facts = make_facts()
        exceed_at_the_node(facts)
        facts.stall_ns = stall_ms * NS_PER_MS
        (rate,) = (verdict for verdict in check(facts) if verdict.promise == RATE)
        assert rate.is_kept is is_kept
        assert ("+ 1 for 100 ms in which it stood still" in rate.evidence) is is_kept


def test_a_backend_outage_excuses_late_messages_but_not_refused_callbacks() -> None:
    facts = make_facts()
    delay_a_message_in_the_storm(facts)
    facts.outages = [Span(18 * NS_PER_S, 21 * NS_PER_S)]
    assert broken(facts) == []
    time_out_a_callback(facts)
    assert broken(facts) == [WAITS]


def test_an_outage_does_not_excuse_a_message_that_was_late_before_it() -> None:
    facts = make_facts()
    delay_a_message_in_the_storm(facts)
    facts.outages = [Span(20 * NS_PER_S + 1, 21 * NS_PER_S)]
    assert broken(facts) == [FIRST]


def test_a_restart_excuses_callbacks_it_met() -> None:
    facts = make_facts()
    time_out_a_callback(facts)
    facts.restarts = [Span(0, NS_PER_S)]
    assert broken(facts) == []


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile(range(1, 101), share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7], 0.99) == 7
    assert percentile([], 0.5) == 0


def test_the_report_has_the_books_the_worst_second_and_each_promise() -> None:
    facts = make_facts()
    facts.ledger.received.append(facts.ledger.received[0])
    text = render(facts, check(facts))
    assert "message          20         20       0        0          0     0        0           0" in text
    assert "10 of 10 in the gateway's books" in text
    assert "1 event reached the backend more than once" in text
    assert "in the storm            15" in text
    assert text.count("kept ") >= 6
    assert text.endswith("All promises kept.")


def test_the_report_names_a_broken_promise_with_its_evidence() -> None:
    facts = make_facts()
    exceed_the_books(facts)
    text = render(facts, check(facts))
    assert "  BROKEN  the number's TPS is never exceeded\n" in text
    assert "  worst second in the gateway's books 11 of 10\n" in text
    assert text.endswith("1 promise broken.")

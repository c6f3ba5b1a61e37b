"""The report at the end of a run, as text. Pure: facts and verdicts in, lines out."""

import textwrap
from collections import Counter
from typing import Final

from gateway.clock import NS_PER_MS
from gateway.events import Kind, Outcome
from gateway.sim.checker import Verdict
from gateway.sim.facts import Facts, Span, percentile
from gateway.sim.rate import busiest_second, worst_second_at_a_send

WIDTH: Final = 100
"""Columns of the evidence."""

_OUTCOMES: Final = tuple(outcome.label for outcome in Outcome)
_ALWAYS: Final = (Kind.MESSAGE, Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.SEND)
"""Kinds with a row of their own even where nothing happened."""


def render(facts: Facts, verdicts: list[Verdict]) -> str:
    """The books, the worst second, the latencies, what is worth a line, and the promises."""
    blocks = [books(facts), rate_lines(facts), latency_table(facts), notes(facts), verdict_lines(verdicts)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def books(facts: Facts) -> list[str]:
    """What the gateway accepted and how it ended, a row each kind; the last column must be 0."""
    rows = [["", "accepted", *_OUTCOMES, "waiting", "difference"]]
    for kind in Kind:
        accepted = round(facts.last.total("gateway_accepted_total", {"kind": kind.label}))
        if not accepted and kind not in _ALWAYS:
            continue
        ended = facts.last.by("outcome", "gateway_outcome_total", {"kind": kind.label})
        outcomes = [round(ended.get(outcome, 0.0)) for outcome in _OUTCOMES]
        difference = accepted - sum(outcomes) - facts.waiting(kind)
        rows.append([kind.label, *map(_count, (accepted, *outcomes, facts.waiting(kind), difference))])
    return ["Books: accepted = delivered + failed + expired + cancelled + shed + waiting", *table(rows)]


def rate_lines(facts: Facts) -> list[str]:
    """The worst one-second window against the limit."""
    books = max((round(s.metrics.total("gateway_tps_window_max")) for s in facts.samples), default=0)
    node = worst_second_at_a_send(facts.journal)
    sends, refused = len(facts.journal.sends), facts.journal.refusals.total()
    return [
        f"Worst second at a send: {books} of {facts.tps} in the gateway's books, {node} seen from the node.",
        f"Busiest second of all, sends or not: {busiest_second(facts.journal)}.",
        f"The node took {sends} sends and refused {refused}; WhatsApp lost {facts.lost_messages} messages.",
    ]


def latency_table(facts: Facts) -> list[str]:
    """Message latency before, in and after the storm; messages of an outage or a restart are left out."""
    rows = [["", "messages", "gateway p50", "p99", "since made p50", "p99"]]
    for name, span in _latency_spans(facts).items():
        passages = facts.passages(span)
        through = [passage.gateway_ns for passage in passages]
        whole = [passage.whole_ns for passage in passages]
        times = [_ms(percentile(values, share)) for values in (through, whole) for share in (0.5, 0.99)]
        rows.append([name, _count(len(passages)), *times])
    title = "Message latency: through the gateway, and since the customer wrote"
    return [title, *table(rows)]


def _latency_spans(facts: Facts) -> dict[str, Span | None]:
    storm = facts.phases.get("storm")
    if storm is None:
        return {"all": None}
    first = min(span.begin_ns for span in facts.phases.values())
    return {"before the storm": Span(first, storm.begin_ns), "in the storm": storm, "all": None}


def notes(facts: Facts) -> list[str]:
    """What breaks no promise and is still worth a line."""
    lines = []
    arrivals = Counter((event.kind, event.id, event.participant) for event in facts.ledger.received)
    twice = sum(1 for kind_id, count in arrivals.items() if count > 1 and kind_id[0] is not Kind.ERROR)
    is_excused = bool(facts.restarts or facts.outages)
    if twice:
        why = "after an outage or a restart" if is_excused else "although nothing was interrupted"
        lines.append(
            f"{_several(twice, 'event')} reached the backend more than once, {why} (at least once is the promise)."
        )
    marks = Counter(entry.text for entry in facts.journal.sends if entry.text)
    resent = {text for text, count in marks.items() if count > 1}
    unsure = {entry.text for entry in facts.journal.sends if not entry.is_answered}
    if resent:
        known = len(resent - unsure)
        lines.append(
            f"{_several(len(resent), 'send')} reached the node more than once; {known} of them had been answered."
        )
    refused = Counter(str(push.status) for push in facts.ledger.pushes if not push.is_accepted)
    if refused:
        reasons = ", ".join(f"{status}: {count}" for status, count in sorted(refused.items()))
        lines.append(f"Pushes the gateway did not take, by HTTP status (0: no answer): {reasons}.")
    if facts.journal.duplicates_made:
        lines.append(f"The node repeated {_several(facts.journal.duplicates_made, 'event')} on purpose.")
    return lines


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    """Each promise, kept or broken, with its evidence."""
    lines: list[str] = []
    for verdict in verdicts:
        lines.append(f"  {'kept  ' if verdict.is_kept else 'BROKEN'}  {verdict.promise}")
        lines += textwrap.wrap(verdict.evidence, WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)
    broken = sum(not verdict.is_kept for verdict in verdicts)
    return [
        "Promises",
        *lines,
        "",
        f"{_several(broken, 'promise')} broken." if broken else "All promises kept.",
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _several(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def _count(number: int) -> str:
    return f"{number:,}"


def _ms(value_ns: int) -> str:
    return f"{value_ns / NS_PER_MS:,.1f} ms"

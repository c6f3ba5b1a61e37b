"""A budget report as an operator reads it: aligned, with units, in plain words. Pure."""

from typing import Final

from gateway.budget import wording
from gateway.budget.advice import Advice, Option, SendCost
from gateway.budget.sustain import RECEIPTS, Receipts
from gateway.budget.usage import KindUse, Report

_KINDS: Final = {
    "receive": "received",
    "send": "sent",
    "delivered": "delivered",
    "read": "read",
    "all": "counted",
}
_COLUMNS: Final[dict[Receipts, str]] = {
    "all": "all receipts",
    "no_read": "no read",
    "no_delivered": "no delivered",
    "neither": "neither",
}
_SOURCES: Final = {
    "default": "usual ratios, the last hour telling too little",
    "given": "as given",
    "assumed": "usual ratios",
}


def report_text(report: Report) -> str:
    """What `wa-gateway budget` prints of a running gateway."""
    advice = report.advice
    blocks = [
        [_title(advice, report.dialect), *_now_lines(advice, report.ceiling_events_per_s)],
        _used_lines(report),
        [
            "What would change it",
            *(f"  {change.sentence}" for change in advice.changes),
            *_shards_line(advice),
        ],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def campaign_text(advice: Advice) -> str:
    """What `wa-gateway budget --campaign N` prints; without a campaign, rates instead of times."""
    blocks = [
        [_title(advice, advice.now.dialect), *_now_lines(advice, None)],
        _planned_lines(advice),
        _options_lines(advice),
    ]
    blocks += [lines] if (lines := _shards_line(advice, indent="")) else []
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def table(rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "   ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _title(advice: Advice, dialect: str) -> str:
    plan = wording.plan_name(dialect, advice.plan_tps)
    own = f"{wording.number(advice.part_tps)} of them for this gateway, one of {advice.shards} shards"
    part = f", {own}" if advice.shards > 1 else ""
    headroom = f", {wording.percent(advice.headroom_percent)} left free" if advice.headroom_percent else ""
    return f"Plan              {plan}{part}{headroom}"


def _used_lines(report: Report) -> list[str]:
    title = "Used, in events/s and as share of the plan"
    if report.observed_s < 3600:
        title += f" (since the start, {wording.duration(report.observed_s)} ago)"
    head = ["", "now", "1 min", "5 min", "60 min"]
    return [title, *table([head, *([_KINDS[use.kind], *_cells(use)] for use in report.used)])]


def _cells(use: KindUse) -> list[str]:
    figures = (
        (use.events_last_s, use.share_of_plan_percent_now),
        (use.events_per_s_1m, use.share_of_plan_percent_1m),
        (use.events_per_s_5m, use.share_of_plan_percent_5m),
        (use.events_per_s_60m, use.share_of_plan_percent_60m),
    )
    return [f"{wording.rate(events)} {wording.percent(share):>6}" for events, share in figures]


def _now_lines(advice: Advice, ceiling_events_per_s: float | None) -> list[str]:
    """The send rate and what waits; a campaign has no ceiling."""
    cost, now = advice.send_cost, advice.now
    received = f"{wording.rate(advice.inbound_per_s)} messages/s received"
    lines = [
        f"One send costs    {cost.events:.2f} events: {_made_of(cost)}",
        f"Sends can go at   {wording.rate(now.sends_per_s)} sends/s, beside {received}",
    ]
    if advice.limited_by == "inbound":
        lines.append("                  received messages alone fill the plan")
    elif advice.limited_by == "floor":
        lines.append(
            "                  by the send floor: received messages leave less, and the plan is passed"
        )
    elif advice.limited_by == "ceiling" and ceiling_events_per_s is not None:
        lines.append(
            f"                  the node asked us to slow down: {wording.rate(ceiling_events_per_s)} "
            "events/s at most for now"
        )
    waiting = f"{advice.waiting_sends:,} send{'' if advice.waiting_sends == 1 else 's'}"
    to_each = advice.waiting_recipients_mean
    waiting += f" to {wording.number(to_each)} recipients each" if to_each != 1 else ""
    if ceiling_events_per_s is None:
        end = "never out" if now.drain_s is None else f"out in {wording.duration(now.drain_s)}"
        lines += [f"Campaign          {waiting}: {end}"] if advice.waiting_sends else []
    elif advice.waiting_sends == 0:
        lines.append("Queue             nothing waits")
    else:
        end = "it never drains" if now.drain_s is None else f"out in {wording.duration(now.drain_s)}"
        lines.append(f"Queue             {waiting} waiting: {end}")
    return lines


def _made_of(cost: SendCost) -> str:
    """What a send's cost consists of, and how we know."""
    if cost.events == cost.own_events:
        return "receipts take nothing"
    source = _SOURCES.get(cost.source, f"measured on {cost.measured_sends:,} sends of the last hour")
    own = f"{cost.own_events} itself"
    return f"{own} + {cost.delivered_events:.2f} delivered + {cost.read_events:.2f} read ({source})"


def _planned_lines(advice: Advice) -> list[str]:
    has_total = advice.waiting_sends > 0 and advice.now.drain_s is not None
    rows = [["Meanwhile", "events/s", "of the plan", *(["events in all"] if has_total else [])]]
    for use in advice.planned:
        total = [f"{use.events or 0:,.0f}"] if has_total else []
        rows.append(
            [
                f"  {_KINDS[use.kind]}",
                wording.rate(use.events_per_s),
                wording.percent(use.share_of_plan_percent),
                *total,
            ]
        )
    return [line[2:] for line in table(rows)]


def _options_lines(advice: Advice) -> list[str]:
    """A row for each plan, a column for each choice of receipts: times, or rates where nothing waits.

    The plan that was asked for is marked.
    """
    by_plan: dict[tuple[bool, float], dict[str, Option]] = {}
    for option in sorted(advice.options, key=_plan_order):
        by_plan.setdefault(_plan_order(option), {})[option.receipts] = option
    shown = [name for name in RECEIPTS if any(name in options for options in by_plan.values())]
    is_timed = advice.waiting_sends > 0
    title = "Time it takes" if is_timed else "Sends/s"
    rows = [[title, *(_COLUMNS[name] for name in shown)]]
    for options in by_plan.values():
        # Where a choice makes no difference, what holds for all receipts holds for it.
        chosen = [options.get(name, options["all"]) for name in shown]
        cells = [
            wording.duration(option.drain_s) if is_timed else wording.rate(option.sends_per_s)
            for option in chosen
        ]
        mark = ">" if options["all"] == advice.now else " "
        rows.append([f"{mark} {wording.plan_name(chosen[0].dialect, chosen[0].plan_tps)}", *cells])
    return [line[2:] for line in table(rows)]


def _plan_order(option: Option) -> tuple[bool, float]:
    return option.dialect == "cloud", option.plan_tps


def _shards_line(advice: Advice, indent: str = "  ") -> list[str]:
    return [f"{indent}{advice.shards_sentence}"] if advice.shards_sentence else []

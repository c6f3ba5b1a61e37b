"""Figures of the budget in plain words: rates, durations, and the sentences of an advice. Pure."""


def duration(seconds: float | None) -> str:
    """`4 h 10 min`, `12 s`: the two largest units, rounded to the smaller of them; None is `never`."""
    if seconds is None:
        return "never"
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return "under 1 s"
    # A unit is chosen by what is shown in it after rounding: 59.7 s is 1 min, 23.6 h is no day.
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    if round(seconds) < 3_600:
        return _two_units(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 1_440:
        return _two_units(round(seconds / 60), 60, "h", "min")
    return _two_units(round(seconds / 3_600), 24, "d", "h")


def _two_units(count: int, base: int, large: str, small: str) -> str:
    whole, rest = divmod(count, base)
    return f"{whole:,} {large} {rest} {small}" if rest else f"{whole:,} {large}"


def rate(per_s: float | None) -> str:
    """Three digits that matter: `0.05`, `3.21`, `47.5`, `1,250`; None is `unlimited`."""
    if per_s is None:
        return "unlimited"
    if 0 < per_s < 0.005:
        return "<0.01"
    if per_s < 9.995:
        return f"{per_s:.2f}"
    return f"{per_s:.1f}" if per_s < 99.95 else f"{per_s:,.0f}"


def percent(share: float) -> str:
    """`31 %`, `0.4 %`."""
    return f"{share:.1f} %" if 0 < share < 0.95 else f"{share:.0f} %"


def number(value: float) -> str:
    """As short as it is exact: `10`, `2.5`."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def plan_name(dialect: str, plan_tps: float) -> str:
    """`15 TPS`, `80 TPS (Cloud)`."""
    return f"{number(plan_tps)} TPS{' (Cloud)' if dialect == 'cloud' else ''}"


def plan_sentence(plan: str, before_per_s: float | None, after_per_s: float | None) -> str:
    """Another plan, without the full stop."""
    return f"A plan of {plan} gives {rate(after_per_s)} sends/s instead of {rate(before_per_s)}"


def receipts_sentence(
    receipts: str, taken_percent: float, before_per_s: float | None, after_per_s: float | None
) -> str:
    """Receipts switched off at the node, without the full stop."""
    names = {
        "no_read": "Read receipts",
        "no_delivered": "Delivery receipts",
        "neither": "Delivery and read receipts",
    }
    return (
        f"{names[receipts]} take {percent(taken_percent)} of the plan; "
        f"without them {rate(after_per_s)} sends/s instead of {rate(before_per_s)}"
    )


def drain_clause(drain_s: float | None) -> str:
    """What a change means for those that wait."""
    return "; the queue never drains" if drain_s is None else f"; queue out in {duration(drain_s)}"


def shards_sentence(
    messages_per_s: float,
    shards: int,
    capacity_per_s: int,
    needed: int | None,
    per_shard: int,
    most_per_s: int,
) -> str:
    """Whether the node's shards carry what the plan allows."""
    load = f"{rate(messages_per_s)} messages/s sent and received"
    have = f"{shards} shard{'' if shards == 1 else 's'}"
    if messages_per_s <= capacity_per_s:
        carry = "carries" if shards == 1 else "carry"
        return (
            f"{have} of the node {carry} the {load} (about {per_shard} a shard): more would send no faster."
        )
    if needed is None:
        return f"The {load} are more than the {most_per_s} messages/s that any number of shards carries."
    return f"The {load} need {needed} shards of the node (about {per_shard} a shard); {have} will carry {capacity_per_s}."

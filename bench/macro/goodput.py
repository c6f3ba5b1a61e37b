"""How many messages get through when a gateway is offered more than its backend can do.

The backend takes 50 ms and works on 8 requests at once, so it does 160 a second, and the rest waits in its queue.
A message causes three receipts here. The rated load is what the backend can do if every event is a request of its own:
40 messages and 120 receipts a second. Two series offer multiples of it:

- `receipts`: 40 messages a second always, and receipts for the rest (10x: 1,560). Messages alone would never fill the
  backend, so each should be there in time: goodput counts messages that arrived within 5 s of the moment they were due.
- `both`: messages and receipts grow together. From 4x on the messages alone (160 a second) are all the backend can do,
  and as none is ever shed, they wait ever longer, whoever holds them; so goodput counts messages that arrived, each
  once, and the target is that it stays at its peak instead of falling as the load grows.

The load comes on a timetable; each point has servers of its own and is counted over the same seconds after a start of
three. Beside it, in the same run, a plain FIFO gateway with the same number of requests to the backend.

Target: at every multiple goodput of messages within 5 % of the peak, or of what was offered where that is less.
"""

import argparse
import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any, Final

import arrivals
import overload_rig
import record
import uvloop
from overload_rig import ACK_FIRST, GATEWAY, BenchBackend

from gateway.clock import NS_PER_S

LATENCY_S: Final = 0.05
SLOTS: Final = 8
RECEIPTS_EACH: Final = 3
RATED: Final = SLOTS / LATENCY_S
"""Requests a second."""
MESSAGES_RATED: Final = RATED / (1 + RECEIPTS_EACH)
MULTIPLES: Final = (1, 2, 5, 10)
SERIES: Final = ("receipts", "both")
IN_TIME_S: Final = 5.0
START_S: Final = 3.0
TARGET: Final = 0.95

Row = dict[str, Any]

_HEAD: Final = (
    f"{'series':10}{'load':>5}{'messages/s':>12}{'receipts/s':>12}  {'server':18}{'goodput/s':>10}{'of possible':>13}"
    f"{'p50 ms':>10}{'p99 ms':>10}{'callback queue':>16}"
)


async def measure_point(name: str, series: str, multiple: int, seconds: float, rng: random.Random) -> Row:
    """One server under one load."""
    messages_rate = MESSAGES_RATED * (multiple if series == "both" else 1)
    receipts_rate = RATED * multiple - messages_rate
    async with overload_rig.running(name, BenchBackend(LATENCY_S, SLOTS)) as rig:
        begin_ns = time.monotonic_ns() + int(0.2 * NS_PER_S)
        total_s = START_S + seconds
        messages = arrivals.messages(begin_ns, total_s, messages_rate, rng)
        receipts = list(arrivals.receipts_of_sends(begin_ns, total_s, receipts_rate))
        await arrivals.play([*messages, *receipts], rig.load.offer)
        from_ns, to_ns = begin_ns + int(START_S * NS_PER_S), begin_ns + int(total_s * NS_PER_S)
        if series == "receipts":  # the last ones have their 5 s too
            await asyncio.sleep(IN_TIME_S)
        delivered = rig.delivered()
        counted = [event for event in messages if event.made_ns >= from_ns]
        in_time = [
            event
            for event in counted
            if delivered.get(event.id, to_ns * 2) - event.made_ns <= IN_TIME_S * NS_PER_S
        ]
        arrived = sum(from_ns <= at_ns < to_ns for at_ns in delivered.values())
        ordered = overload_rig.latencies_ms(counted, delivered, time.monotonic_ns())
        return {
            "server": name,
            "series": series,
            "multiple": multiple,
            "offered_per_s": round(len(counted) / seconds, 1),
            "receipts_per_s": round(receipts_rate, 1),
            "goodput_per_s": round((len(in_time) if series == "receipts" else arrived) / seconds, 1),
            "in_time_per_s": round(len(in_time) / seconds, 1),
            **overload_rig.spread(ordered),
            "callback_queue_max": rig.load.queue_max,
            "cpu_wait_ms": round(rig.server.cpu_wait_ns() / 1e6),
        }


async def measure(options: argparse.Namespace) -> list[Row]:
    """All points, servers in turns."""
    overload_rig.pin_load()
    return [
        await measure_point(
            name, series, multiple, options.seconds, random.Random(f"{options.seed} {multiple}")
        )
        for series in options.series
        for multiple in options.multiples
        for name in (GATEWAY, ACK_FIRST)
    ]


def possible(rows: list[Row], row: Row) -> float:
    """What a point could reach: the server's peak in its series, or what was offered."""
    peak = max(other["goodput_per_s"] for other in rows if other["series"] == row["series"])
    return float(min(peak, row["offered_per_s"]))


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        record.headline(result),
        f"server on core {result['cores']['server']}, node and backend on {result['cores']['node and backend']}",
        f"backend: {LATENCY_S * 1000:g} ms, {SLOTS} at once; rated load {RATED:g} events/s; {result['seconds']:g} s a point",
        f"load at the end: {result['load_1min_at_end']}",
        _HEAD,
    ]
    verdicts = []
    for row in result["rows"]:
        own = [other for other in result["rows"] if other["server"] == row["server"]]
        share = row["goodput_per_s"] / possible(own, row)
        lines.append(
            f"{row['series']:10}{row['multiple']:4}x{row['offered_per_s']:12.1f}{row['receipts_per_s']:12.1f}  "
            f"{row['server']:18}{row['goodput_per_s']:10.1f}{share:13.1%}{row['p50_ms']:10,.0f}{row['p99_ms']:10,.0f}"
            f"{row['callback_queue_max']:16,}"
        )
        if row["server"] == GATEWAY:
            is_met = share >= TARGET
            verdicts.append(
                f"{'met   ' if is_met else 'MISSED'} {row['series']} {row['multiple']}x: {share:.1%} of what is possible, "
                f"at least {TARGET:.0%}"
            )
    return "\n".join([*lines, *verdicts])


def plot(result: dict[str, Any], path: Path) -> None:
    """The curves, one picture for both series."""
    import matplotlib as mpl  # noqa: PLC0415  (of the extra `bench`, and only the picture needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    series = sorted({row["series"] for row in result["rows"]}, reverse=True)
    figure, axes = plt.subplots(1, len(series), figsize=(5.5 * len(series), 4), squeeze=False)
    titles = {
        "receipts": "40 messages/s, the rest receipts:\nmessages there within 5 s",
        "both": "a message and three receipts each:\nmessages there",
    }
    for axis, name in zip(axes[0], series, strict=True):
        rows = [row for row in result["rows"] if row["series"] == name]
        for server, style in ((GATEWAY, "o-"), (ACK_FIRST, "s--")):
            points = [(row["multiple"], row["goodput_per_s"]) for row in rows if row["server"] == server]
            axis.plot(*zip(*points, strict=True), style, label=server)
        offered = [
            (row["multiple"], min(row["offered_per_s"], RATED)) for row in rows if row["server"] == GATEWAY
        ]
        axis.plot(
            *zip(*offered, strict=True), ":", color="grey", label="offered, at most what the backend can do"
        )
        axis.set(title=titles[name], xlabel=f"load, in multiples of {RATED:g} events/s", ylabel="messages/s")
        axis.set_ylim(bottom=0)
        axis.set_xticks([row["multiple"] for row in rows if row["server"] == GATEWAY])
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="counted at each point (default 8)")
    parser.add_argument("--multiples", nargs="*", type=int, default=list(MULTIPLES), metavar="N")
    parser.add_argument("--series", nargs="*", default=list(SERIES), choices=SERIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the curves there (needs matplotlib)")
    record.add_option(parser)
    options = parser.parse_args()
    result: dict[str, Any] = {**overload_rig.about(), "seconds": options.seconds, "seed": options.seed}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result["rows"] = runner.run(measure(options))
    result["load_1min_at_end"] = round(os.getloadavg()[0], 2)
    print(report(result))
    record.write(options.json, result)
    if options.png:
        plot(result, options.png)


if __name__ == "__main__":
    main()

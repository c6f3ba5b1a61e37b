"""Whether a gateway grows: its memory and its store after 10,000 receipts and after 1,000,000.

Sent, delivered and read of ever new messages to single customers come as fast as 24 connections bring them, and are
forwarded to a backend of 50 ms. At each mark the load pauses until nothing waits; then the memory (VmRSS and its
anonymous part) and the store (bytes in use, and the files) are read. At the end the load stops for longer than a
minute, in which the gateway cleans up.

What a gateway remembers (fingerprints of events against duplicates, the receipt ledger) is bounded by number, and
stands full long before the end. `--full-early` makes the bounds so small that it is full at the first mark: what
still grows then is a leak.

`--short-ages` keeps what is remembered for a minute, not a day, so that the last row, after the rest, shows a store from
which all of that has gone again.

Targets: memory at the end within 5 % of that at the first mark; the store's size back to that at the first mark.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any, Final

import arrivals
import overload_rig
import record
import uvloop
from overload_rig import GATEWAY, BenchBackend, Rig

from gateway.clock import NS_PER_S
from gateway.sim.journal import Callback

MARKS: Final = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Of all receipts."""
WAITING: Final = 200
"""Callbacks that wait at the node: enough that no connection is ever idle."""
DRAIN_S: Final = 60.0
CLEAN_UP_S: Final = 65.0
SMALL: Final = {"DEDUPE_KEYS": "10000", "LEDGER_MESSAGES": "1000"}
"""As many as the first mark of a million."""
SHORT: Final = {"DEDUPE_AGE": "1m", "LEDGER_AGE": "1m"}
SHORT_REST_S: Final = 190.0
"""The minute, and the next two clean-ups."""
TARGET: Final = 0.05

Row = dict[str, Any]


def read(rig: Rig, receipts: int) -> Row:
    """Memory and files now, in bytes."""
    return {"receipts": receipts, **rig.server.memory_bytes(), "files": rig.server.store_bytes()}


async def mark(rig: Rig, receipts: int) -> Row:
    """The same once nothing waits, with what the gateway says of its store."""
    await rig.drain(DRAIN_S)
    metrics = await rig.metrics()
    return {
        **read(rig, receipts),
        "store_used": int(metrics.total("gateway_store_used_bytes")),
        "waiting": int(metrics.total("gateway_waiting")),
        "difference": int(metrics.total("gateway_conservation_difference")),
    }


async def feed(rig: Rig, events: Iterator[Callback], count: int) -> None:
    """Bring the next `count` events as fast as they are taken."""
    offered = 0
    while offered < count:
        for _ in range(min(WAITING - rig.load.waiting, count - offered)):
            rig.load.offer(next(events))
            offered += 1
        await asyncio.sleep(0.005)


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """The gateway's own, without their GATEWAY_."""
    return SMALL if options.full_early else SHORT if options.short_ages else {}


async def measure(options: argparse.Namespace) -> Row:
    overload_rig.pin_load()
    variables = settings_of(options)
    async with overload_rig.running(GATEWAY, BenchBackend(0.05), variables=variables) as rig:
        rows = [await mark(rig, 0)]
        # All are due at once: what counts here is how many, not when.
        events = arrivals.receipts_of_sends(time.monotonic_ns(), options.receipts, 1.0)
        begin_ns, done = time.monotonic_ns(), 0
        for share in MARKS:
            upto = int(options.receipts * share)
            await feed(rig, events, upto - done)
            done = upto
            rows.append(await mark(rig, done))
            rig.backend.ledger.received.clear()
            rig.load.ack_ms.clear()
        seconds = (time.monotonic_ns() - begin_ns) / NS_PER_S
        await asyncio.sleep(options.rest or (SHORT_REST_S if options.short_ages else CLEAN_UP_S))
        rows.append(await mark(rig, done))
        metrics = await rig.metrics()
        return {
            "rows": rows,
            "seconds": round(seconds, 1),
            "per_s": round(options.receipts / seconds),
            "outcomes": metrics.by("outcome", "gateway_outcome_total"),
            "dropped": metrics.by("reason", "gateway_receipts_dropped_total"),
        }


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        record.headline(result),
        f"{result['settings'] or 'default settings'}; {result['per_s']:,} receipts/s, {result['seconds']:g} s",
        f"load at the end: {result['load_1min_at_end']}",
        f"{'receipts':>12}{'RSS MB':>9}{'anonymous':>11}{'store used MB':>15}{'its files':>11}{'waiting':>9}",
    ]
    lines += [
        f"{row['receipts']:12,}{row['rss'] / 1e6:9.2f}{row['anonymous'] / 1e6:11.2f}"
        f"{row['store_used'] / 1e6:15.2f}{row['files'] / 1e6:11.2f}{row['waiting']:9,}"
        for row in result["rows"]
    ]
    first, last = result["rows"][1], result["rows"][-1]
    for what, name in (("rss", "memory"), ("store_used", "store")):
        growth = last[what] / first[what] - 1
        is_met = growth <= TARGET
        lines.append(
            f"{'met   ' if is_met else 'MISSED'} {name} {growth:+.1%} from {first['receipts']:,} to "
            f"{last['receipts']:,} receipts, at most {TARGET:+.0%}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--receipts", type=int, default=1_000_000)
    parser.add_argument("--full-early", action="store_true", help="bounds that are reached at the first mark")
    parser.add_argument("--short-ages", action="store_true", help="what is remembered is for a minute")
    parser.add_argument(
        "--rest", type=float, help="seconds before the last row (default 65; 190 with --short-ages)"
    )
    record.add_option(parser)
    options = parser.parse_args()
    result: dict[str, Any] = {
        **overload_rig.about(),
        "settings": settings_of(options),
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result |= runner.run(measure(options))
    result["load_1min_at_end"] = round(os.getloadavg()[0], 2)
    print(report(result))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

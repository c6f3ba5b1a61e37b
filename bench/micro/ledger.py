"""What the receipt ledger costs beside an OrderedDict of dataclasses: ns a receipt from Python, and bytes a message.

Each row is a loop over prepared receipts of random messages, in a ledger that is full with `--messages`; the empty
loop is taken off. Medians over rounds, rows in turn. A plain dict would be no peer: it finds its oldest key in linear
time. The bytes are those of table, keys, objects and numbers, as `tracemalloc` counts them, with four receipts each.
"""

import argparse
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import compare

from gateway._fast.ledger import DELIVERED, READ, SENT, ReceiptLedger, pack_record

LEVELS: Final = (SENT, DELIVERED, DELIVERED, READ)

Receipts = list[tuple[int, int, int]]
"""Fingerprint, level and UTC seconds, as `record` takes them."""


@dataclass(slots=True)
class Entry:
    """What the ledger holds of a message."""

    delivered: int = 0
    delivered_first_s: int = 0
    delivered_last_s: int = 0
    read: int = 0
    read_first_s: int = 0
    read_last_s: int = 0
    sent_s: int = 0
    failed: int = 0
    mask: int = 0


class PlainLedger:
    """The same in plain Python."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: OrderedDict[int, Entry] = OrderedDict()

    def record(self, fingerprint: int, level: int, at_s: int) -> None:
        entry = self.held.get(fingerprint)
        if entry is None:
            if len(self.held) == self.capacity:
                self.held.popitem(last=False)
            entry = self.held[fingerprint] = Entry()
        if level == DELIVERED:
            if entry.delivered == 0 or at_s < entry.delivered_first_s:
                entry.delivered_first_s = at_s
            entry.delivered_last_s = max(entry.delivered_last_s, at_s)
            entry.delivered += 1
        elif level == READ:
            if entry.read == 0 or at_s < entry.read_first_s:
                entry.read_first_s = at_s
            entry.read_last_s = max(entry.read_last_s, at_s)
            entry.read += 1
        elif level == SENT:
            if entry.sent_s == 0 or at_s < entry.sent_s:
                entry.sent_s = at_s
        else:
            entry.failed += 1

    def look(self, fingerprint: int) -> Entry | None:
        return self.held.get(fingerprint)


class Bench:
    """Both ledgers, full with the same messages, and what the next round is about."""

    def __init__(self, messages: int, count: int, rng: random.Random) -> None:
        self.rng = rng
        self.count = count
        self.messages = [rng.getrandbits(64) for _ in range(messages)]
        self.native = ReceiptLedger(messages)
        self.plain = PlainLedger(messages)
        for fingerprint in self.messages:
            self.native.record(fingerprint, SENT, 1)
            self.plain.record(fingerprint, SENT, 1)
        self.prepare()

    def prepare(self) -> None:
        """Receipts of messages that are known, and of as many that are not and will be."""
        known = self.rng.choices(self.messages, k=self.count)
        new = [self.rng.getrandbits(64) for _ in range(self.count)]
        self.known, self.new = ([self._receipt(fingerprint) for fingerprint in some] for some in (known, new))

    def _receipt(self, fingerprint: int) -> tuple[int, int, int]:
        return fingerprint, self.rng.choice(LEVELS), self.rng.randrange(1_800_000_000, 1_800_086_400)

    def turn(self) -> None:
        """The new messages have pushed out the oldest ones."""
        self.messages = (self.messages + [fingerprint for fingerprint, _, _ in self.new])[self.count :]
        self.prepare()


def empty(receipts: Receipts) -> int:
    """The loop that the rows have."""
    start_ns = time.perf_counter_ns()
    for _fingerprint, _level, _at_s in receipts:
        pass
    return time.perf_counter_ns() - start_ns


def record(ledger: ReceiptLedger | PlainLedger, receipts: Receipts) -> int:
    call = ledger.record
    start_ns = time.perf_counter_ns()
    for fingerprint, level, at_s in receipts:
        call(fingerprint, level, at_s)
    return time.perf_counter_ns() - start_ns - empty(receipts)


def look(ledger: ReceiptLedger | PlainLedger, receipts: Receipts) -> int:
    call = ledger.look
    start_ns = time.perf_counter_ns()
    for fingerprint, _level, _at_s in receipts:
        call(fingerprint)
    return time.perf_counter_ns() - start_ns - empty(receipts)


def apply_log(ledger: ReceiptLedger, receipts: Receipts) -> int:
    """One call for all."""
    log = b"".join(pack_record(*receipt) for receipt in receipts)
    start_ns = time.perf_counter_ns()
    ledger.apply_log(log)
    return time.perf_counter_ns() - start_ns


ROWS: Final[dict[str, Callable[[Bench], int]]] = {
    "known: ReceiptLedger.record": lambda bench: record(bench.native, bench.known),
    "known: OrderedDict of dataclasses": lambda bench: record(bench.plain, bench.known),
    "known: ReceiptLedger.apply_log": lambda bench: apply_log(bench.native, bench.known),
    "asked: ReceiptLedger.look": lambda bench: look(bench.native, bench.known),
    "asked: OrderedDict of dataclasses": lambda bench: look(bench.plain, bench.known),
    "new: ReceiptLedger.record": lambda bench: record(bench.native, bench.new),
    "new: OrderedDict of dataclasses": lambda bench: record(bench.plain, bench.new),
}


def measure(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """Per row, ns a receipt in each round; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    for number in range(rounds + 1):
        for name, row in ROWS.items():
            each_ns = row(bench) / bench.count
            if number:
                taken[name].append(round(each_ns, 1))
        bench.turn()
    return taken


def bytes_a_message(messages: int, rng: random.Random) -> dict[str, float]:
    """Of both, when each message has one receipt of each of `LEVELS`."""
    tracemalloc.start()
    plain = PlainLedger(messages)
    for _ in range(messages):
        fingerprint = rng.getrandbits(64)
        for level in LEVELS:
            plain.record(fingerprint, level, rng.randrange(1_800_000_000, 1_800_086_400))
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {
        "ReceiptLedger": round(ReceiptLedger(messages).memory_bytes / messages, 1),
        "OrderedDict of dataclasses": round(traced / messages, 1),
    }


def report(result: dict[str, Any]) -> str:
    """The table people read."""
    lines = [
        compare.headline(result, f"receipts, {result['messages']} messages held"),
        f"{'ns a receipt':42}{'median':>9}{'range':>16}{'ratio':>8}",
    ]
    medians = {name: statistics.median(values) for name, values in result["ns"].items()}
    for name, values in result["ns"].items():
        ours = next(row for row in medians if row.partition(":")[0] == name.partition(":")[0])
        spread = f"{min(values):.0f}-{max(values):.0f}"
        lines.append(f"{name:42}{medians[name]:9.0f}{spread:>16}{medians[name] / medians[ours]:8.1f}")
    lines.append("bytes a message: " + "; ".join(f"{name} {each}" for name, each in result["bytes"].items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds measured (default 9), after one more")
    parser.add_argument("--count", type=int, default=20_000, help="receipts a row and round (default 20000)")
    parser.add_argument("--messages", type=int, default=200_000, help="messages held (default 200000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.rounds < 1 or not 1 <= options.count <= options.messages:
        sys.exit("--rounds and --count must be at least 1, and --messages at least --count")
    head = {
        **compare.about([]),
        "rounds": options.rounds,
        "count": options.count,
        "messages": options.messages,
    }
    rng = random.Random(1)
    each_bytes = bytes_a_message(options.messages, rng)
    bench = Bench(options.messages, options.count, rng)
    result = {**head, "ns": measure(bench, options.rounds), "bytes": each_bytes}
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

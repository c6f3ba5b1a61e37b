"""What waiting costs: memory of an item, CPU of an event, and the start, while ever more events wait.

The backend is down and webhooks keep coming, each with a new id. At each mark (1 k … 1 M waiting) are read: the
gateway's memory, and over the next `--window` webhooks the CPU of one. Then the gateway is started again on what waits,
and how long it takes until it is ready is one column. At the end the backend comes up, and the CPU of one delivery is
read over as many events, beside that of a queue that holds no more than those. All with one body, and the marks up to 100 k
with two larger ones (their memory alone).

- bytes an item: what the memory has grown from the first mark beyond the rings (`QUEUE_SLOTS`), over the items since
- memory is the anonymous part of RSS: what is not the content of files
- start: from the process's birth to 200 from /readyz
"""

import argparse
import time
from pathlib import Path
from typing import Any, Final

import record
from load import Loaded, Loads, middle, post, webhook_of
from servers import FULL, LOAD_CORE, SERVER_CORE, Contender

MARKS: Final = (1_000, 10_000, 100_000, 1_000_000)
BODIES: Final = (350, 2_048, 16_384)
"""Bytes. The largest is what a long list of an interactive message has; a million of those would be 16 GB of disk."""
RINGS: Final = 10_000
"""The first mark that is beyond the rings, which hold 4,096."""
LARGE_MARK: Final = 100_000
CONNECTIONS: Final = 64
QUIET_S: Final = 20.0
"""A breaker that is open probes every 5 s."""
PARTS: Final = 5
BYTES_MAX: Final = 250
FLAT: Final = 0.10
PACKAGES: Final = ("uvloop", "aiohttp")

Row = dict[str, Any]


class Queue:
    """A gateway before a backend that is down, and how many events it holds."""

    def __init__(self, directory: Path, loads: Loads, body: bytes) -> None:
        self.server = Contender(FULL, directory, loads.sink_url)
        self.loads = loads
        self.request = post("/webhook", body)
        self.held = 0
        self.start_s = 0.0
        self.start()

    def start(self) -> None:
        """On what waits."""
        begin_ns = time.monotonic_ns()
        self.server.start(Contender.run_gateway, RECEIPTS_WAIT_MAX="30d")
        self.start_s = (time.monotonic_ns() - begin_ns) / 1e9

    def fill(self, upto: int) -> Loaded | None:
        """Let webhooks come until so many wait."""
        if upto <= self.held:
            return None
        loaded = self.loads.run(self.server.port, self.request, CONNECTIONS, count=upto - self.held)
        self.held = upto
        return loaded.require_ok(FULL)

    def cost_us(self, count: int) -> tuple[float, float]:
        """CPU of one of the next webhooks, µs, and how many a second came: medians of five parts of them."""
        costs, rates = [], []
        for _ in range(PARTS):
            cpu_before = self.server.cpu_ns()
            loaded = self.fill(self.held + count // PARTS)
            assert loaded is not None
            costs.append((self.server.cpu_ns() - cpu_before) / (count // PARTS) / 1e3)
            rates.append(loaded.per_s)
        return middle(costs), middle(rates)

    def memory(self) -> dict[str, int]:
        return self.server.processes[0].memory_bytes()

    def deliver(self, count: int) -> float:
        """Bring the backend up, and read the CPU of one delivery, µs, over `count` of them; then it is down again."""
        before = self.loads.requests()
        self.loads.start_sink()
        try:
            _wait(lambda: self.loads.requests() > before)
            first, cpu_before = self.loads.requests(), self.server.cpu_ns()
            _wait(lambda: self.loads.requests() >= min(first + count, before + self.held))
            done, cpu_ns = self.loads.requests() - first, self.server.cpu_ns() - cpu_before
        finally:
            self.loads.stop_sink()
        return cpu_ns / max(1, done) / 1e3


def _wait(is_so: Any) -> None:
    begin = time.monotonic()
    while not is_so():
        if time.monotonic() - begin > QUIET_S * 3:
            raise RuntimeError("the gateway delivers nothing although the backend is up")
        time.sleep(0.002)


def mark(queue: Queue, waiting: int, window: int) -> Row:
    """One row of the table."""
    queue.fill(waiting)
    memory = queue.memory()
    cpu_us, per_s = queue.cost_us(window)
    queue.server.stop()
    queue.start()
    row = {
        "waiting": waiting,
        **memory,
        "cpu_us": round(cpu_us, 2),
        "per_s": round(per_s),
        "start_s": round(queue.start_s, 2),
    }
    print(show(row), flush=True)
    return row


def small_bodies(directory: Path, loads: Loads, marks: list[int], window: int) -> Row:
    """All columns."""
    queue = Queue(directory / "few", loads, webhook_of(BODIES[0]))
    with queue.server:
        queue.fill(2 * window)
        deliver_few_us = queue.deliver(window)
    queue = Queue(directory / "many", loads, webhook_of(BODIES[0]))
    with queue.server:
        # The first thousands pay for what is made once, and only these.
        queue.fill(marks[0] // 2)
        rows = [mark(queue, waiting, window) for waiting in marks]
        deliver_many_us = queue.deliver(window)
    return {
        "rows": rows,
        "deliver_us": {"few": round(deliver_few_us, 2), "many": round(deliver_many_us, 2)},
    }


def memory_of_bodies(directory: Path, loads: Loads, top: int) -> list[Row]:
    """Bytes an item, by the size of its body, in one life of a gateway."""
    rows = []
    first = min(RINGS, top // 2)
    for size in BODIES:
        queue = Queue(directory / f"of-{size}", loads, webhook_of(size))
        with queue.server:
            queue.fill(first)
            before = queue.memory()
            queue.fill(top)
            after = queue.memory()
        row: Row = {"body": size, "from": first, "to": top}
        for part in ("rss", "anonymous"):
            row[part] = round((after[part] - before[part]) / (top - first), 1)
        print(
            f"bodies of {size:,} bytes: {row['anonymous']:.0f} bytes an item (RSS {row['rss']:.0f})",
            flush=True,
        )
        rows.append(row)
    return rows


def targets(result: Row) -> list[Row]:
    """What was to be reached, and what was."""
    worst = max(row["anonymous"] for row in result["bodies"])
    found = [record.target("memory per waiting item beyond the ring, worst body", worst, BYTES_MAX, "bytes")]
    few, many = result["rows"][0], result["rows"][-1]
    what = f"{few['waiting']:,} to {many['waiting']:,} waiting"
    growth = max(row["cpu_us"] for row in result["rows"]) / few["cpu_us"] - 1
    found.append(record.target(f"CPU per webhook, growth, {what}", growth, FLAT, ""))
    delivery = result["deliver_us"]["many"] / result["deliver_us"]["few"] - 1
    found.append(
        record.target(f"CPU per delivery, growth, to {many['waiting']:,} waiting", delivery, FLAT, "")
    )
    return found


def show(row: Row) -> str:
    return (
        f"{row['waiting']:11,}{row['rss'] / 1e6:9.1f}{row['anonymous'] / 1e6:11.1f}"
        f"{row['cpu_us']:9.1f}{row['per_s']:9,}{row['start_s']:9.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--marks", type=int, nargs="+", default=list(MARKS), metavar="N")
    parser.add_argument(
        "--window", type=int, default=10_000, help="events over which CPU is read (default 10000)"
    )
    parser.add_argument(
        "--bodies-to", type=int, default=LARGE_MARK, help="items of each size (default 100000)"
    )
    record.add_option(parser)
    options = parser.parse_args()
    result = record.about(*PACKAGES) | {
        "window": options.window,
        "cores": {"server": SERVER_CORE, "load": LOAD_CORE},
    }
    print(record.headline(result))
    print(f"{'waiting':>11}{'RSS MB':>9}{'anonymous':>11}{'CPU us':>9}{'per s':>9}{'start s':>9}", flush=True)
    with record.scratch() as directory, Loads(directory, LOAD_CORE) as loads:
        result |= small_bodies(directory, loads, sorted(options.marks), options.window)
        print(
            "CPU us a delivery: {few} of a short queue, {many} of the longest".format(**result["deliver_us"])
        )
        result["bodies"] = memory_of_bodies(directory, loads, options.bodies_to)
    result["targets"] = targets(result)
    print("\n".join(map(record.show_target, result["targets"])))
    record.write(options.json, result)


if __name__ == "__main__":
    main()

"""The load and the backend of the macro benchmarks: two small C programs, and the stamps they share with us.

C, because the load must cost a fraction of what it measures, and the fastest peer takes 10 us a request. `native/` has
the sources; they are compiled into the directory of the run, by the compiler that built the gateway.
"""

import contextlib
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from array import array
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import record
from processes import free_port

NATIVE: Final = Path(__file__).with_name("native")
MARK: Final = "BENCH-############"
"""Stands in a request for the event's number; `@@@@` for its last four digits."""
HEADER_WORDS: Final = 512
"""As in `native/stamps.h`."""
EVENTS: Final = 16_000_000
"""Most events of one run. The file is sparse: 24 bytes for each that is sent."""
CLOSED: Final = 0.0
"""The rate of a closed loop."""


def webhook_body(text: str = "") -> bytes:
    """An On-Premises text message of about 350 bytes, from one of 10,000 customers, every one with a new id."""
    said = text or (
        "Hello, is the blue one still there in size 42? I would come by on Saturday before noon and pay in cash."
    )
    return (
        '{"contacts":[{"profile":{"name":"Amina Test"},"wa_id":"1555010@@@@"}],"messages":[{"from":'
        f'"1555010@@@@","id":"ABGGFlA5FpafAgo6-{MARK}","timestamp":"1700000001",'
        f'"type":"text","text":{{"body":"{said}"}}}}]}}'
    ).encode()


def webhook_of(size_bytes: int) -> bytes:
    """The same of so many bytes, which is at least 250."""
    bare = len(webhook_body("x")) - 1
    assert size_bytes > bare, size_bytes
    return webhook_body("x" * (size_bytes - bare))


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Loaded:
    """What one load did, and what became of its events."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.first: int = told["first"]
        self.end: int = told["end"]
        """One behind the last event."""
        self.ok: int = told["ok"]
        self.seconds: float = told["seconds"]
        """Until the last answer."""

    @property
    def per_s(self) -> float:
        return self.ok / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> dict[str, int]:
        """What did not go as it must; empty when all did."""
        names = ("wrong", "broken", "unsent", "unanswered")
        found: dict[str, int] = {name: self.told[name] for name in names if self.told[name]}
        return found | {f"status {status}": count for status, count in self.told["statuses"].items()}

    def require_ok(self, who: str) -> Self:
        """RuntimeError unless every request was answered as expected."""
        if self.failures:
            raise RuntimeError(f"{who}: {self.failures} of {self.end - self.first} requests")
        return self


class Loads:
    """Programs, stamps and a sink, until the `with` ends."""

    def __init__(self, directory: Path, core: int, events: int = EVENTS) -> None:
        """`core` is where load and sink run."""
        self.directory = directory
        self.core = core
        self.next_id = 1
        self.sink_port = free_port()
        self.sink_url = f"http://127.0.0.1:{self.sink_port}/"
        self._events = events
        self._stamps = directory / "stamps"
        with self._stamps.open("wb") as file:
            file.truncate((HEADER_WORDS + 3 * events) * 8)
        with self._stamps.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")
        for program in ("load", "sink"):
            _compile(program, directory)
        self._sink: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_sink()
        self._words.release()
        self._map.close()

    def start_sink(self) -> None:
        """Bring the backend up, and wait until it takes connections."""
        assert self._sink is None
        command = [str(self.directory / "sink"), str(self.sink_port), str(self._stamps)]
        self._sink = subprocess.Popen(command)
        os.sched_setaffinity(self._sink.pid, {self.core})
        for _ in range(500):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.sink_port), 1.0).close()
                return
            time.sleep(0.01)
        raise RuntimeError(f"the backend does not listen on port {self.sink_port}")

    def stop_sink(self) -> None:
        """Take the backend down."""
        if self._sink is not None:
            self._sink.kill()
            self._sink.wait()
            self._sink = None

    def sink_cpu_s(self) -> float:
        """Of the backend so far."""
        if self._sink is None:
            return 0.0
        return int(Path(f"/proc/{self._sink.pid}/schedstat").read_text().split()[0]) / 1e9

    def run(
        self,
        port: int,
        request: bytes,
        connections: int,
        *,
        rate: float = CLOSED,
        seconds: float = 3600.0,
        count: int = 0,
        status: int = 200,
        drain_s: float = 5.0,
    ) -> Loaded:
        """Send for so long or so many, and wait for the answers; `rate` above 0 is an open loop."""
        path = self.directory / "request"
        path.write_bytes(request)
        numbers = (port, connections, rate, seconds, count, self.next_id, status, drain_s)
        command = [str(self.directory / "load"), *map(str, numbers), str(path), str(self._stamps)]
        core = self.core
        # No threads of ours run yet, so a call between fork and exec is safe.
        ran = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        loaded = Loaded(json.loads(ran.stdout))
        self.next_id = loaded.end
        return loaded

    def wait_received(self, loaded: Loaded, seconds: float) -> int:
        """Wait until all events of a load are at the backend, at most so long without a new one; how many are not."""
        missing, quiet_since = self.missing(loaded), time.monotonic()
        while missing and time.monotonic() - quiet_since < seconds:
            time.sleep(0.02)
            left = self.missing(loaded)
            if left != missing:
                missing, quiet_since = left, time.monotonic()
        return missing

    def missing(self, loaded: Loaded) -> int:
        """Events that were answered as expected, and are not at the backend."""
        answered, received = self._part(1, loaded), self._part(2, loaded)
        return sum(not at and bool(acked) for at, acked in zip(received, answered, strict=True))

    def behind(self, loaded: Loaded) -> int:
        """Events of an open loop that were not at the backend when the last one was due."""
        meant = self._part(0, loaded)
        last_ns = max(meant, default=0)
        return sum(not at or at > last_ns for at in self._part(2, loaded))

    def received_between(self, loaded: Loaded) -> tuple[int, int]:
        """When the first and the last event of a load came to the backend, monotonic ns."""
        times = [at for at in self._part(2, loaded) if at]
        return (min(times), max(times)) if times else (0, 0)

    def requests(self) -> int:
        """Requests at the backend so far."""
        return int(self._words[0])

    def duplicates(self) -> int:
        """Events the backend had had before, in all loads."""
        return int(self._words[1])

    def answer_ms(self, loaded: Loaded) -> list[float]:
        """From when each was due to its answer, ordered."""
        return self._spans(loaded, 1)

    def delivery_ms(self, loaded: Loaded) -> list[float]:
        """From when each was due until it was at the backend, ordered."""
        return self._spans(loaded, 2)

    def _spans(self, loaded: Loaded, which: int) -> list[float]:
        pairs = zip(self._part(0, loaded), self._part(which, loaded), strict=True)
        return sorted((at - meant) / 1e6 for meant, at in pairs if at)

    def _part(self, which: int, loaded: Loaded) -> "array[int]":
        begin = HEADER_WORDS + which * self._events
        found = array("Q")
        found.frombytes(self._words[begin + loaded.first : begin + loaded.end].cast("B"))
        return found


def quantiles(ordered: list[float]) -> dict[str, float]:
    """Of a load, ms; `samples` says how much the far ones are worth."""
    if not ordered:
        return {"samples": 0}
    ends = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
    return {
        "samples": len(ordered),
        **{name: round(record.percentile(ordered, percent), 3) for name, percent in ends.items()},
        "max": round(ordered[-1], 3),
    }


def middle(values: Iterable[float]) -> float:
    """The lower median: always one that was measured."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def _compile(program: str, directory: Path) -> None:
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) or shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler: the benchmarks compile their load; it is what builds the gateway too")
    source = NATIVE / f"{program}.c"
    subprocess.run([compiler, "-O2", "-o", directory / program, source, "-lm"], check=True)

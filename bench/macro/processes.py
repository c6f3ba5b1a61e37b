"""Servers as child processes for benchmarks: on a core of their own, and what the kernel says they used."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

READY_S: Final = 60.0
"""Longest wait for `/readyz`: bind, replay, ready."""
STOP_S: Final = 20.0


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A child with `variables` as its only GATEWAY_ ones, until the `with` ends; log and store are in `directory`.

    `core` -1 pins it nowhere. `speaks_http` False: it is ready as soon as it takes connections.
    """

    def __init__(
        self,
        directory: Path,
        command: list[str],
        variables: Mapping[str, str],
        ready_port: int,
        core: int,
        *,
        speaks_http: bool = True,
    ) -> None:
        self._directory = directory
        self._log = directory / "log"
        self._ready_port = ready_port
        self._ready_url = f"http://127.0.0.1:{ready_port}/readyz" if speaks_http else ""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**environ, "GATEWAY_STORE_PATH": str(directory / "store"), **variables},
                stdout=log,
                stderr=log,
            )
        if core >= 0:
            os.sched_setaffinity(self._process.pid, {core})  # before it has threads, which inherit it

    @classmethod
    def gateway(cls, directory: Path, core: int, **variables: str) -> Self:
        """`python -m gateway run` on ports that are free; settings without their GATEWAY_."""
        ingest, admin = free_port(), free_port()
        made = cls(
            directory,
            [sys.executable, "-m", "gateway", "run"],
            {
                "GATEWAY_LISTEN": f"127.0.0.1:{ingest}",
                "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
                **{f"GATEWAY_{name}": value for name, value in variables.items()},
            },
            admin,
            core,
        )
        made.url = f"http://127.0.0.1:{ingest}"
        made.admin_url = f"http://127.0.0.1:{admin}"
        return made

    url = ""
    """Where a gateway takes webhooks and pushes."""
    admin_url = ""
    """Where it serves health and metrics."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self) -> Self:
        """Wait until it is ready. RuntimeError with the end of its log, and it is stopped, when that takes a minute."""
        for _ in range(int(READY_S / 0.02)):
            if self._process.poll() is not None:
                break
            if self._is_ready():
                return self
            time.sleep(0.02)
        log, status = self.log_tail(), self._process.poll()
        self.stop()
        raise RuntimeError(
            f"not ready within {READY_S:.0f} s, exit status {status}; the end of its log:\n{log}"
        )

    def _is_ready(self) -> bool:
        try:
            if not self._ready_url:
                socket.create_connection(("127.0.0.1", self._ready_port), timeout=1).close()
                return True
            with urllib.request.urlopen(self._ready_url, timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it in 20 s."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def cpu_ns(self) -> int:
        """Time on a CPU so far, all threads, and those of its workers, to the nanosecond.

        `/proc/PID/schedstat` knows the first thread only, so the threads are summed; one that ends takes its
        part with it. `/proc/PID/stat` has all of them in ticks of 10 ms: too coarse for an idle process.
        """
        return sum(int(path.read_text().split()[0]) for path in self._tasks("schedstat"))

    def cpu_wait_ns(self) -> int:
        """Time its threads were ready to run and another process had the core: the machine's noise."""
        return sum(int(path.read_text().split()[1]) for path in self._tasks("schedstat"))

    def cpu_ticks_s(self) -> float:
        """Time on a CPU so far from `/proc/PID/stat`: in ticks, but nothing gets lost."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def voluntary_switches(self) -> int:
        """How often its threads went to sleep by themselves: once a wake-up."""
        total = 0
        for path in self._tasks("status"):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "voluntary_ctxt_switches":
                    total += int(value)
        return total

    def memory_bytes(self) -> dict[str, int]:
        """What it holds in memory: all of it (`rss`), and what is not the content of files (`anonymous`)."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return {
            name: int(fields[field].split()[0]) * 1024
            for name, field in (("rss", "VmRSS"), ("anonymous", "RssAnon"))
        }

    def store_bytes(self) -> int:
        """Size of the files of its store."""
        return sum(path.stat().st_size for path in (self._directory / "store").rglob("*") if path.is_file())

    def threads(self) -> int:
        return len(self._tasks("stat"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def _tasks(self, file: str) -> list[Path]:
        """Of all threads, and of the processes it has started: nginx works in one."""
        found: list[Path] = []
        pids = [self._process.pid]
        for pid in pids:
            tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
            for task in tasks:
                pids += map(int, (task / "children").read_text().split())
            found += [task / file for task in tasks]
        return found

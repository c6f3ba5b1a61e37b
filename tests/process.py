"""A gateway as a child process, to be killed; and what a test needs around it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp

START_POLL_S = 0.02
"""Between two looks at /readyz; there is nothing else to wait on in another process."""
START_POLLS_MAX = 1500


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run_command(environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `wa-gateway`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments,
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class GatewayProcess:
    """`python -m gateway run` with its own ports, which stay the same over restarts."""

    def __init__(self, directory: Path, **variables: str) -> None:
        """The store and the log are in `directory`."""
        self.ingest = f"http://127.0.0.1:{(ingest := free_port())}"
        self.admin = f"http://127.0.0.1:{(admin := free_port())}"
        self.log_path = directory / "gateway.log"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
            "GATEWAY_LISTEN": f"127.0.0.1:{ingest}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "GATEWAY_STORE_PATH": str(directory / "store"),
            **{f"GATEWAY_{name}": value for name, value in variables.items()},
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, readiness: int = 200) -> None:
        """Start and wait until /readyz answers `readiness`. Raises AssertionError with its log when it does not."""
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run", env=self._environ, stdout=log, stderr=log
            )
        async with aiohttp.ClientSession() as session:
            for _ in range(START_POLLS_MAX):
                if self._process.returncode is not None:
                    break
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.admin}/readyz") as answer:
                        if answer.status == readiness:
                            return
                await asyncio.sleep(START_POLL_S)
        raise AssertionError(
            f"not ready (exit {self._process.returncode}): {self.log_path.read_text()[-2000:]}"
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash does it."""
        assert self._process is not None
        assert self._process.returncode is None, self.log_path.read_text()[-2000:]
        self._process.kill()
        assert await self._process.wait() == -signal.SIGKILL

    async def terminate(self) -> int:
        """SIGTERM, as systemd does it; the exit status."""
        self.send_signal(signal.SIGTERM)
        return await self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, without waiting for what it does."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for the end; the exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """As `run_command`, in the environment that the gateway has."""
        return await run_command(self._environ, *arguments)

    async def wait_logged(self, message: str) -> None:
        """Wait until `message` stands in the log."""
        while f'"message":"{message}"' not in self.log_path.read_text():
            await asyncio.sleep(START_POLL_S)

    async def metrics(self) -> dict[str, float]:
        """The metrics page: series as written, to value."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        series = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in series}

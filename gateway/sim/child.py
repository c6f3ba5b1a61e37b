"""The gateway as a real child process: started with an environment, stopped, or killed.

It runs in its own session, so that Ctrl-C reaches the demo alone, which then stops its child in order.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp

START_S: Final = 15.0
"""Bind, replay, ready: seconds on a slow disk; beyond it something is wrong."""
STOP_S: Final = 20.0
TAIL_LINES: Final = 20
POLL_S: Final = 0.05


class StartError(Exception):
    """The gateway did not become ready; the text says why and shows the end of its log."""


class GatewayChild:
    """`python -m gateway run` with `settings` as its only GATEWAY_ variables."""

    def __init__(self, settings: Mapping[str, str], ready_url: str, log_path: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._environment = inherited | dict(settings)
        self._ready_url = ready_url
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, session: aiohttp.ClientSession) -> None:
        """Start and wait for `/readyz`; StartError when it ends or is not ready in 15 s."""
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "gateway", "run"),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_S):
                while not await self._is_ready(session):
                    if self._process.returncode is not None:
                        raise StartError(self._failure(f"ended with exit code {self._process.returncode}"))
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise StartError(self._failure(f"was not ready after {START_S:.0f} s")) from None

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not end it in 20 s; the exit code, -9 for the latter."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        await self._end(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _end(self, with_signal: signal.Signals) -> int:
        process = self._process
        assert process is not None, "never started"
        if process.returncode is None:
            process.send_signal(with_signal)
        try:
            async with asyncio.timeout(STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._ready_url) as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError):
            return False

    def _failure(self, what: str) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"The gateway {what}. The end of its log:", *(f"  {line}" for line in lines)])

"""The gateway as systemd sees it: told when it is ready and when it stops, and what its exit says."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from process import GatewayProcess

from gateway.app import process
from gateway.config import Settings

ROOT = Path(__file__).parent.parent


class Manager:
    """A service manager's notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def receive(self) -> str:
        """The next notification."""
        return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    def is_silent(self) -> bool:
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


async def test_ready_is_told_when_doors_are_open_and_stopping_before_they_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    async with GatewayProcess(tmp_path) as gateway, aiohttp.ClientSession() as session:
        assert (await manager.receive()).startswith("READY=1\nSTATUS=ready, 0 records read back")
        body = json.dumps({"messages": [{"id": "m1", "from": "1", "type": "text", "text": {"body": "x"}}]})
        async with session.post(f"{gateway.ingest}/webhook", data=body) as answer:
            assert answer.status == 200
        assert manager.is_silent()
        assert await gateway.terminate() == 0
        assert (await manager.receive()).startswith("STOPPING=1\nSTATUS=draining")
        await gateway.start()
        assert (await manager.receive()).startswith("READY=1\nSTATUS=ready, 1 records read back")
    manager.close()


async def test_watchdog_is_fed_while_the_loop_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    async with GatewayProcess(tmp_path):
        told = [await manager.receive() for _ in range(4)]
    assert told.count("WATCHDOG=1") >= 3
    manager.close()


async def test_log_has_one_line_a_record_and_no_content(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path, MESSAGE_WEBHOOK_URL="http://127.0.0.1:1/") as gateway:
        body = json.dumps(
            {
                "messages": [
                    {"id": "m1", "from": "4915112345678", "type": "text", "text": {"body": "secret words"}}
                ]
            }
        )
        url = f"{gateway.ingest}/webhook"
        async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
            assert answer.status == 200
        assert await gateway.terminate() == 0
    log = gateway.log_path.read_text()
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"ready", "draining", "drained"} <= {record["message"] for record in records}
    assert "secret words" not in log
    assert "4915112345678" not in log


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command in an environment without settings of ours but `environ`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.run(
        words, env={**clean, **environ}, capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_address_in_use_ends_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(
            sys.executable, "-m", "gateway", "run", GATEWAY_LISTEN=address, GATEWAY_STORE_PATH=str(tmp_path)
        )
    assert done.returncode == 1
    assert "can't start: [Errno 98] GATEWAY_LISTEN: " in done.stdout
    assert address.rpartition(":")[2] in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("python", "environ", "expected"),
    [
        ("no-such-python", {}, ["no command 'no-such-python'", "apt-get install -y python3"]),
        (
            sys.executable,
            {"CC": "no-such-compiler"},
            ["no command 'no-such-compiler'", "apt-get install -y gcc"],
        ),
    ],
)
def test_make_says_what_the_machine_lacks(python: str, environ: dict[str, str], expected: list[str]) -> None:
    done = run("sh", ".ci/preflight.sh", python, **environ)
    assert done.returncode == 1
    assert [words for words in expected if words not in done.stderr] == []


def test_make_says_that_headers_are_missing(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\ncase "$2" in *sysconfig*) echo /no/headers;; *) exec {sys.executable} "$@";; esac\n'
    )
    fake.chmod(0o755)
    done = run("sh", ".ci/preflight.sh", str(fake))
    assert done.returncode == 1
    assert "Python's C headers (/no/headers/Python.h)" in done.stderr
    assert "apt-get install -y python3-dev" in done.stderr


def test_two_interrupts_hurry(tmp_path: Path) -> None:
    """The drain waits for a request that hangs; a second signal does not."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asyncio.run(_interrupt_twice(tmp_path, silent.getsockname()[1]))


async def _interrupt_twice(directory: Path, backend_port: int) -> None:
    variables = {"MESSAGE_WEBHOOK_URL": f"http://127.0.0.1:{backend_port}/", "BACKEND_TIMEOUT": "2m"}
    async with GatewayProcess(directory, **variables) as gateway, aiohttp.ClientSession() as session:
        body = json.dumps({"messages": [{"id": "m1"}]})
        async with session.post(f"{gateway.ingest}/webhook", data=body) as answer:
            assert answer.status == 200
        gateway.send_signal(signal.SIGTERM)
        await gateway.wait_logged("draining")
        gateway.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):  # the drain alone would take 30 s
            assert await gateway.wait() == 0


def test_garbage_of_the_start_is_not_looked_through_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full collection over all modules stopped the loop for 20 ms and more, in the middle of a receipt storm."""
    frozen = []

    async def note(*_args: object) -> int:
        frozen.append(gc.get_freeze_count())
        return 0

    monkeypatch.setattr(process, "_serve", note)
    try:
        assert process.run(Settings(store_path=tmp_path)) == 0
        assert frozen[0] > 10_000
    finally:
        gc.unfreeze()

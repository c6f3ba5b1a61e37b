"""The whole gateway on a disk that fills up and on one that fails: refusals, no loss, and recovery by itself."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from builders import message, onprem_body, push_body, status
from faulty_disk import build
from harness import RecordingBackend
from process import GatewayProcess
from store_faults import KINDS

from gateway.errors import EXIT_STORE
from gateway.store.room import LOW_BYTES, RESERVE_BYTES

TOKEN = "a-token-of-the-tests"
DISK_BYTES = 96 << 20
POLL_S = 0.02
"""Between two looks; the disk has no event that it is empty again."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "wa-gateway-test", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small file system can't be made here: no command mount")
    if done.returncode:
        pytest.skip(f"a small file system can't be made here: {done.stderr.strip() or done.returncode}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Filler:
    """Another program on the same disk."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def leave(self, free_bytes: int) -> None:
        """Take or give back until so much is free."""
        path = self._disk / "filler"
        path.unlink(missing_ok=True)
        found = os.statvfs(self._disk)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - free_bytes))

    def leave_nothing(self) -> None:
        """Not a byte."""
        self.leave(0)
        with contextlib.suppress(OSError), (self._disk / "rest").open("wb", buffering=0) as file:
            while True:
                file.write(b"x")

    def go(self) -> None:
        for name in ("filler", "rest"):
            (self._disk / name).unlink(missing_ok=True)


class Client:
    """A node and a backend that push, as far as status codes go."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._session = session
        self.acked: set[str] = set()

    async def post(self, path: str, body: bytes) -> int:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._session.post(self._gateway.ingest + path, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def message(self, name: str) -> int:
        """Bring a message; it is remembered when it is acked."""
        answer = await self.post("/webhook", onprem_body([message(name)]))
        if answer == 200:
            self.acked.add(name)
        return answer

    async def receipt(self, name: str) -> int:
        return await self.post("/webhook", onprem_body(statuses=[status(name)]))

    async def push(self) -> int:
        return await self.post("/v1/messages", push_body())

    async def readiness(self) -> int:
        async with self._session.get(f"{self._gateway.admin}/readyz") as answer:
            return answer.status


async def becomes(ask: Callable[[], Awaitable[int]], expected: int) -> None:
    """Ask until the answer is this."""
    while await ask() != expected:
        await asyncio.sleep(POLL_S)


def names_at(backend: RecordingBackend) -> list[str]:
    return [item["id"] for body in backend.messages for item in json.loads(body)["messages"]]


def gateway_on(directory: Path, store: Path, backend: RecordingBackend, **variables: str) -> GatewayProcess:
    return GatewayProcess(
        directory,
        STORE_PATH=str(store),
        NODE_URL="http://127.0.0.1:1",
        MESSAGE_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/messages",
        EVENT_WEBHOOK_URL=f"http://127.0.0.1:{backend.port}/events",
        PUSH_TOKENS=TOKEN,
        BACKEND_BACKOFF_MIN="10ms",
        BACKEND_BACKOFF_MAX="100ms",
        **variables,
    )


async def test_a_disk_that_fills_up_closes_one_door_after_the_other_and_opens_them_again(
    tmp_path: Path, small_disk: Path
) -> None:
    filler, backend = Filler(small_disk), RecordingBackend()
    async with (
        backend.serving(),
        aiohttp.ClientSession() as session,
        gateway_on(tmp_path, small_disk / "store", backend) as gateway,
    ):
        client = Client(gateway, session)
        assert (await client.message("m1"), await client.receipt("s1"), await client.push()) == (
            200,
            200,
            202,
        )
        filler.leave(RESERVE_BYTES + LOW_BYTES // 2)
        await becomes(client.push, 503)
        assert (await client.receipt("s2"), await client.message("m2")) == (503, 200)
        assert await client.readiness() == 200
        filler.leave(RESERVE_BYTES // 2)
        await becomes(client.readiness, 503)
        assert (await client.message("m3"), await client.receipt("s2"), await client.push()) == (
            503,
            503,
            503,
        )
        # What is in hand goes on meanwhile: the reserve is for that.
        await backend.wait_for(lambda: set(names_at(backend)) == {"m1", "m2"})
        filler.go()
        await becomes(client.readiness, 200)
        assert (await client.message("m3"), await client.receipt("s2"), await client.push()) == (
            200,
            200,
            202,
        )
        await backend.wait_for(lambda: names_at(backend) == ["m1", "m2", "m3"])
        assert (await gateway.metrics())["gateway_conservation_difference"] == 0
        assert await gateway.terminate() == 0


async def test_a_start_on_a_full_disk_refuses_until_there_is_room_and_then_goes_on(
    tmp_path: Path, small_disk: Path
) -> None:
    """Nothing is delivered before: its outcome could not be kept, and each start would deliver it again."""
    filler, backend = Filler(small_disk), RecordingBackend()

    async def away(_body: bytes) -> web.Response:
        return web.Response(status=503)

    async with backend.serving(), aiohttp.ClientSession() as session:
        backend.answer = away
        async with gateway_on(tmp_path, small_disk / "store", backend) as gateway:
            client = Client(gateway, session)
            for number in range(20):
                assert await client.message(f"m{number}") == 200
            await gateway.kill()
            filler.leave_nothing()
            called: list[bytes] = []

            async def well(body: bytes) -> web.Response:
                called.append(body)
                return web.Response()

            backend.answer = well
            await gateway.start(readiness=503)
            assert (await client.message("new"), await client.push()) == (503, 503)
            assert "is full (less than 32 MiB free), waiting for room" in gateway.log_path.read_text()
            assert called == []
            filler.go()
            await becomes(client.readiness, 200)
            await becomes(lambda: client.message("new"), 200)
            await backend.wait_for(lambda: len(backend.messages) >= 21)
            assert sorted(names_at(backend)) == sorted(client.acked)
            assert await gateway.terminate() == 0


async def test_a_stop_on_a_full_disk_is_a_clean_one(tmp_path: Path, small_disk: Path) -> None:
    filler, backend = Filler(small_disk), RecordingBackend()
    async with backend.serving(), gateway_on(tmp_path, small_disk / "store", backend) as gateway:
        await gateway.kill()
        filler.leave_nothing()
        await gateway.start(readiness=503)
        assert await gateway.terminate() == 0


@pytest.mark.parametrize("at", [70, 203, 700])
@pytest.mark.parametrize(
    ("kind", "reason"),
    # In SQLite's words or in the kernel's.
    [
        ("eio for good", "disk I/O error|Input/output error"),
        ("full for good", "disk is full|No space left on device"),
    ],
)
async def test_a_disk_that_fails_ends_the_gateway_with_74_and_what_was_acked_is_delivered_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, kind: str, reason: str
) -> None:
    backend = RecordingBackend()
    async with backend.serving(), aiohttp.ClientSession() as session:
        monkeypatch.setenv("LD_PRELOAD", str(build(tmp_path)))
        monkeypatch.setenv("FAULTY_DISK_AT", str(at))
        monkeypatch.setenv("FAULTY_DISK_KIND", str(KINDS[kind]))
        gateway = gateway_on(tmp_path, tmp_path / "store", backend)
        for name in ("LD_PRELOAD", "FAULTY_DISK_AT", "FAULTY_DISK_KIND"):
            monkeypatch.delenv(name)
        client = Client(gateway, session)
        last, number = 200, 0
        async with gateway:
            with contextlib.suppress(aiohttp.ClientError):
                while last == 200:
                    number += 1
                    last = await client.message(f"m{number}")
            assert last in (200, 503)
            assert await gateway.wait() == EXIT_STORE
            said = gateway.log_path.read_text()
            assert re.search(reason, said)
            assert str(tmp_path / "store") in said
            assert "Traceback" not in said
            well = gateway_on(tmp_path, tmp_path / "store", backend)
            async with well:
                await backend.wait_for(lambda: client.acked <= set(names_at(backend)))
                assert (await well.metrics())["gateway_conservation_difference"] == 0
                assert await well.terminate() == 0
    assert client.acked

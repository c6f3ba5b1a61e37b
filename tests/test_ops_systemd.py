"""What the service manager hears, on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ops import systemd


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A socket in systemd's place, with NOTIFY_SOCKET pointing at it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@wa-gateway-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(5)
        yield listener


def test_each_message_is_one_datagram(manager: socket.socket) -> None:
    assert systemd.ready("serving")
    assert systemd.status("12 waiting")
    assert systemd.extend_timeout_ms(30_000)
    assert systemd.watchdog()
    assert systemd.stopping("draining: 3 in flight")
    assert [manager.recv(4_096) for _ in range(5)] == [
        b"READY=1\nSTATUS=serving",
        b"STATUS=12 waiting",
        b"EXTEND_TIMEOUT_USEC=30000000",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=draining: 3 in flight",
    ]


def test_a_status_cannot_smuggle_in_another_message(manager: socket.socket) -> None:
    systemd.status("a\nSTOPPING=1")
    assert manager.recv(4_096) == b"STATUS=a STOPPING=1"


def test_a_manager_that_takes_nothing_does_not_stop_us(manager: socket.socket) -> None:
    told = [systemd.watchdog() for _ in range(10_000)]
    assert told[0]
    assert not told[-1], "the socket's queue was never full, the test proves nothing"


def test_without_a_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.ready("serving")
    for nobody in ("", "vsock:2:1", str(tmp_path / "gone")):
        monkeypatch.setenv("NOTIFY_SOCKET", nobody)
        assert not systemd.ready("serving")


@pytest.mark.parametrize(
    ("limit_us", "pid", "interval_s"),
    [
        ("9000000", None, 3.0),
        ("9000000", str(os.getpid()), 3.0),
        ("9000000", "1", None),
        ("0", None, None),
        ("x", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_three_times_in_its_limit(
    limit_us: str | None, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_s() == interval_s

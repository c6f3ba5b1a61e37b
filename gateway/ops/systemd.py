"""The service manager's side of us: ready, stopping, status and watchdog (sd_notify(3)).

Outside a unit with Type=notify nothing is sent and nothing fails. NOTIFY_SOCKET and WATCHDOG_USEC are systemd's
interface to a process and no settings, so they are read here and not in `gateway.config`.
"""

import os
import socket


def notify(*lines: str) -> bool:
    """Send `lines` as one datagram and say whether systemd has it.

    Never waits: a service manager that takes nothing must not stop the loop. What is lost is told again
    by the next status or watchdog message.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_UNIX, kind) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True


def ready(status: str) -> bool:
    """Start-up is over: systemd starts what waits for us."""
    return notify("READY=1", _status(status))


def stopping(status: str) -> bool:
    """The drain has begun; TimeoutStopSec counts from the stop request, not from here."""
    return notify("STOPPING=1", _status(status))


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return notify(_status(text))


def extend_timeout_ms(timeout_ms: int) -> bool:
    """Ask for `timeout_ms` more, from now, for the start or stop under way: a long replay says so every few seconds."""
    assert timeout_ms > 0, timeout_ms
    return notify(f"EXTEND_TIMEOUT_USEC={timeout_ms * 1_000}")


def watchdog() -> bool:
    """We are alive; call it only when the loop and its work have moved since the last call."""
    return notify("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """How often to call `watchdog`: a third of the limit, so that one lost or late call is no death.

    None where no watchdog waits, or it waits for another process (WATCHDOG_PID).
    """
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdecimal() or int(limit_us) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(limit_us) / 3 / 1_000_000


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"

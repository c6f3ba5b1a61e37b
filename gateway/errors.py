"""Exceptions, named by who must act: the operator, the caller, the node, or the disk.

Full, late and refused are answers, not exceptions; they don't appear here.
"""

from typing import Final

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: a restart cannot help, systemd must not try (RestartPreventExitStatus)."""
EXIT_STORE: Final = 74
"""EX_IOERR of sysexits.h: the store failed; a restart recovers from what is on disk."""


class GatewayError(Exception):
    """Base of all errors this package raises on purpose."""


class ConfigError(GatewayError):
    """The operator must correct the environment. `problems` has one full sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        assert problems, "a configuration error without a problem"
        self.problems = problems
        super().__init__("\n".join(problems))


class StoreError(GatewayError):
    """The disk failed us: nothing more is accepted on this handle; the process ends and recovers."""


class StoreBusyError(StoreError):
    """Another process holds the store: the operator started two gateways on one directory."""


class StoreFullError(StoreError):
    """The disk is full: the operator must make room. What was not stored was rolled back."""


class StoreCorruptError(StoreError):
    """The file is damaged: it is set aside for the operator to look at, and the next start begins a new one."""


class NotJsonError(GatewayError):
    """The caller sent a body that is not JSON; it gets 400."""


class NodeError(GatewayError):
    """The node gave no answer we can use.

    `was_sent` False: the request certainly never reached it. True: nobody knows whether it was carried out.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent

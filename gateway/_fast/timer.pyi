"""A deadline as a file descriptor."""

from typing import final

@final
class DeadlineTimer:
    """A Linux timerfd on CLOCK_MONOTONIC, the clock of `time.monotonic_ns`; for `loop.add_reader`.

    The descriptor is readable from the deadline until it is acknowledged, armed again or disarmed.
    It is non-blocking and close-on-exec, and closed at the latest when the timer is collected.
    Every method raises OSError, with errno, when the system refuses; after `close`, EBADF.
    """

    def __init__(self) -> None:
        """Open a disarmed timer."""

    def fileno(self) -> int:
        """The descriptor, or -1 after `close`."""

    def arm_at_ns(self, deadline_ns: int) -> None:
        """Fire once at this monotonic time, at once if it has passed; replaces the deadline before. One system call."""

    def disarm(self) -> None:
        """Do not fire, and forget a firing that is not acknowledged."""

    def acknowledge(self) -> int:
        """Times it has fired since it was armed or last acknowledged: 0 or 1. Never blocks. One system call."""

    def close(self) -> None:
        """Close the descriptor; once more does nothing. Remove the reader from the loop first."""

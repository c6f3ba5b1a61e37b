"""The machine's clocks."""

def now_ns() -> int:
    """Monotonic nanoseconds, as `time.monotonic_ns`."""

def wall_ms() -> int:
    """UTC milliseconds since 1970, rounded down."""

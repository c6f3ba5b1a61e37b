"""The lines written natively are those that Python writes for one record without a signature."""

from collections.abc import Callable

import pytest
from builders import inbound
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.stamps import Stamper
from gateway.inbound.signature import Signer
from gateway.inbound.stamps import second_text, stamps

PREFIX = b"gw-0badcafe-"
times_ms = st.integers(0, 4_102_444_800_000)

made = Stamper(PREFIX, second_text)
"""One for all examples: it keeps the last second."""


@given(
    seq=st.integers(0, (1 << 63) - 1),
    received_ms=times_ms,
    attempts=st.integers(0, 1_000_000),
    wall_ms=times_ms,
)
def test_both_write_the_same(seq: int, received_ms: int, attempts: int, wall_ms: int) -> None:
    record = inbound(seq, received_ms=received_ms)
    record.attempts = attempts
    signer = Signer(lambda number: f"gw-0badcafe-{number}")
    for at_ms in (wall_ms, received_ms, received_ms + 1):
        expected = stamps([record], at_ms) + signer.headers([seq], record.body, at_ms)
        assert made.stamp(seq, received_ms, attempts, at_ms) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda: Stamper(b"x" * 129, second_text),
        lambda: Stamper(PREFIX, lambda _: b"x" * 33).stamp(1, 0, 0, 0),
        lambda: made.stamp(1, -1, 0, 0),
        lambda: made.stamp(1, 0, 0, -1),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        call()
    assert made.stamp(1, 0, 0, 0).startswith(b"X-Gateway-Received: 1970-01-01T00:00:00.000Z")


def test_the_longest_of_everything_fits() -> None:
    longest = Stamper(b"x" * 128, lambda _: b"y" * 32)
    lines = longest.stamp((1 << 63) - 1, 999, (1 << 63) - 2, (1 << 63) - 1)
    assert lines.endswith(b"webhook-timestamp: 9223372036854775\r\n")

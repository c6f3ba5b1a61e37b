"""What a push may ask for in headers: exact at the bounds, and wrong values are named."""

import pytest

from gateway.events import ReceiptMask, SendClass
from gateway.outbound.options import (
    AHEAD_MAX_MS,
    KEY,
    NOT_BEFORE,
    PREFER,
    PRIORITY,
    RECEIPTS,
    TTL,
    Options,
    read_options,
)

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def read(**headers: str) -> Options:
    found = read_options({name.replace("_", "-"): value for name, value in headers.items()}, NOW_MS)
    assert isinstance(found, Options), found
    return found


def test_without_headers_everything_is_as_by_default() -> None:
    assert read_options({}, NOW_MS) == Options()


def test_each_header_sets_its_option() -> None:
    headers = {
        PRIORITY: "bulk", RECEIPTS: "read", TTL: "10m", NOT_BEFORE: "1700000060", KEY: "a-1", PREFER: "wait=5",
    }  # fmt: skip
    found = read_options(headers, NOW_MS)
    assert isinstance(found, Options)
    assert (found.cls, found.mask, found.ttl_ms) == (SendClass.BULK, ReceiptMask.READ, 600_000)
    assert (found.not_before_ms, found.key, found.wait_s) == (NOW_MS + 60_000, "a-1", 5)


@pytest.mark.parametrize(
    ("text", "ttl_ms"),
    [
        ("1", 1_000),
        ("30s", 30_000),
        ("2h", 7_200_000),
        (" 1ms ", 1),
        ("30d", 30 * DAY_MS),
        ("2592000", 30 * DAY_MS),
    ],
)
def test_a_ttl_is_seconds_or_a_duration(text: str, ttl_ms: int) -> None:
    assert read(X_Gateway_TTL=text).ttl_ms == ttl_ms


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "1.5", "2592001", "31d", "1 week", "soon", "\udcff", "\u0661"]
)
def test_another_ttl_is_refused(text: str) -> None:
    assert TTL in str(read_options({TTL: text}, NOW_MS))


@pytest.mark.parametrize(
    ("text", "ahead_ms"),
    [
        ("1700000001", 1_000),
        ("2023-11-14T22:13:21Z", 1_000),
        ("2023-11-14T22:13:20.25+00:00", 250),
        ("2023-11-15T00:13:21+02:00", 1_000),
        (str((NOW_MS + AHEAD_MAX_MS) // 1000), AHEAD_MAX_MS),
    ],
)
def test_a_time_is_rfc_3339_or_seconds(text: str, ahead_ms: int) -> None:
    assert read(X_Gateway_Not_Before=text).not_before_ms == NOW_MS + ahead_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2023-11-14T22:13:21",
        "2023-11-15",
        str((NOW_MS + AHEAD_MAX_MS) // 1000 + 1),
        "-1",
        "\udcff",
    ],
)
def test_another_time_is_refused(text: str) -> None:
    assert NOT_BEFORE in str(read_options({NOT_BEFORE: text}, NOW_MS))


@pytest.mark.parametrize("text", ["", "a b", "ä", "\udcff", "a" * 256, "a\n"])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    assert KEY in str(read_options({KEY: text}, NOW_MS))


def test_a_key_has_up_to_255_visible_characters() -> None:
    text = "!~" + "k" * 253
    assert read(Idempotency_Key=text).key == text


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("wait=10", 10), ("respond-async, wait=7", 7), ('WAIT="3"; x=1', 3), ("wait=0", 0), ("wait=61", 60),
        ("wait=999999999", 60), ("wait=soon", None), ("wait", None), ("wait=-1", None), ("", None), ("waiting=3", None),
    ],
)  # fmt: skip
def test_a_preference_that_we_can_not_read_is_none(text: str, wait_s: int | None) -> None:
    assert read(Prefer=text).wait_s == wait_s

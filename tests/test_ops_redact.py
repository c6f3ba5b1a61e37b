"""Phone numbers out of log lines."""

import json
import logging
from typing import Any

import pytest

from gateway.ops.logs import mask_phone
from gateway.ops.logs.lines import renderer
from gateway.ops.logs.redact import redact_field, redact_text

PHONE = "4915112345678"


@pytest.mark.parametrize(
    ("phone", "masked"),
    [
        (PHONE, "49151…5678"),
        ("491511234567", "49151…4567"),
        ("49151123456", "…"),
        ("12345678", "…"),
        ("", "…"),
    ],
)
def test_a_phone_number_keeps_its_ends_if_three_digits_stay_hidden(phone: str, masked: str) -> None:
    assert mask_phone(phone) == masked


@pytest.mark.parametrize(
    "text",
    [
        "to {}",
        "{}",
        "+{}:",
        "/v1/contacts/{}/",
        "{}@s.whatsapp.net",
        "lane={}",
        "'{}'",
        "_{}_",
        "{}-1400000000@g.us",
    ],
)
def test_a_number_in_a_text_is_masked_whatever_stands_around_it(text: str) -> None:
    masked = redact_text(text.format(PHONE))
    assert PHONE not in masked
    assert "49151…5678" in masked


@pytest.mark.parametrize(
    "text", ["1234567", "1234567890123456", "wamid.HBgNNDkxNTExMjM0NTY3OBU", "4f12345678ab", "2023-11-14"]
)
def test_what_is_no_number_stays_readable(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        ("lane", PHONE, "49151…5678"),
        ("lane", "1234", "…"),
        ("lane", "", ""),
        ("url", f"http://x/{PHONE}", "http://x/49151…5678"),
        ("thing", int(PHONE), "49151…5678"),
        ("size_bytes", 2_147_483_648, 2_147_483_648),
        ("seq", 123_456_789, 123_456_789),
        ("attempt", 3, 3),
        ("is_late", True, True),
        ("share", 0.5, 0.5),
        ("nothing", None, None),
        ("body", {"to": PHONE, "n": [int(PHONE)]}, {"to": "49151…5678", "n": ["49151…5678"]}),
        ("error", ValueError(f"to {PHONE}"), "to 49151…5678"),
    ],
)
def test_a_field_is_masked_by_its_name_and_shape(name: str, value: Any, masked: Any) -> None:
    assert redact_field(name, value) == masked


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("shows_content", [True, False])
def test_numbers_are_in_the_log_only_when_content_is_asked_for(is_json: bool, shows_content: bool) -> None:
    info = (ValueError, ValueError(f"exception of {PHONE}"), None)
    record = logging.getLogger("a").makeRecord(
        "a",
        logging.ERROR,
        "f.py",
        1,
        "message to %s",
        (PHONE,),
        info,
        extra={"lane": PHONE, "body": {"to": PHONE}},
    )
    line = renderer(is_json=is_json, has_priority=False, shows_content=shows_content)(record).decode()
    assert (PHONE in line) == shows_content
    assert ("49151…5678" in line) != shows_content
    if is_json and not shows_content:
        assert json.loads(line)["lane"] == "49151…5678"

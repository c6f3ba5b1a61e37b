"""The text of a variable to a value and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Address
from gateway.config.values import (
    hide_userinfo,
    parse_address,
    parse_bool,
    parse_count,
    parse_duration_ms,
    parse_list,
    parse_percent,
    parse_size_bytes,
    parse_url,
    show_duration,
    show_size,
)
from gateway.http.target import read_url


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000), ("0s", 0)],
)
def test_a_duration_becomes_milliseconds(text: str, duration_ms: int) -> None:
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize(
    "text", ["5", "5 sec", "-5s", "1.5s", "1h30m", "s", "", "5S", "٣s", "9999999999999s"]
)
def test_a_duration_without_a_known_unit_or_a_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration_ms(text)


@given(st.integers(0, 10**12 - 1))
def test_a_shown_duration_is_read_back_as_it_was(duration_ms: int) -> None:
    assert parse_duration_ms(show_duration(duration_ms)) == duration_ms


def test_a_day_is_shown_in_hours_and_a_week_in_days() -> None:
    assert (show_duration(86_400_000), show_duration(604_800_000)) == ("24h", "7d")


@given(st.integers(0, 10**12 - 1))
def test_a_shown_size_is_read_back_as_it_was(size_bytes: int) -> None:
    assert parse_size_bytes(show_size(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["64", "64M", "64MB", "64mib", "-1KiB", "1.5GiB"])
def test_a_size_without_a_binary_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size_bytes(text)


@pytest.mark.parametrize("text", ["1e3", "+5", "-5", "1_000", "0x10", "5.0", "٣", ""])
def test_a_count_is_decimal_digits_only(text: str) -> None:
    with pytest.raises(ValueError):
        parse_count(text)


@pytest.mark.parametrize("text", ["5", "5%%", "5.5%", "%", "-5%"])
def test_a_percentage_is_a_whole_number_and_its_sign(text: str) -> None:
    with pytest.raises(ValueError):
        parse_percent(text)


@pytest.mark.parametrize("text", ["True", "yes", "1", "on", "FALSE", ""])
def test_only_true_and_false_are_booleans(text: str) -> None:
    assert parse_bool("true")
    assert not parse_bool("false")
    with pytest.raises(ValueError):
        parse_bool(text)


def test_a_list_is_split_at_commas_and_lines_and_skips_what_is_empty() -> None:
    assert parse_list(" a, b,,\nc\n") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["127.0.0.1:9080", "localhost:0", "[::1]:65535", "node-1.example:80"])
def test_a_shown_address_is_read_back_as_it_was(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["9080", ":9080", "::1:9080", "[::1]", "[zz]:1", "host:", "host:65536", "a b:1", "h:-1"]
)
def test_an_address_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


def test_loopback_is_known_by_address_and_name() -> None:
    assert all(Address(host, 1).is_loopback for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(Address(host, 1).is_loopback for host in ("0.0.0.0", "::", "10.0.0.1", "backend"))


@pytest.mark.parametrize(
    "text",
    [
        "http://a",
        "https://a.example:8443/x?y=z",
        "http://[::1]:8080/webhook",
        "http+unix://%2Frun%2Fbot.sock/webhook",
        "http+unix://%2FRun%2fA%20b%3A1.sock",
    ],
)
def test_a_url_is_kept_as_it_is_and_can_be_requested(text: str) -> None:
    assert parse_url(text) == text
    read_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a",
        "a:80",
        "http://",
        "http://a b",
        "http://a/\n",
        "http://a:99999",
        "http://a:0",
        "http://a#b",
        "http://ü",
        "http://[::1",
        "http+unix:///run/bot.sock",
        "http+unix://run%2Fbot.sock/",
        "http+unix://%2Frun%00/",
        "https+unix://%2Frun%2Fbot.sock/",
    ],
)
def test_what_cannot_be_requested_is_no_url(text: str) -> None:
    with pytest.raises(ValueError):
        parse_url(text)


def test_a_password_in_a_url_is_refused_and_hidden() -> None:
    with pytest.raises(ValueError, match="does not belong in a URL"):
        parse_url("http://user:geheim@host/")
    assert hide_userinfo("http://user:geheim@host/") == "http://***@host/"

"""What a backend's answer means for the record it answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inbound.limit import Sign
from gateway.inbound.verdict import Verdict, judge, load_sign, retry_after_ms


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (None, Verdict.RETRY),
        (200, Verdict.DELIVERED),
        (204, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (301, Verdict.RETRY),
        (400, Verdict.PARK),
        (401, Verdict.RETRY),
        (403, Verdict.RETRY),
        (404, Verdict.RETRY),
        (408, Verdict.RETRY),
        (409, Verdict.PARK),
        (410, Verdict.GONE),
        (413, Verdict.PARK),
        (422, Verdict.PARK),
        (425, Verdict.RETRY),
        (429, Verdict.RETRY_FREE),
        (500, Verdict.RETRY),
        (503, Verdict.RETRY),
        (599, Verdict.RETRY),
    ],
)
def test_a_status_has_its_verdict(status: int | None, verdict: Verdict) -> None:
    assert judge(status) is verdict


def test_only_answers_that_speak_of_the_body_park_it() -> None:
    """A wrong token or a deployment in progress must not throw away what comes meanwhile."""
    parked = {status for status in range(100, 600) if judge(status) is Verdict.PARK}
    assert parked == {400, 406, 409, 411, 412, 413, 414, 415, 417, 421, 422, 431, 451}


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("3", 3000),
        (" 3 ", 3000),
        ("60", 60_000),
        ("61", 60_000),
        ("999999999", 60_000),
        ("9999999999", 0),
        ("-1", 0),
        ("1.5", 0),
        ("²", 0),
        ("٣", 0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
    ],
)
def test_reads_seconds_up_to_the_longest_and_nothing_else(value: str | None, expected_ms: int) -> None:
    assert retry_after_ms(value, 60_000) == expected_ms


@settings(max_examples=200, deadline=None)
@given(value=st.text(max_size=12), longest_ms=st.integers(0, 10**6))
def test_any_header_gives_a_time_within_the_bound(value: str, longest_ms: int) -> None:
    assert 0 <= retry_after_ms(value, longest_ms) <= longest_ms


@pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
def test_no_answer_in_time_and_please_wait_are_signs_of_overload(status: int | None) -> None:
    assert load_sign(status) is Sign.OVERLOADED


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 500, 501])
def test_other_trouble_says_nothing_of_the_load(status: int) -> None:
    assert load_sign(status) is Sign.NEITHER

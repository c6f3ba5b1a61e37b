"""What the node's answer to a send means, for both dialects."""

from pathlib import Path

import pytest
from conftest import PAYLOADS

from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Answer, Dialect
from gateway.dialects.onprem import OnPrem
from gateway.outbound.outcome_page import EFFECTS, main, page
from gateway.outbound.outcomes import CLOUD as CLOUD_ROWS
from gateway.outbound.outcomes import ONPREM as ONPREM_ROWS
from gateway.outbound.outcomes import Effect, Row, effect_of, is_uncertain

ONPREM, CLOUD = OnPrem(), Cloud()
PAGE = Path(__file__).parents[1] / "docs" / "outcomes.md"


@pytest.mark.parametrize(
    ("dialect", "status", "name", "effect"),
    [
        (ONPREM, 201, "onprem_send_response_201", Effect.SENT),
        (ONPREM, 429, "onprem_send_error_429", Effect.PAUSE_ALL),
        (ONPREM, 503, "onprem_send_error_503", Effect.PAUSE_ALL),
        (ONPREM, 400, "onprem_send_error_471", Effect.PAUSE_BULK),
        (ONPREM, 404, "onprem_send_error_404_1006", Effect.CONTACT),
        (CLOUD, 200, "cloud_send_response_200", Effect.SENT),
        (CLOUD, 429, "cloud_send_error_130429", Effect.PAUSE_ALL),
        (CLOUD, 400, "cloud_send_error_80007", Effect.PAUSE_ALL),
        (CLOUD, 400, "cloud_send_error_131048", Effect.PAUSE_BULK),
        (CLOUD, 400, "cloud_send_error_131056", Effect.PAUSE_RECIPIENT),
    ],
)
def test_a_real_answer_has_its_effect(dialect: Dialect, status: int, name: str, effect: Effect) -> None:
    body = (PAYLOADS / f"api_{name}.json").read_bytes()
    assert effect_of(dialect.read_answer(status, body, None)) is effect


@pytest.mark.parametrize(
    ("status", "effect"),
    [
        (200, Effect.SENT),
        (201, Effect.SENT),
        (202, Effect.SENT),
        (301, Effect.FAIL),
        (400, Effect.FAIL),
        (401, Effect.LOGIN),
        (403, Effect.FAIL),
        (404, Effect.FAIL),
        (408, Effect.RETRY),
        (425, Effect.RETRY),
        (429, Effect.PAUSE_ALL),
        (500, Effect.RETRY),
        (502, Effect.RETRY),
        (503, Effect.PAUSE_ALL),
        (504, Effect.RETRY),
    ],
)
def test_without_a_code_the_status_decides(status: int, effect: Effect) -> None:
    assert effect_of(Answer(status)) is effect


@pytest.mark.parametrize("code", [1, 470, 471, 1005, 1015, 131047, 999_999])
def test_a_success_is_a_success_whatever_code_is_in_it(code: int) -> None:
    assert effect_of(Answer(200, code=code)) is Effect.SENT


@pytest.mark.parametrize("code", [470, 1008, 1009, 1013, 131026, 131047, 100, 131051])
def test_what_no_repetition_can_help_fails_the_message(code: int) -> None:
    assert effect_of(Answer(400, code=code)) is Effect.FAIL


@pytest.mark.parametrize("code", [1014, 1017, 1018, 1000, 131000, 131016, 131057])
def test_trouble_of_the_node_is_tried_again_even_under_status_400(code: int) -> None:
    assert effect_of(Answer(400, code=code)) is Effect.RETRY


@pytest.mark.parametrize(
    ("code", "effect"), [(1005, Effect.LOGIN), (190, Effect.LOGIN), (1015, Effect.PAUSE_ALL)]
)
def test_the_code_is_trusted_more_than_the_status(code: int, effect: Effect) -> None:
    assert effect_of(Answer(500, code=code)) is effect


def test_an_unknown_code_leaves_it_to_the_status() -> None:
    assert effect_of(Answer(503, code=123_456)) is Effect.PAUSE_ALL
    assert effect_of(Answer(500, code=123_456)) is Effect.RETRY


# -- the whole table

ONPREM_CODES = [
    *(400, 402, 408, 410, 429, 430, 432, 433, 470, 471, 472, 480, 500, 503),
    *(1000, 1001, 1002, 1003, 1005, 1006, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018),
    *(1020, 1021, 1022, 1023, 1024, 1026, 1031, 2000, 2001, 2002, 2003, 2061, 2062),
]
"""Every code that the error pages of the On-Premises API and of those who ran it name; 503 is an HTTP status too."""

CLOUD_CODES = [
    *(0, 1, 2, 3, 4, 10, 33, 100, 190, *range(200, 300), 368, 613, 80007),
    *(130403, 130429, 130472, 130497, 131000, 131005, 131008, 131009, 131016, 131021, 131026, 131031, 131047),
    *(131048, 131049, 131050, 131051, 131053, 131056, 131057, 131064),
    *(132000, 132001, 132005, 132007, 132012, 132015, 132016, 132068, 132069, 133016),
]


@pytest.mark.parametrize(("rows", "codes"), [(ONPREM_ROWS, ONPREM_CODES), (CLOUD_ROWS, CLOUD_CODES)])
def test_the_table_has_every_known_code_once_with_a_reason(rows: tuple[Row, ...], codes: list[int]) -> None:
    assert [code for row in rows for code in range(row.first, row.last + 1)] == codes
    assert all(row.why for row in rows)


@pytest.mark.parametrize("row", [*ONPREM_ROWS, *CLOUD_ROWS])
def test_a_code_has_the_effect_of_its_row_whatever_the_status(row: Row) -> None:
    """So no code is in both dialects with two meanings."""
    for status in (400, 403, 429, 500, 503):
        assert {effect_of(Answer(status, code=code)) for code in (row.first, row.last)} == {row.effect}


def test_no_code_of_the_table_means_that_it_was_sent() -> None:
    assert Effect.SENT not in {row.effect for row in (*ONPREM_ROWS, *CLOUD_ROWS)}


@pytest.mark.parametrize(
    "code", [row.first for row in (*ONPREM_ROWS, *CLOUD_ROWS) if row.why.startswith(("account", "config"))]
)
def test_trouble_of_the_account_never_fails_a_message_at_once(code: int) -> None:
    """It would fail a whole campaign; the sender pauses when several sends meet it."""
    assert effect_of(Answer(403, code=code)) is Effect.RETRY


def test_the_page_is_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(), "run: python -m gateway.outbound.outcome_page docs/outcomes.md"
    lines = text.splitlines()
    for row in (*ONPREM_ROWS, *CLOUD_ROWS):
        code = str(row.first) if row.first == row.last else f"{row.first} to {row.last}"
        assert f"| {code} | `{row.effect.value}` | {row.why} |" in lines
    assert set(EFFECTS) == set(Effect)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "outcomes.md"
    assert main([str(target)]) == 0
    assert target.read_text(encoding="utf-8") == page()
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(500), True),
        (Answer(502), True),
        (Answer(504), True),
        (Answer(408), True),
        (Answer(503), False),
        (Answer(500, code=1000), False),
        (Answer(504, code=131016), False),
        (Answer(429), False),
        (Answer(400), False),
        (Answer(401), False),
    ],
)
def test_a_server_error_without_a_code_leaves_it_open_whether_the_send_was_taken(
    answer: Answer, expected: bool
) -> None:
    """A proxy's 502 says nothing of what the node did; the node's own refusal has a code."""
    assert is_uncertain(answer) is expected

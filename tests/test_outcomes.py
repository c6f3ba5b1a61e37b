"""What the node's answer to a send means, for both dialects."""

import pytest
from conftest import PAYLOADS

from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Answer, Dialect
from gateway.dialects.onprem import OnPrem
from gateway.outbound.outcomes import Effect, effect_of

ONPREM, CLOUD = OnPrem(), Cloud()


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

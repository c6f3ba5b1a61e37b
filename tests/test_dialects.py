"""Sends in both dialects: what is asked, what is answered, what is refused."""

import json
from typing import Any

import pytest
from builders import CONTACT, push_body
from conftest import PAYLOADS
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.cloud import Cloud
from gateway.dialects.dialect import Answer, Dialect, Push, Refusal
from gateway.dialects.onprem import OnPrem

ONPREM, CLOUD = OnPrem(), Cloud()
both = pytest.mark.parametrize("dialect", [ONPREM, CLOUD], ids=lambda dialect: dialect.name)


def payload(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


@both
@pytest.mark.parametrize(
    "name", ["onprem_send_text", "onprem_send_template", "onprem_send_hsm", "cloud_send_text"]
)
def test_reads_the_recipient_of_a_request(dialect: Dialect, name: str) -> None:
    body = payload(f"api_{name}_request")
    assert dialect.read_push(body) == Push(json.loads(body)["to"], is_group=False)


@both
@pytest.mark.parametrize("name", ["onprem", "cloud"])
def test_reads_a_request_to_a_group(dialect: Dialect, name: str) -> None:
    body = payload(f"api_{name}_send_group_request")
    assert dialect.read_push(body) == Push(json.loads(body)["to"], is_group=True)


@both
@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"null", b'"to"', b'{"to":"1"', b"\xff", b'{"to":"\\ud800"}']
)
def test_refuses_a_request_that_is_no_object(dialect: Dialect, body: bytes) -> None:
    refusal = dialect.read_push(body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, dialect.codes.invalid)


@both
@pytest.mark.parametrize("to", [None, "", 15550100111, ["15550100111"]])
def test_refuses_a_request_without_a_recipient(dialect: Dialect, to: Any) -> None:
    refusal = dialect.read_push(json.dumps({"to": to, "type": "text"}).encode())
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, dialect.codes.missing)
    assert "'to'" in refusal.details


def test_answers_an_accepted_send_as_the_api_does() -> None:
    place = {"position": 3, "eta_s": 1.5}
    assert json.loads(ONPREM.accepted_body("gw-1", place)) == {"messages": [{"id": "gw-1"}], "gateway": place}
    assert json.loads(CLOUD.accepted_body("gw-1", place)) == {
        "messaging_product": "whatsapp",
        "messages": [{"id": "gw-1"}],
        "gateway": place,
    }


@pytest.mark.parametrize(
    ("ttl", "days"),
    [
        (1, 1), (30, 30), ("7", 7), ({"days": 2}, 2), ({"days": "3"}, 3), ("P4D", 4),
        (0, 0), (31, 0), (-1, 0), (True, 0), (1.5, 0), ("P40D", 0), ("soon", 0), (None, 0), ({}, 0), ([1], 0),
    ],
)  # fmt: skip
def test_reads_how_long_a_template_lives_and_leaves_what_it_does_not_know_to_the_node(
    ttl: object, days: int
) -> None:
    push = ONPREM.read_push(json.dumps({"to": "1", "type": "template", "ttl": ttl}).encode())
    assert isinstance(push, Push)
    assert push.ttl_ms == days * 86_400_000


def test_the_cloud_api_has_no_such_field() -> None:
    push = CLOUD.read_push(b'{"to": "1", "ttl": 1}')
    assert isinstance(push, Push)
    assert push.ttl_ms == 0


def test_refuses_in_the_shape_of_the_api() -> None:
    refusal = Refusal(429, 7, "Too many", "wait")
    assert json.loads(ONPREM.refusal_body(refusal)) == {
        "errors": [{"code": 7, "title": "Too many", "details": "wait"}]
    }
    error = json.loads(CLOUD.refusal_body(refusal))["error"]
    assert (error["code"], error["message"], error["error_data"]["details"]) == (7, "(#7) Too many", "wait")


@both
def test_reads_its_own_refusal_back(dialect: Dialect) -> None:
    answer = dialect.read_answer(429, dialect.refusal_body(Refusal(429, 7, "Too many", "wait")), 1.5)
    assert (answer.status, answer.code, answer.retry_after_s) == (429, 7, 1.5)
    assert "Too many" in answer.title


@both
def test_reads_its_own_acceptance_back(dialect: Dialect) -> None:
    assert dialect.read_answer(202, dialect.accepted_body("gw-1", {}), None) == Answer(202, message_id="gw-1")


@pytest.mark.parametrize(
    ("dialect", "status", "name", "code"),
    [
        (ONPREM, 429, "onprem_send_error_429", 1015),
        (ONPREM, 503, "onprem_send_error_503", 1016),
        (ONPREM, 400, "onprem_send_error_471", 471),
        (ONPREM, 404, "onprem_send_error_404_1006", 1006),
        (CLOUD, 429, "cloud_send_error_130429", 130429),
        (CLOUD, 400, "cloud_send_error_131048", 131048),
        (CLOUD, 400, "cloud_send_error_131056", 131056),
        (CLOUD, 400, "cloud_send_error_80007", 80007),
    ],
)
def test_reads_the_code_of_an_error(dialect: Dialect, status: int, name: str, code: int) -> None:
    answer = dialect.read_answer(status, payload(f"api_{name}"), None)
    assert (answer.status, answer.code, answer.message_id) == (status, code, "")
    assert answer.title


def test_reads_the_id_of_a_sent_message() -> None:
    for dialect, name in ((ONPREM, "onprem_send_response_201"), (CLOUD, "cloud_send_response_200")):
        body = payload(f"api_{name}")
        assert dialect.read_answer(201, body, None).message_id == json.loads(body)["messages"][0]["id"]


def test_reads_the_second_shape_of_a_rate_error() -> None:
    assert ONPREM.read_answer(429, b'{"error":{"errorcode":429}}', None).code == 429


@both
@settings(max_examples=100, deadline=None)
@given(
    status=st.integers(100, 599),
    body=st.one_of(
        st.binary(max_size=30),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["messages", "errors", "error", "id", "code", "title"]), inner, max_size=3
                )
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_answer_is_read_without_an_exception(dialect: Dialect, status: int, body: bytes) -> None:
    answer = dialect.read_answer(status, body, None)
    assert answer.status == status
    assert answer.code is None or str(answer.code) in body.decode()


@both
@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"messages":' * 50_000, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
)
def test_an_answer_nested_without_end_is_an_answer_without_a_body(dialect: Dialect, body: bytes) -> None:
    assert dialect.read_answer(500, body, None) == Answer(500)


def test_a_reply_is_made_a_request() -> None:
    reply = {"type": "text", "text": {"body": "hi"}}
    assert json.loads(ONPREM.reply_body(reply, CONTACT, is_group=False)) == {"to": CONTACT, **reply}
    assert json.loads(ONPREM.reply_body(reply, "g", is_group=True)) == {
        "to": "g",
        "recipient_type": "group",
        **reply,
    }
    assert json.loads(CLOUD.reply_body(reply, CONTACT, is_group=False)) == {
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": CONTACT, **reply,
    }  # fmt: skip


@both
def test_what_a_reply_says_itself_is_kept(dialect: Dialect) -> None:
    request = json.loads(dialect.reply_body({"to": "other", "recipient_type": "x"}, CONTACT, is_group=True))
    assert (request["to"], request["recipient_type"]) == ("other", "x")


@both
def test_a_reply_it_made_is_a_request_it_reads(dialect: Dialect) -> None:
    body = dialect.reply_body(json.loads(push_body()), CONTACT, is_group=True)
    assert dialect.read_push(body) == Push(CONTACT, is_group=True)


@pytest.mark.parametrize("code", [-1, 2**31, 10**30])
def test_a_code_that_can_be_none_is_none(code: int) -> None:
    """What is told of a failed send has it, and must be JSON that every parser takes."""
    onprem = b'{"errors":[{"code":%d,"title":"t"}]}' % code
    cloud = b'{"error":{"code":%d,"message":"m"}}' % code
    assert OnPrem().read_answer(400, onprem, None).code is None
    assert Cloud().read_answer(400, cloud, None).code is None

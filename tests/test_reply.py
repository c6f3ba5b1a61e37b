"""Instant replies: what of a backend's answer is a message, and where it goes."""

import json
from typing import Any

import pytest
from builders import CONTACT, GROUP, message, onprem_body
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.cloud import Cloud
from gateway.dialects.onprem import OnPrem
from gateway.inbound.reply import REPLIES_MAX, Replies, read_replies

TEXT = {"type": "text", "text": {"body": "hi"}}
SINGLE = onprem_body([message()])
FROM_GROUP = onprem_body([message(group_id=GROUP)])


def replies_to(answer: Any, webhook: bytes = SINGLE, lane: str = CONTACT) -> Replies:
    raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_replies(raw, webhook, lane, OnPrem())


@pytest.mark.parametrize("answer", [TEXT, [TEXT], {"messages": [TEXT]}, {"messages": [TEXT], "status": "ok"}])
def test_an_object_a_list_and_a_messages_array_are_replies(answer: Any) -> None:
    found = replies_to(answer)
    assert found.problem == ""
    (reply,) = found.replies
    assert (reply.to, reply.is_group) == (CONTACT, False)
    assert json.loads(reply.body) == {"to": CONTACT, **TEXT}


def test_several_replies_keep_their_order() -> None:
    found = replies_to([{"type": "text", "text": {"body": str(at)}} for at in range(REPLIES_MAX)])
    assert [json.loads(reply.body)["text"]["body"] for reply in found.replies] == [
        str(at) for at in range(REPLIES_MAX)
    ]


def test_a_text_needs_no_type() -> None:
    assert len(replies_to({"text": {"body": "hi"}}).replies) == 1


@pytest.mark.parametrize("kind", ["image", "template", "hsm", "interactive", "reaction"])
def test_any_type_of_message_is_a_reply(kind: str) -> None:
    assert len(replies_to({"type": kind, kind: {"x": 1}}).replies) == 1


def test_contacts_are_a_message_though_theirs_is_a_list() -> None:
    found = replies_to({"type": "contacts", "contacts": [{"name": {"formatted_name": "A"}}]})
    assert len(found.replies) == 1


def test_a_reply_may_name_another_chat() -> None:
    (reply,) = replies_to({"to": "4915550100222", **TEXT}, FROM_GROUP, GROUP).replies
    assert (reply.to, reply.is_group) == ("4915550100222", False)
    (reply,) = replies_to({"to": GROUP, "recipient_type": "group", **TEXT}).replies
    assert (reply.to, reply.is_group) == (GROUP, True)


def test_a_message_from_a_group_is_answered_to_the_group() -> None:
    (reply,) = replies_to(TEXT, FROM_GROUP, GROUP).replies
    assert (reply.to, reply.is_group) == (GROUP, True)
    assert json.loads(reply.body) == {"to": GROUP, "recipient_type": "group", **TEXT}


def test_the_words_group_id_in_a_text_make_no_group() -> None:
    webhook = onprem_body([message(text={"body": '"group_id"'}, context={"group_id": "x"})])
    (reply,) = replies_to(TEXT, webhook).replies
    assert not reply.is_group


def test_replies_speak_the_dialect_of_the_node() -> None:
    (reply,) = read_replies(json.dumps(TEXT).encode(), SINGLE, CONTACT, Cloud()).replies
    assert json.loads(reply.body)["messaging_product"] == "whatsapp"


@pytest.mark.parametrize(
    "answer",
    [b"", b"  \n", b"OK", b"<html>", b"\xff", b"null", b"true", b"17", b'"hi"', b"[]", b"{}",
     b'{"status":"ok"}', b'{"messages":[]}', b'{"messages":"none"}', b'{"type":"text"}', b'{"type":5,"text":{}}'],
)  # fmt: skip
def test_an_answer_without_a_message_is_no_reply_and_no_problem(answer: bytes) -> None:
    assert replies_to(answer) == Replies([])


def test_too_many_replies_are_refused_altogether() -> None:
    found = replies_to([TEXT] * (REPLIES_MAX + 1))
    assert found.replies == []
    assert str(REPLIES_MAX + 1) in found.problem


@pytest.mark.parametrize(
    "bad", [None, "hi", {"type": "text"}, {"type": "text", "text": "hi"}, {"type": "image"}]
)
def test_what_is_wrong_in_a_list_is_reported_and_what_came_before_is_sent(bad: Any) -> None:
    found = replies_to([TEXT, bad, TEXT])
    assert len(found.replies) == 1
    assert "not a message" in found.problem


@pytest.mark.parametrize("to", [None, "", 15550100111])
def test_a_wrong_to_is_reported(to: Any) -> None:
    found = replies_to({"to": to, **TEXT})
    assert found.replies == []
    assert "'to'" in found.problem


def test_without_a_chat_to_answer_a_reply_must_name_one() -> None:
    assert "'to'" in replies_to(TEXT, lane="").problem
    assert len(replies_to({"to": CONTACT, **TEXT}, lane="").replies) == 1


@pytest.mark.parametrize("depth", [100, 250, 254, 255, 300, 900, 1020, 5000])
def test_a_reply_nested_deeper_than_can_be_written_is_a_problem_and_not_a_crash(depth: int) -> None:
    """Raised in a forwarder it would end the process, and again after each restart."""
    nested = b'{"type":"text","text":{"body":' + b"[" * depth + b"]" * depth + b"}}"
    found = replies_to(nested)
    assert len(found.replies) <= 1
    if depth == 100:
        assert len(found.replies) == 1
    if depth == 900:
        assert "can't be encoded" in found.problem


_ANSWERS = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "text", CONTACT, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "type", "text", "to", "recipient_type"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(answer=_ANSWERS)
def test_any_answer_gives_requests_with_a_recipient(answer: Any) -> None:
    for reply in replies_to(answer).replies:
        request = json.loads(reply.body)
        assert request["to"] == reply.to != ""
        assert isinstance(request[request.get("type", "text")], dict)


@pytest.mark.parametrize("answer", [b"{", b'[{"type"', b'{"type":"text","text":{"body":"cut \\ud83d"}}'])
def test_an_answer_that_looks_like_json_and_is_none_is_a_problem(answer: bytes) -> None:
    """A bot that cuts an emoji in half must hear of it, or its reply is lost without a trace."""
    found = replies_to(answer)
    assert found.replies == []
    assert "looks like JSON" in found.problem

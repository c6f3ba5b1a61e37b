"""Every body we know of is decoded to what it holds; what is no JSON is refused, and nothing else is."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import CONTACT, GROUP, cloud_body, message, onprem_body, status
from conftest import PAYLOADS, manifest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.dialects.webhook import Event, decode, split
from gateway.errors import NotJsonError
from gateway.events import InboundClass, Kind

WEBHOOKS = [
    entry for entry in manifest() if entry["dialect"] in ("onprem", "cloud") and entry["kind"] != "api"
]
MALFORMED = [entry for entry in manifest() if entry["kind"] == "malformed"]
UNKNOWN_FIELDS = {"account", "group", "echo"}
"""Cloud changes of other fields than `messages`: one event of kind OTHER each."""


def read(entry: dict[str, Any]) -> bytes:
    path: Path = PAYLOADS / entry["file"]
    return path.read_bytes()


def name(entry: dict[str, Any]) -> str:
    file: str = entry["file"]
    return file.removesuffix(".json")


def arrays(events: list[Event]) -> dict[str, int]:
    """Events by the array they stand in."""
    counts = Counter(event.place[2] for event in events)
    return {array: counts[array] for array in ("messages", "statuses", "errors")}


def only(body: bytes) -> Event:
    (event,) = decode(body).events
    return event


@pytest.mark.parametrize("entry", WEBHOOKS, ids=name)
def test_finds_all_that_the_manifest_counts(entry: dict[str, Any]) -> None:
    webhook = decode(read(entry))
    assert arrays(webhook.events) == entry["counts"]
    others = [event for event in webhook.events if event.place[2] == ""]
    is_of_another_field = entry["kind"] in UNKNOWN_FIELDS or entry["file"] == "cloud_multi_entry_mixed.json"
    is_unknown = entry["kind"] in ("contacts", "other")
    assert len(others) == (is_of_another_field or is_unknown)
    assert webhook.is_recognised == (not is_unknown)
    for event in others:
        assert (event.kind, event.cls, event.key) == (Kind.OTHER, InboundClass.MESSAGE, "")
    if entry["kind"] == "empty":
        assert webhook.events == []


@pytest.mark.parametrize("entry", WEBHOOKS, ids=name)
def test_a_body_with_one_destination_travels_byte_for_byte(entry: dict[str, Any]) -> None:
    body = read(entry)
    events = decode(body).events
    destinations = {event.cls is InboundClass.MESSAGE for event in events}
    parts = split(body, events, len(events))
    assert len(parts) == len(destinations)
    if len(parts) == 1:
        assert parts[0].body == body
        assert parts[0].events == events


@pytest.mark.parametrize("entry", MALFORMED, ids=name)
def test_refuses_what_is_no_json_and_nothing_else(entry: dict[str, Any]) -> None:
    body = read(entry)
    if entry["parses"]:
        assert len(decode(body).events) >= 1
    else:
        with pytest.raises(NotJsonError):
            decode(body)


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("malformed_duplicate_keys", [Kind.READ]),
        ("malformed_wrong_types_mixed_dialects", [Kind.SENT]),
        ("malformed_wrong_types_missing_id", [Kind.MESSAGE, Kind.SENT]),
        ("malformed_wrong_types_missing_from", [Kind.MESSAGE]),
        ("malformed_wrong_types_text_is_string", [Kind.MESSAGE]),
        ("malformed_wrong_types_errors_is_null", [Kind.FAILED]),
        ("malformed_wrong_types_top_level_array", [Kind.OTHER]),
        ("malformed_wrong_types_top_level_null", [Kind.OTHER]),
        ("malformed_wrong_types_ids_are_numbers", [Kind.OTHER]),
        ("malformed_wrong_types_messages_is_object", [Kind.OTHER]),
        ("malformed_wrong_types_items_are_scalars", [Kind.OTHER]),
        ("malformed_wrong_types_cloud_value_missing", [Kind.OTHER]),
        ("malformed_nan", [Kind.OTHER]),
    ],
)
def test_reads_what_it_can_of_wrong_types_and_keeps_the_rest_as_other(file: str, kinds: list[Kind]) -> None:
    events = decode((PAYLOADS / f"{file}.json").read_bytes()).events
    assert [event.kind for event in events] == kinds


@pytest.mark.parametrize(
    ("status_name", "kind", "cls"),
    [
        ("sent", Kind.SENT, InboundClass.RECEIPT),
        ("delivered", Kind.DELIVERED, InboundClass.RECEIPT),
        ("read", Kind.READ, InboundClass.RECEIPT),
        ("played", Kind.READ, InboundClass.RECEIPT),
        ("failed", Kind.FAILED, InboundClass.FAILURE),
        ("deleted", Kind.OTHER, InboundClass.FAILURE),
        ("warning", Kind.OTHER, InboundClass.FAILURE),
        ("a new one", Kind.OTHER, InboundClass.FAILURE),
    ],
)
def test_a_status_is_a_receipt_or_a_failure_notice(status_name: str, kind: Kind, cls: InboundClass) -> None:
    """What we have no name for may be important: it is never shed with the receipts."""
    for body in (
        onprem_body(statuses=[status(name=status_name)]),
        cloud_body({"statuses": [status(name=status_name)]}),
    ):
        event = only(body)
        assert (event.kind, event.cls) == (kind, cls)


def test_an_error_is_a_failure_notice_without_a_key() -> None:
    event = only(onprem_body(errors=[{"code": 1014}]))
    assert (event.kind, event.cls, event.key, event.lane) == (Kind.ERROR, InboundClass.FAILURE, "", "")


def test_the_lane_of_a_message_is_its_group_or_else_its_sender() -> None:
    single = only(onprem_body([message()]))
    group = only(onprem_body([message(group_id=GROUP)]))
    assert (single.lane, single.is_group) == (CONTACT, False)
    assert (group.lane, group.is_group) == (GROUP, True)


def test_the_lane_of_a_status_is_its_group_or_else_its_recipient() -> None:
    assert only(onprem_body(statuses=[status()])).lane == CONTACT
    assert only(onprem_body(statuses=[{**status(), "group_id": GROUP}])).lane == GROUP
    nested = {"id": "a", "status": "read", "message": {"recipient_id": "4915550100222"}}
    assert only(onprem_body(statuses=[nested])).lane == "4915550100222"


def test_receipts_of_one_message_differ_by_recipient_participant_and_status() -> None:
    """A group's message has a receipt of each kind from each member."""
    base = status("gBGG1", "delivered")
    different = [
        base,
        {**base, "status": "read"},
        {**base, "recipient_id": "4915550100222"},
        {**base, "recipient_participant_id": "4915550100222"},
        {**base, "recipient_participant_id": "4915550100333"},
        {**base, "recipient_participant_user_id": "US.1"},
        {**base, "id": "gBGG2"},
    ]
    keys = {event.key for event in decode(onprem_body(statuses=different)).events}
    assert len(keys) == len(different)


def test_what_has_no_id_has_no_key() -> None:
    assert only(onprem_body([message(None)])).key == ""
    assert only(onprem_body(statuses=[{"status": "read", "recipient_id": CONTACT}])).key == ""


def test_a_message_and_a_status_with_one_id_are_two_events() -> None:
    events = decode(onprem_body([message("same")], [status("same", "sent", "")])).events
    assert len({event.key for event in events}) == 2


def test_a_cloud_envelope_beside_filled_onprem_arrays_is_not_guessed_at() -> None:
    body = cloud_body({"messages": [message()]}, statuses=[status()])
    webhook = decode(body)
    assert not webhook.is_recognised
    assert [event.kind for event in webhook.events] == [Kind.OTHER]


@pytest.mark.parametrize("depth", range(920, 1010, 3))
@pytest.mark.parametrize(
    "shape", ['{"messages":[{"id":"a","x":%s}],"statuses":[{"id":"b"}]}', '{"unknown":%s}']
)
def test_nesting_as_deep_as_the_parser_goes_is_json_or_is_not(shape: str, depth: int) -> None:
    """Just under the limit the next step, a few calls deeper, must not fall over it."""
    body = (shape % ("[" * depth + "]" * depth)).encode()
    try:
        webhook = decode(body)
    except NotJsonError:
        return
    parts = split(body, webhook.events, len(webhook.events))
    assert sum(len(part.events) for part in parts) == len(webhook.events) >= 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "read", "a", "\ud800", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "statuses",
                    "errors",
                    "id",
                    "from",
                    "status",
                    "object",
                    "entry",
                    "changes",
                    "field",
                    "value",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(value=_JSON)
def test_all_json_is_taken_and_never_lost(value: Any) -> None:
    """No events means nothing in it: an empty body's values are all empty."""
    body = json.dumps(value).encode()
    webhook = decode(body)
    parts = split(body, webhook.events, len(webhook.events))
    assert sum(len(part.events) for part in parts) == len(webhook.events)
    if not webhook.events and "entry" not in value:
        assert isinstance(value, dict)
        assert not any(content for key, content in value.items() if key != "object")


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)))
@example(b'{"messages":[{"id":"a"}]}\xff')
@example(b'\xef\xbb\xbf{"messages":[]}')
def test_any_bytes_are_refused_only_where_python_refuses_them_too(body: bytes) -> None:
    try:
        webhook = decode(body)
    except NotJsonError:
        with pytest.raises(ValueError):
            json.loads(body.decode())
    else:
        assert webhook.events or isinstance(json.loads(body.decode()), dict)


def test_half_an_emoji_in_a_text_changes_nothing_about_the_message() -> None:
    body = b'{"messages":[{"from":"1555","id":"m1","type":"text","text":{"body":"cut \\ud83d"}}]}'
    webhook = decode(body)
    assert webhook.is_recognised
    assert [(event.kind, event.lane) for event in webhook.events] == [(Kind.MESSAGE, "1555")]


def test_ids_that_differ_by_half_an_emoji_are_two() -> None:
    """The second message was dropped as a repeat of the first."""
    bodies = [b'{"messages":[{"from":"1555","id":"m\\ud83%d","type":"text"}]}' % n for n in range(2)]
    keys = [event.key for body in bodies for event in decode(body).events]
    assert len(set(keys)) == len(keys) == 2


def test_statuses_with_separators_in_their_ids_are_not_taken_for_one() -> None:
    def key(status_id: str, recipient: str) -> str:
        status = {"id": status_id, "recipient_id": recipient, "status": "read"}
        (event,) = decode(json.dumps({"statuses": [status]}).encode()).events
        return event.key

    assert key("a|b", "c") != key("a", "b|c")
    assert key("ab", "c") != key("a", "bc")
    assert key("a", "b") == key("a", "b")


def test_null_changes_beside_full_ones_are_split() -> None:
    value = {"messages": [{"id": "m"}], "statuses": [{"id": "s", "status": "read"}]}
    entries = [{"changes": None}, {"changes": [{"field": "messages", "value": value}]}]
    body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
    events = decode(body).events
    parts = split(body, events, len(events))
    assert [len(part.events) for part in parts] == [1, 1]
    assert [event.key for part in parts for event in decode(part.body).events] == [e.key for e in events]

"""A body that is taken apart: each item goes to one part, with its bytes, and nothing else is lost."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from builders import cloud_body, message, onprem_body, status
from conftest import PAYLOADS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.dialects.webhook import Event, Part, decode, split
from gateway.events import InboundClass, Kind

ARRAYS = ("messages", "statuses", "errors")
MESSAGES, STATUSES = 0, 1


def parts_of(body: bytes) -> list[Part]:
    events = decode(body).events
    return split(body, events, len(events))


def test_messages_and_statuses_go_apart_with_the_fields_they_share() -> None:
    body = onprem_body(
        [message()], [status()], [{"code": 1}], contacts=[{"wa_id": "1"}], meta={"v": [1, None]}
    )
    messages, statuses = (json.loads(part.body) for part in parts_of(body))
    assert messages == {"contacts": [{"wa_id": "1"}], "meta": {"v": [1, None]}, "messages": [message()]}
    assert statuses == {
        "contacts": [{"wa_id": "1"}], "meta": {"v": [1, None]}, "statuses": [status()], "errors": [{"code": 1}],
    }  # fmt: skip


def test_the_class_of_a_part_is_its_highest() -> None:
    body = onprem_body([message()], [status(name="read"), status(name="failed")])
    assert [part.cls for part in parts_of(body)] == [InboundClass.MESSAGE, InboundClass.FAILURE]
    assert [part.cls for part in parts_of(onprem_body(statuses=[status()]))] == [InboundClass.RECEIPT]


def test_an_item_keeps_its_bytes() -> None:
    """Numbers of any precision, escapes, spaces and repeated keys are not ours to rewrite."""
    item = rb'{ "id":"a" , "x": 1.00000000000000000001e+400, "y":"\u00e9\/", "z":{"k":1,"k":2} }'
    body = b'{"messages": [ ' + item + b' ], "statuses": [{"id":"b","status":"read"}], "huge": 1e999}'
    messages, statuses = parts_of(body)
    assert item in messages.body
    assert b'"huge":1e999' in messages.body
    assert b'"huge":1e999' in statuses.body


def test_cloud_entries_and_changes_keep_their_own_fields() -> None:
    value = {"metadata": {"id": "7"}, "messages": [message()], "statuses": [status()]}
    body = cloud_body(value, extra=1)
    messages, statuses = (json.loads(part.body) for part in parts_of(body))
    for part, gone in ((messages, "statuses"), (statuses, "messages")):
        assert part["extra"] == 1
        assert part["object"] == "whatsapp_business_account"
        (entry,) = part["entry"]
        assert entry["id"] == "9"
        (change,) = entry["changes"]
        assert change == {"field": "messages", "value": {k: v for k, v in value.items() if k != gone}}


def test_a_cloud_change_of_another_field_goes_whole_with_the_messages() -> None:
    other = {"field": "account_update", "value": {"event": "X"}}
    top = json.loads(cloud_body({"statuses": [status()]}))
    top["entry"].append({"id": "8", "changes": [other]})
    messages, statuses = (json.loads(part.body) for part in parts_of(json.dumps(top).encode()))
    assert messages["entry"] == [{"id": "8", "changes": [other]}]
    assert [entry["id"] for entry in statuses["entry"]] == ["9"]


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("empty", [[], None])
def test_empty_onprem_arrays_in_a_cloud_body_do_not_hide_its_entries(array: str, empty: Any) -> None:
    """Both parts would get all events."""
    body = cloud_body({"messages": [message()], "statuses": [status()]}, **{array: empty})
    messages, statuses = (decode(part.body).events for part in parts_of(body))
    assert [event.kind for event in messages] == [Kind.MESSAGE]
    assert [event.kind for event in statuses] == [Kind.DELIVERED]


@pytest.mark.parametrize("nothing", [None, []])
def test_an_empty_entry_in_an_onprem_body_does_not_hide_its_arrays(nothing: Any) -> None:
    body = onprem_body([message()], [status()], entry=nothing)
    messages, statuses = (decode(part.body).events for part in parts_of(body))
    assert [event.kind for event in messages] == [Kind.MESSAGE]
    assert [event.kind for event in statuses] == [Kind.DELIVERED]


def test_an_entry_without_changes_does_not_stop_the_others() -> None:
    top = json.loads(cloud_body({"messages": [message()], "statuses": [status()], "errors": None}))
    top["entry"].insert(0, {"id": "8", "changes": None})
    messages, statuses = (decode(part.body).events for part in parts_of(json.dumps(top).encode()))
    assert [event.kind for event in messages] == [Kind.MESSAGE]
    assert [event.kind for event in statuses] == [Kind.DELIVERED]


def test_without_a_duplicate_the_others_are_left() -> None:
    body = onprem_body([message("a"), message("b"), message("c")])
    events = decode(body).events
    (part,) = split(body, [events[0], events[2]], 3)
    assert json.loads(part.body) == {"messages": [message("a"), message("c")]}
    assert part.events == [events[0], events[2]]


def test_nothing_fresh_gives_no_part() -> None:
    body = onprem_body([message()])
    assert split(body, [], 1) == []


# -- any mix


_counter = itertools.count(1)
_EXTRA = st.dictionaries(
    st.sampled_from(["x", "timestamp", "y"]), st.integers() | st.text(max_size=3), max_size=2
)


@st.composite
def _values(draw: st.DrawFn) -> dict[str, Any]:
    """The arrays of one callback or change. Each item is unlike any other."""
    value: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(["contacts", "metadata", "q"]), _EXTRA, max_size=2)
    )
    names = st.sampled_from(["sent", "delivered", "read", "failed", "deleted"])
    for array in draw(st.permutations(ARRAYS)):
        items: list[dict[str, Any]] | None = []
        for _ in range(draw(st.integers(0, 3))):
            unique = f"i{next(_counter)}"
            match array:
                case "messages":
                    item = message(unique)
                case "statuses":
                    item = status(unique, draw(names))
                case _:
                    item = {"code": 1, "title": unique}
            assert items is not None
            items.append({**item, **draw(_EXTRA)})
        if not items:
            items = draw(st.sampled_from([None, []]))
            if draw(st.booleans()):
                continue
        value[array] = items
    return value


@st.composite
def _bodies(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        return draw(_values())
    entries = []
    for _ in range(draw(st.integers(1, 3))):
        changes = [
            {"field": "messages", "value": value, **draw(_EXTRA)}
            for value in draw(st.lists(_values(), max_size=3))
        ]
        if draw(st.booleans()):
            changes.insert(0, {"field": "account_update", "value": f"u{next(_counter)}"})
        entries.append({"id": str(next(_counter)), "changes": changes, **draw(_EXTRA)})
    return {"object": "whatsapp_business_account", "entry": entries, **draw(_EXTRA)}


def _item_bytes(body: bytes) -> list[bytes]:
    """Every item of every array, and every change without items, as the bytes in the body."""
    raw_list, raw_object = (
        msgspec.json.Decoder(list[msgspec.Raw]).decode,
        msgspec.json.Decoder(dict[str, msgspec.Raw]).decode,
    )

    def of_value(value: dict[str, msgspec.Raw]) -> list[bytes]:
        present = [value[array] for array in ARRAYS if array in value and bytes(value[array]) != b"null"]
        return [bytes(item) for items in present for item in raw_list(items)]

    top = raw_object(body)
    if "entry" not in top:
        return of_value(top)
    found = []
    for entry in raw_list(top["entry"]):
        for change in raw_list(raw_object(entry)["changes"]):
            fields = raw_object(change)
            items = of_value(raw_object(fields["value"])) if bytes(fields["field"]) == b'"messages"' else []
            found += items or [bytes(change)]
    return found


def _without_items(body: bytes) -> Any:
    """What a part must keep of the top: all but arrays and entries."""
    top = json.loads(body)
    return {key: value for key, value in top.items() if key not in (*ARRAYS, "entry")}


@settings(max_examples=200, deadline=None)
@given(top=_bodies(), data=st.data())
def test_parts_hold_each_fresh_item_exactly_once_with_its_bytes(
    top: dict[str, Any], data: st.DataObject
) -> None:
    body = json.dumps(top, separators=data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))).encode()
    webhook = decode(body)
    assume(webhook.is_recognised)  # else it is one event, and test_webhook.py has it
    events = webhook.events
    fresh: list[Event] = [event for event in events if data.draw(st.booleans()) or len(events) == 1]
    originals = _item_bytes(body)
    assert len(originals) == len(events)
    of_event = {event.place: item for event, item in zip(events, originals, strict=True)}
    parts = split(body, fresh, len(events))
    assert [event for part in parts for event in part.events] == sorted(
        fresh, key=lambda event: event.cls is not InboundClass.MESSAGE
    )
    for part in parts:
        assert _item_bytes(part.body) == [of_event[event.place] for event in part.events]
        assert _without_items(part.body) == _without_items(body)
        again = decode(part.body)
        assert [event.key for event in again.events] == [event.key for event in part.events]
        assert [event.kind for event in again.events] == [event.kind for event in part.events]
        assert part.cls == min(event.cls for event in part.events)


def test_the_mixed_bodies_of_the_payloads_are_split_without_loss() -> None:
    for file in ("onprem_mixed", "onprem_mixed_all", "cloud_multi_entry_mixed"):
        body = (PAYLOADS / f"{file}.json").read_bytes()
        parts = parts_of(body)
        assert len(parts) == 2
        items = [item for part in parts for item in _item_bytes(part.body)]
        assert sorted(items) == sorted(_item_bytes(body))

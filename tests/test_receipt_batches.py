"""Receipts put together into one body of the same wire shape, and the digest."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.receipts import Batch, Tally, digest_body
from gateway.dialects.webhook import Event, decode
from gateway.errors import NotJsonError
from gateway.events import InboundClass

PAYLOADS = Path(__file__).parent / "data" / "payloads"


def receipts_only(body: bytes) -> bool:
    try:
        events = decode(body).events
    except NotJsonError:
        return False
    return bool(events) and all(event.cls is InboundClass.RECEIPT for event in events)


BODIES = {
    path.name: body for path in sorted(PAYLOADS.glob("*.json")) if receipts_only(body := path.read_bytes())
}
ONPREM = {name: body for name, body in BODIES.items() if name.startswith("onprem")}
CLOUD = {name: body for name, body in BODIES.items() if name.startswith("cloud")}


def told(bodies: Iterable[bytes]) -> list[tuple[object, ...]]:
    """What bodies say, whatever the order and the places."""
    return sorted(_facts(event) for body in bodies for event in decode(body).events)


def _facts(event: Event) -> tuple[object, ...]:
    return event.key, event.kind, event.lane, event.message_id, event.participant, event.is_group


def statuses(body: bytes) -> list[Any]:
    """Every status object of a body, in order."""
    top = json.loads(body)
    if "statuses" in top:
        return list(top["statuses"])
    changes = [change for entry in top["entry"] for change in entry["changes"]]
    return [status for change in changes for status in change["value"]["statuses"]]


def test_there_are_bodies_of_both_dialects_to_try() -> None:
    assert len(ONPREM) >= 8
    assert len(CLOUD) >= 8


@pytest.mark.parametrize("bodies", [list(ONPREM.values()), list(CLOUD.values())], ids=["onprem", "cloud"])
@given(data=st.data())
def test_a_batch_says_all_that_its_bodies_said(bodies: list[bytes], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(bodies), min_size=1, max_size=12))
    batch = Batch()
    assert all(batch.add(body) for body in chosen)
    assert told([batch.body()]) == told(chosen)
    assert len(batch) == len(statuses(batch.body()))
    key = json.dumps
    assert sorted(map(key, statuses(batch.body()))) == sorted(
        key(status) for body in chosen for status in statuses(body)
    )


@pytest.mark.parametrize("name", sorted(ONPREM | CLOUD))
def test_only_what_is_wanted_goes_into_a_batch(name: str) -> None:
    events = decode(BODIES[name]).events
    batch = Batch()
    assert batch.add(BODIES[name], {events[-1].place})
    assert told([batch.body()]) == [_facts(events[-1])]


def test_statuses_of_one_number_come_in_one_change() -> None:
    batch = Batch()
    body = CLOUD["cloud_status_delivered.json"]
    for _ in range(3):
        assert batch.add(body)
    merged = json.loads(batch.body())
    original = json.loads(body)
    assert len(merged["entry"]) == len(merged["entry"][0]["changes"]) == 1
    original["entry"][0]["changes"][0]["value"]["statuses"] *= 3
    assert merged == original


def test_numbers_and_unknown_fields_keep_their_bytes() -> None:
    status = b'{"id":"a","status":"read","timestamp":"1","x":1.10,"big":12345678901234567890123}'
    batch = Batch()
    assert batch.add(b'{"statuses":[' + status + b"]}")
    assert batch.add(b'{"statuses":[' + status + b"]}")
    assert batch.body() == b'{"statuses":[' + status + b"," + status + b"]}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"statuses":[{"id":"a","status":"read"}],"contacts":[]}',
        b'{"statuses":[{"id":"a","status":"read"}],"errors":[]}',
        b'{"object":"whatsapp_business_account","entry":[{"changes":[{"value":{"messages":[],"statuses":[]}}]}]}',
        b'{"object":"whatsapp_business_account","entry":[{"changes":[{"value":{"x":1}}]}]}',
        b'{"object":"whatsapp_business_account","entry":[],"more":1}',
        b'{"statuses":{}}',
        b'{"statuses":[]',
        b'{"statuses":["\xff"]}',
    ],
)
def test_any_other_shape_goes_alone(body: bytes) -> None:
    batch = Batch()
    assert not batch.add(body)
    assert len(batch) == 0


def test_an_entry_without_changes_is_skipped() -> None:
    """`wire.Entry` lets it pass, and one such body must not end the process."""
    status = b'{"id":"w1","status":"read","recipient_id":"49"}'
    change = b'{"field":"messages","value":{"statuses":[' + status + b"]}}"
    body = (
        b'{"object":"whatsapp_business_account","entry":[{"id":"1"},{"id":"2","changes":[' + change + b"]}]}"
    )
    batch = Batch()
    assert batch.add(body)
    assert told([batch.body()]) == told([body])


def test_dialects_do_not_mix() -> None:
    batch = Batch()
    assert batch.add(ONPREM["onprem_status_read.json"])
    assert not batch.add(CLOUD["cloud_status_read.json"])
    assert told([batch.body()]) == told([ONPREM["onprem_status_read.json"]])


def test_a_digest_tells_totals_by_message() -> None:
    body = digest_body({"wamid.1": Tally("g-1", delivered=256, read=3, first_s=10, last_s=20)})
    assert orjson.loads(body) == {
        "gateway": {
            "receipts": [
                {"id": "wamid.1", "group_id": "g-1", "delivered": 256, "read": 3, "first": "10", "last": "20"}
            ]
        }
    }

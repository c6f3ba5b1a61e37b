"""What is told of sends: by our id, by WhatsApp's, and by batch, a page at a time."""

import json
from typing import Any

import pytest
from builders import CONTACT
from push_rig import PushRig

from gateway.outbound.answers import PushAnswer
from gateway.outbound.queries import Queries


def body_of(answer: PushAnswer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    body: dict[str, Any] = json.loads(answer.body)
    return body


async def test_the_whole_story_of_a_send_is_told() -> None:
    rig = PushRig()
    rig.queries = Queries(rig.store, rig.refusals, lambda node_id: {"id": node_id, "status": "read"})
    accepted_ms = rig.clock.wall_ms()
    send_id = await rig.pushed("high", X_Gateway_TTL="1m")
    waiting = body_of(await rig.queries.find(send_id))
    assert (waiting["state"], waiting["settled_ms"], waiting["receipts"]) == ("queued", None, None)
    rig.clock.advance_ns(2_000_000_000)
    record = rig.next()
    assert record is not None
    await rig.answered(record, "gBEGk/YiEB+VXAglK1=")
    expected = {
        "id": send_id, "state": "sent", "class": "high", "to": CONTACT, "batch_id": None,
        "accepted_ms": accepted_ms, "not_before_ms": None, "expires_ms": accepted_ms + 60_000,
        "settled_ms": accepted_ms + 2_000, "attempts": 1, "is_uncertain": False,
        "node_id": "gBEGk/YiEB+VXAglK1=", "reason": None,
        "receipts": {"id": "gBEGk/YiEB+VXAglK1=", "status": "read"},
    }  # fmt: skip
    assert body_of(await rig.queries.find(send_id)) == expected
    assert body_of(await rig.queries.find("gBEGk/YiEB+VXAglK1=")) == expected


@pytest.mark.parametrize("send_id", ["wa2", "", "gw-", "gw-0badcafe-77", "\udcff"])
async def test_what_nobody_knows_is_not_found(send_id: str) -> None:
    rig = PushRig()
    await rig.pushed()
    assert (await rig.queries.find(send_id)).status == 404


async def batch_id_of(rig: PushRig, count: int) -> str:
    answer = await rig.batch(*({"to": f"1555{n}", "type": "text"} for n in range(count)))
    batch_id: str = json.loads(answer.body)["batch_id"]
    return batch_id


async def test_a_batch_is_counted_by_state_and_told_page_by_page() -> None:
    rig = PushRig()
    await rig.pushed("reply")
    batch_id = await batch_id_of(rig, 5)
    await batch_id_of(rig, 2)
    for _ in range(3):
        record = rig.next()
        assert record is not None
        await rig.answered(record, f"wa-{record.seq}")
    await rig.changes.cancel(rig.store.send_id(6))
    pages, after = [], ""
    while True:
        body = body_of(await rig.queries.find_batch(batch_id, {"limit": "2", "after": after}))
        assert body["counts"] == {"sent": 2, "queued": 2, "cancelled": 1}
        if not body["messages"]:
            break
        pages.append([(message["id"], message["state"]) for message in body["messages"]])
        after = body["messages"][-1]["id"]
    states = ["sent", "sent", "queued", "queued", "cancelled"]
    told = [(rig.store.send_id(2 + at), state) for at, state in enumerate(states)]
    assert pages == [told[:2], told[2:4], told[4:]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 200), ({"limit": "1000"}, 200), ({"limit": "0"}, 400), ({"limit": "1001"}, 400), ({"limit": "x"}, 400),
        ({"after": "x"}, 400), ({"after": "gw-0badcafe-\u0661"}, 400), ({"limit": "9" * 30}, 400),
    ],
)  # fmt: skip
async def test_a_wrong_page_is_refused(query: dict[str, str], status: int) -> None:
    rig = PushRig()
    assert (await rig.queries.find_batch(await batch_id_of(rig, 1), query)).status == status


@pytest.mark.parametrize("batch_id", ["", "gwb-0badcafe-9", "x"])
async def test_a_batch_that_is_none_is_not_found(batch_id: str) -> None:
    rig = PushRig()
    await rig.pushed()
    assert (await rig.queries.find_batch(batch_id, {})).status == 404


async def test_where_the_disk_has_failed_nothing_is_known_and_that_is_said() -> None:
    """Found by seed 421 of test_whole_seeds.py: the answer was 500."""
    rig = PushRig()
    batch_id = await batch_id_of(rig, 1)
    rig.store.fail()
    assert (await rig.queries.find("gw-0badcafe-1")).status == 503
    assert (await rig.queries.find_batch(batch_id, {})).status == 503

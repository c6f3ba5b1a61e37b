"""A batch: one request, one id, an answer for each message, and all that are right stored by one change."""

import asyncio
import json
from typing import Any

import pytest
from builders import CONTACT, turns
from push_rig import PushRig

from gateway.errors import StoreError
from gateway.events import Kind, OnUncertain, SendClass
from gateway.outbound.answers import PushAnswer
from gateway.outbound.batches import BATCH_MAX


def text(to: str = CONTACT, **fields: Any) -> dict[str, Any]:
    return {"to": to, "type": "text", "text": {"body": "hi"}, **fields}


def told(answer: PushAnswer, status: int = 202) -> list[dict[str, Any]]:
    assert answer.status == status, answer.body
    messages: list[dict[str, Any]] = json.loads(answer.body)["messages"]
    return messages


async def test_all_messages_are_stored_by_one_change_under_one_id() -> None:
    rig = PushRig(holds_commits=True)
    pushing = asyncio.create_task(rig.batch(text("1"), text("2"), text("3")))
    await turns()
    assert len(rig.store._submitted) == 1
    rig.store.commit()
    answer = await pushing
    ids = [message["id"] for message in told(answer)]
    assert ids == [rig.store.send_id(seq) for seq in (1, 2, 3)]
    assert {record.batch for record in rig.store.disk.sends.values()} == {json.loads(answer.body)["batch_id"]}
    assert (rig.queue.total(), rig.books.accepted[Kind.SEND], rig.difference()) == (3, 3, 0)


async def test_headers_hold_for_all_and_a_message_s_own_options_before_them() -> None:
    rig = PushRig()
    own = {"priority": "reply", "ttl": 60, "receipts": "none", "uncertain": "park"}
    await rig.batch(text("1"), text("2", gateway=own), X_Gateway_Priority="bulk", X_Gateway_TTL="10m")
    first, second = rig.store.disk.sends.values()
    now_ms = rig.clock.wall_ms()
    assert (first.cls, first.expires_ms - now_ms) == (SendClass.BULK, 600_000)
    assert (second.cls, second.expires_ms - now_ms, second.mask) == (SendClass.REPLY, 60_000, 1)
    assert (first.on_uncertain, second.on_uncertain) == (OnUncertain.RESEND, OnUncertain.PARK)


async def test_our_field_is_taken_out_and_the_rest_stays_as_it_is() -> None:
    """Numbers beyond 64 bits too: only the field is touched."""
    rig = PushRig()
    raw = b'{"messages": [{"to":"1", "n": 123456789012345678901234567890,"gateway": {"priority":"high"}},  {"to" :"2"} ]}'
    await rig.batches.accept(raw, {})
    assert [record.body for record in rig.store.disk.sends.values()] == [
        b'{"to":"1","n":123456789012345678901234567890}',
        b'{"to" :"2"}',
    ]


async def test_a_wrong_message_is_told_and_the_others_are_taken() -> None:
    rig = PushRig()
    wrong = [
        {},
        7,
        text(gateway=1),
        text(gateway={"color": "red"}),
        text(gateway={"ttl": True}),
        text(gateway={"ttl": "0"}),
    ]
    answers = told(await rig.batch(text("1"), *wrong, text("2")))
    assert ["error" in answer for answer in answers] == [False] + [True] * 6 + [False]
    assert all(answer["error"]["status"] == 400 for answer in answers[1:-1])
    assert "'color'" in answers[4]["error"]["details"]
    assert len(rig.store.disk.sends) == 2
    assert rig.refusals.counts == {"invalid": 6}


async def test_a_batch_with_nothing_right_is_refused_with_what_is_wrong_with_each() -> None:
    rig = PushRig()
    answers = told(await rig.batch({}, 7), 400)
    assert len(answers) == 2
    assert rig.store.disk.sends == {}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"messages": 1}', b'{"messages": []}', b"\xff", b'{"messages": {}}']
)
async def test_what_is_no_batch_is_refused(body: bytes) -> None:
    assert (await PushRig().batches.accept(body, {})).status == 400


async def test_takes_a_thousand_and_no_more() -> None:
    rig = PushRig(queue_max=5_000)
    assert (await rig.batch(*[text()] * (BATCH_MAX + 1))).status == 400
    assert len(told(await rig.batch(*[text()] * BATCH_MAX))) == BATCH_MAX


async def test_a_batch_that_does_not_fit_is_refused_whole() -> None:
    rig = PushRig(queue_max=3)
    await rig.pushed()
    answer = await rig.batch(text(), text(), text())
    assert (answer.status, rig.queue.total()) == (429, 1)
    assert "Retry-After" in answer.headers
    assert len(told(await rig.batch(text(), text()))) == 2


async def test_what_is_there_already_needs_no_room() -> None:
    rig = PushRig(queue_max=2)
    first, second = (text(gateway={"idempotency_key": key}) for key in "ab")
    ids = [message["id"] for message in told(await rig.batch(first, second))]
    assert [message["id"] for message in told(await rig.batch(first, second))] == ids
    assert (await rig.batch(first, second, text())).status == 429


async def test_positions_count_those_of_the_batch_that_go_before() -> None:
    rig = PushRig()
    await rig.pushed("high")
    answers = told(
        await rig.batch(
            text(), text(gateway={"priority": "bulk"}), text(), text(gateway={"priority": "high"})
        )
    )
    assert [answer["position"] for answer in answers] == [1, 2, 2, 1]


async def test_the_same_batch_with_the_same_key_is_answered_the_same() -> None:
    rig = PushRig()
    answers = [await rig.batch(text(), {}, Idempotency_Key="k") for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert len(rig.store.disk.sends) == 1
    assert (await rig.batch(text(), Idempotency_Key="k")).status == 409
    assert (await rig.push(Idempotency_Key="k")).status == 409


async def test_a_message_s_own_key_is_as_that_of_a_single_push() -> None:
    rig = PushRig()
    one = text(gateway={"idempotency_key": "k"})
    (first,) = told(await rig.batch(one))
    again, other, new = told(
        await rig.batch(
            one, text("9", gateway={"idempotency_key": "k"}), text(gateway={"idempotency_key": "n"})
        )
    )
    assert again["id"] == first["id"]
    assert other["error"]["status"] == 409
    assert new["id"] != first["id"]
    (alone,) = told(await rig.batch(one))
    assert alone["id"] == first["id"]
    assert len(rig.store.disk.sends) == 2


async def test_a_key_twice_in_a_batch_is_one_send() -> None:
    rig = PushRig()
    one = text(gateway={"idempotency_key": "k"})
    first, second, other = told(await rig.batch(one, one, text("9", gateway={"idempotency_key": "k"})))
    assert first["id"] == second["id"]
    assert other["error"]["status"] == 409
    assert len(rig.store.disk.sends) == 1


async def test_batches_that_share_keys_wait_for_each_other_and_none_for_ever() -> None:
    rig = PushRig(queue_max=100, holds_commits=True)
    messages = [text(gateway={"idempotency_key": key}) for key in "abc"]
    tasks = [asyncio.create_task(rig.batch(*messages)), asyncio.create_task(rig.batch(*reversed(messages)))]
    for _ in range(4):
        await turns(20)
        rig.store.commit()
    first, second = [[answer["id"] for answer in told(await task)] for task in tasks]
    assert first == second[::-1]
    assert len(rig.store.disk.sends) == 3


async def test_a_failed_disk_is_told() -> None:
    rig = PushRig(holds_commits=True)
    pushing = asyncio.create_task(rig.batch(text()))
    await turns()
    rig.store.fail(StoreError("the disk is ill"))
    assert (await pushing).status == 503
    assert (rig.queue.total(), rig.books.accepted[Kind.SEND]) == (0, 0)

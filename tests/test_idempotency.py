"""Idempotency-Key: the same answer for the same request, 409 for another, and one send whatever comes when."""

import asyncio
import json

import pytest
from builders import push_body, turns
from push_rig import AGE_MS, PushRig

from gateway.clock import NS_PER_MS
from gateway.errors import StoreError
from gateway.events import Kind
from gateway.outbound.answers import PushAnswer


def id_of(answer: PushAnswer) -> str:
    assert answer.status == 202, answer.body
    send_id: str = json.loads(answer.body)["messages"][0]["id"]
    return send_id


async def test_the_same_request_is_answered_as_the_first_time_and_stored_once() -> None:
    rig = PushRig()
    first, second = [await rig.push(Idempotency_Key="k") for _ in range(2)]
    assert (second.status, second.body) == (first.status, first.body)
    assert len(rig.store.disk.sends) == 1
    assert rig.books.accepted[Kind.SEND] == 1


async def test_it_is_answered_so_after_the_send_has_ended_and_after_a_restart() -> None:
    rig = PushRig()
    first = id_of(await rig.push(Idempotency_Key="k"))
    record = rig.next()
    assert record is not None
    await rig.answered(record)
    assert id_of(await rig.push(Idempotency_Key="k")) == first
    again = PushRig(disk=rig.store.disk)
    assert id_of(await again.push(Idempotency_Key="k")) == first
    assert again.queue.total() == 0


@pytest.mark.parametrize("change", ["body", "priority", "ttl"])
async def test_another_request_with_the_key_is_refused(change: str) -> None:
    rig = PushRig()
    await rig.push(Idempotency_Key="k")
    body = push_body("15550100112") if change == "body" else None
    headers = {"X_Gateway_TTL": "5m"} if change == "ttl" else {}
    priority = "bulk" if change == "priority" else None
    answer = await rig.push(body, priority, Idempotency_Key="k", **headers)
    assert answer.status == 409
    assert len(rig.store.disk.sends) == 1
    assert rig.refusals.counts == {"key_used": 1}


async def test_how_long_the_answer_waits_is_not_part_of_the_request() -> None:
    rig = PushRig()
    first = id_of(await rig.push(Idempotency_Key="k"))
    assert id_of(await rig.push(Idempotency_Key="k", Prefer="wait=0")) == first


async def test_a_time_that_has_passed_meanwhile_makes_no_other_request() -> None:
    rig = PushRig()
    not_before = str(rig.clock.wall_ms() // 1000 + 10)
    first = id_of(await rig.push(Idempotency_Key="k", X_Gateway_Not_Before=not_before))
    rig.clock.advance_ns(60_000 * NS_PER_MS)
    assert id_of(await rig.push(Idempotency_Key="k", X_Gateway_Not_Before=not_before)) == first


async def test_a_request_that_comes_while_the_first_is_stored_waits_for_it() -> None:
    rig = PushRig(holds_commits=True)
    same = [asyncio.create_task(rig.push(Idempotency_Key="k")) for _ in range(3)]
    other = asyncio.create_task(rig.push(push_body("15550100112"), Idempotency_Key="k"))
    free = asyncio.create_task(rig.push(Idempotency_Key="other"))
    await turns(30)
    assert not any(task.done() for task in (*same, other))
    rig.store.commit()
    await turns(50)
    assert len({id_of(await task) for task in same}) == 1
    assert (await other).status == 409
    await free
    assert sorted(rig.store.disk.keys) == ["k", "other"]
    assert len(rig.store.disk.sends) == 2
    assert rig.keys.held() == 0


async def test_a_refused_request_leaves_its_key_free() -> None:
    rig = PushRig(queue_max=1)
    assert (await rig.push(b"{}", Idempotency_Key="k")).status == 400
    other = await rig.pushed()
    assert (await rig.push(Idempotency_Key="k")).status == 429
    await rig.changes.cancel(other)
    assert (await rig.push(Idempotency_Key="k")).status == 202
    assert rig.keys.held() == 0


async def test_a_request_that_is_cancelled_lets_the_next_one_try() -> None:
    """Its send may be stored all the same; then the next one is answered with it."""
    rig = PushRig(holds_commits=True)
    first = asyncio.create_task(rig.push(Idempotency_Key="k"))
    await turns(30)
    first.cancel()
    await turns()
    rig.store.commit()
    assert id_of(await rig.push(Idempotency_Key="k")) == rig.store.send_id(1)
    assert len(rig.store.disk.sends) == 1


async def test_when_the_disk_fails_all_that_wait_are_told() -> None:
    rig = PushRig(holds_commits=True)
    tasks = [asyncio.create_task(rig.push(Idempotency_Key="k")) for _ in range(3)]
    await turns(30)
    rig.store.fail(StoreError("the disk is ill"))
    assert [(await task).status for task in tasks] == [503] * 3
    assert rig.keys.held() == 0


async def test_a_key_is_forgotten_after_its_age_and_not_before() -> None:
    rig = PushRig()
    first = id_of(await rig.push(Idempotency_Key="k"))
    rig.clock.advance_ns((AGE_MS - 1) * NS_PER_MS)
    assert id_of(await rig.push(Idempotency_Key="k")) == first
    rig.clock.advance_ns(NS_PER_MS)
    second = id_of(await rig.push(Idempotency_Key="k"))
    assert second != first
    assert id_of(await rig.push(Idempotency_Key="k")) == second

"""Where a send stands and when it will go; and that one which would wait too long is refused at once."""

import json
import math

import pytest
from push_rig import PushRig, error_of

from gateway.events import SendClass
from gateway.outbound.answers import PushAnswer


def place_of(answer: PushAnswer) -> tuple[int | None, float | None]:
    assert answer.status == 202, answer.body
    place = json.loads(answer.body)["gateway"]
    return place["position"], place["eta_s"]


async def test_those_of_its_class_and_above_are_before_it_wherever_they_wait() -> None:
    rig = PushRig(queue_max=100, slots=4, sends_per_s=2.0)
    assert place_of(await rig.push()) == (0, 0.0)
    for _ in range(9):
        await rig.pushed()
    assert place_of(await rig.push()) == (10, 5.0)
    assert place_of(await rig.push(priority="reply")) == (0, 0.0)
    assert place_of(await rig.push(priority="bulk")) == (12, 6.0)
    assert place_of(await rig.push(priority="high")) == (1, 0.5)
    record = rig.next()
    assert record is not None
    assert record.cls is SendClass.REPLY
    assert place_of(await rig.push(priority="reply")) == (1, 0.5)
    await rig.answered(record)
    assert place_of(await rig.push(priority="reply")) == (1, 0.5)


async def test_a_pause_comes_on_top() -> None:
    rig = PushRig()
    rig.waits.paused_ms = lambda cls: 90_000 if cls is SendClass.BULK else 1_500
    assert place_of(await rig.push()) == (0, 1.5)
    assert place_of(await rig.push(priority="bulk")) == (1, 91.0)


async def test_what_never_goes_as_things_are_has_no_time() -> None:
    rig = PushRig(sends_per_s=0.0)
    await rig.pushed()
    assert place_of(await rig.push()) == (1, None)


async def test_what_costs_nothing_goes_at_once() -> None:
    rig = PushRig(sends_per_s=math.inf)
    await rig.pushed()
    assert place_of(await rig.push()) == (1, 0.0)


async def test_a_send_that_would_expire_is_refused_with_when_to_come_back() -> None:
    rig = PushRig(queue_max=100)
    for _ in range(10):
        await rig.pushed()
    answer = await rig.push(X_Gateway_TTL="9999ms")
    assert error_of(answer, rig.dialect)[0] == 429
    assert answer.headers["Retry-After"] == "1"
    assert (await rig.push(X_Gateway_TTL="4s")).headers["Retry-After"] == "6"
    assert rig.refusals.counts == {"wait": 2}
    assert rig.queue.total() == 10
    assert place_of(await rig.push(X_Gateway_TTL="10s")) == (10, 10.0)


async def test_a_wait_beyond_the_bound_is_refused() -> None:
    rig = PushRig(queue_max=100, wait_max_ms=3_000)
    for _ in range(4):
        await rig.pushed()
    answer = await rig.push()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert b"GATEWAY_SEND_WAIT_MAX" in answer.body
    assert (await rig.push(priority="high")).status == 202


@pytest.mark.parametrize("ttl", ["10s", "30d"])
async def test_what_never_goes_is_refused_where_there_is_a_bound(ttl: str) -> None:
    rig = PushRig(sends_per_s=0.0)
    await rig.pushed()
    answer = await rig.push(X_Gateway_TTL=ttl)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "60")


async def test_a_scheduled_send_is_not_measured_by_what_waits_now() -> None:
    rig = PushRig(queue_max=100, wait_max_ms=1_000)
    for _ in range(2):
        await rig.pushed()
    at_s = rig.clock.wall_ms() // 1000 + 60
    assert place_of(await rig.push(X_Gateway_Not_Before=str(at_s), X_Gateway_TTL="1s")) == (None, 60.0)

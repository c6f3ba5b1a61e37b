"""Coreapp's callbacks: what they carry, how often they are tried, how many are in flight."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.clock import NS_PER_MS
from gateway.events import Kind
from gateway.sim.callbackqueue import CallbackQueue, Delivery
from gateway.sim.faults import Faults
from gateway.sim.journal import Callback
from gateway.sim.node import SimNode
from gateway.sim.receipts import ReceiptModel
from gateway.sim.serving import Server
from gateway.sim.settings import Settings

QUICK = ReceiptModel(delivered_ratio=1.0, read_ratio=1.0, time_scale=0.001)


class Hook:
    """A webhook that records every body, answers by a script (then 200), and can hold its answers back."""

    def __init__(self, *statuses: int) -> None:
        self.bodies: list[Any] = []
        self.held = 0
        self.held_max = 0
        self.door = asyncio.Event()
        self.door.set()
        self._statuses = list(statuses)
        self._changed = asyncio.Condition()
        self.server = Server(self._make_app)

    def _make_app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/", self._take)])
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.held += 1
        self.held_max = max(self.held_max, self.held)
        async with self._changed:
            self.bodies.append(body)
            self._changed.notify_all()
        await self.door.wait()
        self.held -= 1
        return web.Response(status=self._statuses.pop(0) if self._statuses else 200)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    def statuses(self) -> list[tuple[str, str]]:
        return [(s["status"], s["recipient_id"]) for body in self.bodies for s in body.get("statuses", ())]


@asynccontextmanager
async def hooked(node: SimNode, *statuses: int) -> AsyncIterator[Hook]:
    hook = Hook(*statuses)
    await hook.server.start()
    try:
        async with node:
            node.set_webhook(hook.server.url + "/")
            yield hook
    finally:
        await hook.server.stop()


async def test_a_message_arrives_in_the_shape_of_the_client() -> None:
    node = SimNode(tps=1000)
    async with hooked(node) as hook:
        id_ = node.receive_text("15550100111", "hello")
        await hook.wait_for(lambda: len(hook.bodies) == 1)
    (body,) = hook.bodies
    assert body["contacts"] == [{"profile": {"name": "Customer 0111"}, "wa_id": "15550100111"}]
    message = body["messages"][0]
    assert (message["id"], message["from"], message["type"]) == (id_, "15550100111", "text")
    assert message["text"] == {"body": "hello"}
    assert message["timestamp"].isdecimal()


async def test_a_callback_that_was_begun_goes_where_the_webhook_was() -> None:
    """Switched off between the moment it was taken and the moment it is sent."""
    node = SimNode(tps=1000)
    async with hooked(node) as hook:
        node.receive_text("15550100111", "hello")
        async with asyncio.timeout(10):
            while not node.coreapp.in_flight:
                await asyncio.sleep(0)
        node.set_webhook("")
        await hook.wait_for(lambda: len(hook.bodies) == 1)
    assert node.journal.bad_attempts == []


async def test_any_content_can_be_received_in_a_group_too() -> None:
    node = SimNode(tps=1000)
    image = {"type": "image", "image": {"id": "m1", "mime_type": "image/png", "sha256": "0" * 64}}
    async with hooked(node) as hook:
        node.receive("15550100111", image, group="1-2")
        await hook.wait_for(lambda: len(hook.bodies) == 1)
    message = hook.bodies[0]["messages"][0]
    assert (message["type"], message["image"], message["group_id"]) == ("image", image["image"], "1-2")


async def test_a_send_brings_sent_delivered_and_read() -> None:
    node = SimNode(tps=1000, receipts=QUICK)
    async with hooked(node) as hook:
        node._try_send("15550100111", False, "hi")
        await hook.wait_for(lambda: len(hook.bodies) == 3)
    assert sorted(hook.statuses()) == [(name, "15550100111") for name in ("delivered", "read", "sent")]


async def test_a_group_send_brings_receipts_of_each_member_and_one_sent() -> None:
    node = SimNode(tps=1000, receipts=QUICK)
    async with hooked(node) as hook:
        group = node.create_group(20)
        node._try_send(group, True, "hi all")
        await hook.wait_for(lambda: len(hook.statuses()) == 41)
    members = node.groups.members(group) or ()
    assert sorted(hook.statuses()) == sorted(
        [("sent", group)] + [(name, member) for name in ("delivered", "read") for member in members]
    )


async def test_switched_off_receipts_never_come() -> None:
    node = SimNode(tps=1000, receipts=QUICK)
    node.settings.patch({"webhooks": {"message": {"sent": False, "read": False}}})
    async with hooked(node) as hook:
        node._try_send("15550100111", False, "hi")
        await hook.wait_for(lambda: len(hook.bodies) == 1)
        node.receive_text("15550100111", "after")
        await hook.wait_for(lambda: len(hook.bodies) == 2)
        assert hook.statuses() == [("delivered", "15550100111")]


async def test_a_callback_is_retried_until_200_and_only_200() -> None:
    node = SimNode(tps=1000, time_scale=0.001)
    async with hooked(node, 500, 202, 302, 404) as hook:
        node.receive_text("15550100111", "hello")
        await hook.wait_for(lambda: len(hook.bodies) == 5)
    assert all(body == hook.bodies[0] for body in hook.bodies)
    assert [attempt.reason for attempt in node.journal.bad_attempts] == ["500", "202", "302", "404"]


async def test_a_webhook_that_does_not_answer_is_a_timeout_and_tried_again() -> None:
    node = SimNode(tps=1000, time_scale=0.001, callback_timeout_s=0.05)
    async with hooked(node) as hook:
        hook.door.clear()
        node.receive_text("15550100111", "hello")
        await hook.wait_for(lambda: len(hook.bodies) >= 2)
        hook.door.set()
    assert node.journal.bad_attempts[0].reason == "timeout"


@pytest.mark.parametrize("limit", [6, 18])
async def test_never_more_in_flight_than_the_setting(limit: int) -> None:
    node = SimNode(tps=1000)
    node.settings.patch({"webhooks": {"max_concurrent_requests": limit}})
    async with hooked(node) as hook:
        hook.door.clear()
        for n in range(40):
            node.receive_text("15550100111", str(n))
        await hook.wait_for(lambda: len(hook.bodies) == limit)
        hook.door.set()
        await hook.wait_for(lambda: len(hook.bodies) == 40)
    assert hook.held_max == node.journal.in_flight_max == limit


async def test_duplicates_repeat_the_same_callback_once() -> None:
    node = SimNode(tps=1000)
    node.faults.duplicate_ratio = 1.0
    async with hooked(node) as hook:
        node.receive_text("15550100111", "hello")
        await hook.wait_for(lambda: len(hook.bodies) == 2)
        assert hook.bodies[0] == hook.bodies[1]
        assert len(node.coreapp.queue) == 0


async def test_an_error_of_the_client_is_told() -> None:
    node = SimNode()
    async with hooked(node) as hook:
        node.report_error(1014, "Internal error", "Connection timed out")
        await hook.wait_for(lambda: len(hook.bodies) == 1)
    assert hook.bodies[0]["errors"][0]["code"] == 1014


def make_queue(faults: Faults | None = None, queue_max: int = 100, time_scale: float = 1.0) -> CallbackQueue:
    return CallbackQueue(
        Settings(), faults or Faults(), random.Random(3), queue_max=queue_max, time_scale=time_scale
    )


def make_callback(n: int, kind: Kind = Kind.MESSAGE) -> Callback:
    return Callback(kind, str(n), "15550100111", {"id": str(n)})


def test_the_back_off_is_linear_and_capped() -> None:
    queue = make_queue()
    delays_ms = []
    for attempts in (1, 2, 3, 300, 1000):
        queue.put_back(Delivery([make_callback(1)], attempts), 0)
        delays_ms.append((queue.next_ns() or 0) // NS_PER_MS)
        queue.take(queue.next_ns() or 0)
    assert delays_ms == [3000, 6000, 9000, 900_000, 900_000]


def test_a_retry_is_not_due_a_nanosecond_early() -> None:
    queue = make_queue(time_scale=0.001)
    queue.put_back(Delivery([make_callback(1)], 1), 0)
    assert queue.take(3 * NS_PER_MS - 1) is None
    assert queue.take(3 * NS_PER_MS) is not None


def test_a_full_queue_takes_no_more_but_retries_come_back() -> None:
    queue = make_queue(queue_max=1)
    assert queue.try_put(make_callback(1))
    assert not queue.try_put(make_callback(2))
    delivery = queue.take(0)
    assert delivery is not None
    assert queue.try_put(make_callback(3))
    queue.put_back(delivery, 0)
    assert len(queue) == 2


def test_reordering_stays_inside_its_window_and_loses_nothing() -> None:
    queue = make_queue(Faults(reorder_window=4))
    for n in range(50):
        queue.try_put(make_callback(n))
    order = [int(delivery.callbacks[0].id) for delivery in iter(lambda: queue.take(0), None)]
    assert sorted(order) == list(range(50))
    assert order != sorted(order)
    assert all(order.index(n) >= n - 3 for n in range(50)), "nothing comes more than three places early"


def test_a_batch_holds_one_type_up_to_its_size() -> None:
    queue = make_queue(Faults(batch_max=3))
    kinds = [Kind.READ, Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.MESSAGE, Kind.MESSAGE]
    for n, kind in enumerate(kinds):
        queue.try_put(make_callback(n, kind))
    sizes = [len(delivery.callbacks) for delivery in iter(lambda: queue.take(0), None)]
    assert sizes == [3, 1, 2]

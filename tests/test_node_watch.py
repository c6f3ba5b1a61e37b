"""The node's callback queue closes the loop: too much waiting there lowers the ceiling."""

from pathlib import Path

import pytest
from conftest import PAYLOADS
from harness import RecordingBackend, running_gateway

from gateway.http.client import Response
from gateway.node.client import _callback_queue
from gateway.node.watch import QUEUE_S, NodeWatch
from gateway.sim.node import SimNode


class FakeNode:
    def __init__(self, size: int | None) -> None:
        self.size = size

    async def callback_queue(self) -> int | None:
        return self.size


@pytest.mark.parametrize(
    ("size", "lowered"), [(None, 0), (0, 0), (20 * QUEUE_S, 0), (20 * QUEUE_S + 1, 1), (100_000, 1)]
)
async def test_a_look_lowers_the_ceiling_only_when_seconds_of_the_plan_wait(
    size: int | None, lowered: int
) -> None:
    calls: list[str] = []
    watch = NodeWatch(FakeNode(size), lambda: 20, lambda: calls.append("slow down"))
    await watch.look()
    assert len(calls) == lowered
    assert watch.callback_queue == size


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, (PAYLOADS / "api_onprem_stats_app.json").read_bytes(), 450),
        (200, b'{"stats":{"app":{"callback_queue_size":{"data":[{"value":3},{"value":4}]}}}}', 7),
        (200, b'{"stats":{"app":{}}}', None),
        (200, b"[]", None),
        (404, (PAYLOADS / "api_onprem_stats_app.json").read_bytes(), None),
    ],
)
def test_the_queue_is_read_from_the_nodes_statistics(status: int, body: bytes, expected: int | None) -> None:
    assert _callback_queue(Response(status, {}, body)) == expected


async def test_the_simulated_node_is_asked_over_http(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), SimNode(tps=20, seed=1, user="admin", password="a-password") as node:
        variables = {"NODE_URL": node.url, "NODE_USER": "admin", "NODE_PASSWORD": "a-password"}
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            watch = gateway.gateway.parts.watch
            assert watch is not None
            await gateway.gateway.parts.node.login()
            await watch.look()
            assert watch.callback_queue == 0
            assert (await gateway.metrics())["gateway_node_callback_queue"] == 0

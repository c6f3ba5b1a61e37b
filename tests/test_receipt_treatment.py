"""What policies make of receipts, through a whole gateway: a backend that knows no digests, and a wait that was asked for."""

import json
from pathlib import Path

from aiohttp import web
from builders import GROUP, onprem_body, status
from harness import TOKEN, RecordingBackend, running_gateway

from gateway.clock import SystemClock


class SteppedClock(SystemClock):
    """The machine's clocks, and a wall clock that a test puts forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


async def test_a_backend_that_refuses_digests_gets_the_receipts_as_they_came(tmp_path: Path) -> None:
    """They were parked, though no body of the node's had ever been refused."""
    backend = RecordingBackend()

    async def refuse_digests(body: bytes) -> web.Response:
        return web.Response(status=400 if "gateway" in json.loads(body) else 200)

    backend.answer = refuse_digests
    async with backend.serving(), running_gateway(tmp_path, backend.port, RECEIPTS_GROUP="digest") as gateway:
        bodies = [
            onprem_body(statuses=[{**status("m1", "read", f"4930{n}"), "group_id": GROUP}]) for n in range(5)
        ]
        for together in (bodies[:1], bodies[1:]):
            for body in together:
                assert await gateway.webhook(body) == 200
            metrics = await gateway.settle()
    assert sorted(backend.events) == sorted(bodies)
    assert metrics['gateway_outcome_total{kind="read",outcome="delivered"}'] == 5
    assert metrics['gateway_forwards_total{destination="event",verdict="park"}'] >= 1


async def test_a_receipt_that_waits_as_long_as_it_was_asked_to_presses_nobody(tmp_path: Path) -> None:
    """It pressed the ladder off its lowest rung, and there nothing waits for company: delays beyond 450 ms never came about."""
    backend = RecordingBackend()
    variables = {"RECEIPTS_READ": "batch", "BATCH_DELAY": "1m", "BACKEND_BACKOFF_MAX": "1m"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        inbound = gateway.gateway.parts.inbound
        assert await gateway.webhook(onprem_body(statuses=[status("m1", "read")])) == 200
        inbound._clock = clock = SteppedClock()
        for ahead_ms, is_pressed in ((59_000, False), (75_000, True)):
            clock.ahead_ms = ahead_ms
            assert (inbound._look(0.0).receipt_wait_ms > 0) == is_pressed, ahead_ms


async def test_receipts_are_found_by_ids_with_slashes(tmp_path: Path) -> None:
    """WhatsApp's ids are base64, and few clients escape a path as they should."""
    backend = RecordingBackend()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        assert await gateway.webhook(onprem_body(statuses=[status("wamid.a/b+c==", "read")])) == 200
        for path in ("wamid.a/b+c==", "wamid.a%2Fb%2Bc=="):
            url = f"{gateway.ingest}/v1/receipts/{path}"
            async with gateway.session.get(url, headers=headers) as answer:
                assert (await answer.json())["status"] == "read"

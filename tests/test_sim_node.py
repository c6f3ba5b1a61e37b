"""The simulated node's WebApp over real HTTP: login, errors, limits, settings, statistics."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gateway.clock import NS_PER_S, FakeClock
from gateway.sim.node import SimNode
from gateway.sim.ratelimit import RateLimit
from gateway.sim.settings import Settings
from gateway.sim.tokens import LIFETIME_MS

BASIC = {"Authorization": "Basic " + base64.b64encode(b"admin:secret-of-the-sim").decode()}
TEXT = {"to": "15550100111", "type": "text", "text": {"body": "hi"}}


class Client:
    """A logged in client of the WebApp."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.headers: dict[str, str] = {}

    async def login(self) -> dict[str, Any]:
        async with self.session.post(self.url + "/v1/users/login", headers=BASIC) as response:
            body: dict[str, Any] = await response.json()
        self.headers = {"Authorization": "Bearer " + body["users"][0]["token"]}
        return body

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, headers=self.headers, **kwargs) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else raw

    async def send(self, **fields: Any) -> tuple[int, Any]:
        return await self.call("POST", "/v1/messages", json=TEXT | fields)


@asynccontextmanager
async def logged_in(node: SimNode) -> AsyncIterator[Client]:
    async with node, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        client = Client(session, node.url)
        await client.login()
        yield client


def code(answer: tuple[int, Any]) -> tuple[int, int]:
    """HTTP status and the first error's code."""
    return answer[0], answer[1]["errors"][0]["code"]


async def test_login_gives_a_token_for_seven_days() -> None:
    clock = FakeClock(wall_ms=1_700_000_000_000)
    async with logged_in(SimNode(clock=clock)) as client:
        user = (await client.login())["users"][0]
        assert user["expires_after"] == "2023-11-21 22:13:20+00:00"
        assert (await client.call("GET", "/v1/health"))[0] == 200
        clock.advance_ns(LIFETIME_MS * 1_000_000)
        assert code(await client.call("GET", "/v1/health")) == (401, 1005)


async def test_wrong_password_and_missing_token_answer_1005() -> None:
    async with logged_in(SimNode()) as client:
        client.headers = {"Authorization": "Basic " + base64.b64encode(b"admin:guess").decode()}
        assert code(await client.call("POST", "/v1/users/login")) == (401, 1005)
        client.headers = {}
        assert code(await client.send()) == (401, 1005)


async def test_expired_tokens_answer_401_until_the_next_login() -> None:
    node = SimNode()
    async with logged_in(node) as client:
        node.expire_tokens()
        assert code(await client.send()) == (401, 1005)
        await client.login()
        assert (await client.send())[0] == 201


async def test_logout_ends_the_token() -> None:
    async with logged_in(SimNode()) as client:
        assert (await client.call("POST", "/v1/users/logout"))[0] == 200
        assert code(await client.send()) == (401, 1005)


async def test_a_send_answers_201_with_id_and_contact_and_is_in_the_journal() -> None:
    node = SimNode()
    async with logged_in(node) as client:
        status, body = await client.send()
    assert status == 201
    (entry,) = node.journal.sends
    assert body["messages"] == [{"id": entry.id}]
    assert entry.id.startswith("gBEG")
    assert body["contacts"] == [{"input": "15550100111", "wa_id": "15550100111"}]
    assert (entry.to, entry.text, entry.members) == ("15550100111", "hi", 1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": {"body": "x" * 4096}}, 201),
        ({"text": {"body": "x" * 4097}}, (400, 1001)),
        ({"text": {}}, (400, 1008)),
        ({"text": {"body": ""}}, (400, 1009)),
        ({"to": ""}, (400, 1009)),
        ({"type": "carrier pigeon"}, (400, 1009)),
        ({"type": "image"}, (400, 1008)),
        ({"recipient_type": "planet"}, (400, 1009)),
        ({"recipient_type": "group", "to": "1-2"}, (404, 1006)),
    ],
)
async def test_checks_the_body_of_a_send(fields: dict[str, Any], expected: Any) -> None:
    async with logged_in(SimNode()) as client:
        answer = await client.send(**fields)
        assert (answer[0] if answer[0] == 201 else code(answer)) == expected


async def test_a_body_without_recipient_or_that_is_not_json_is_refused() -> None:
    async with logged_in(SimNode()) as client:
        assert code(await client.call("POST", "/v1/messages", json={"type": "text"})) == (400, 1008)
        assert code(await client.call("POST", "/v1/messages", data=b"{")) == (400, 1009)


@pytest.mark.parametrize(
    ("switch", "value", "expected"),
    [
        ("is_throttled", True, (429, 1015)),
        ("is_overloaded", True, (503, 1016)),
        ("is_spam_restricted", True, (403, 471)),
        ("error_ratio", 1.0, (500, 1000)),
    ],
)
async def test_each_fault_has_its_answer_and_takes_nothing(
    switch: str, value: float, expected: tuple[int, int]
) -> None:
    node = SimNode()
    async with logged_in(node) as client:
        node.faults.set(switch, value)
        assert code(await client.send()) == expected
    assert node.journal.sends == []
    assert node.journal.refusals == {f"{expected[0]}/{expected[1]}": 1}


async def test_unknown_contact_until_contacts_was_asked() -> None:
    node = SimNode()
    node.faults.is_contact_check_needed = True
    async with logged_in(node) as client:
        assert code(await client.send()) == (404, 1006)
        asked = {"blocking": "wait", "contacts": ["+1 555 010 0111"]}
        _, body = await client.call("POST", "/v1/contacts", json=asked)
        assert body["contacts"] == [{"input": "+1 555 010 0111", "status": "valid", "wa_id": "15550100111"}]
        assert (await client.send())[0] == 201


async def test_a_full_callback_queue_answers_1016() -> None:
    node = SimNode(callback_queue_max=1)
    async with logged_in(node) as client:
        node.report_error(1014, "Internal error")
        assert code(await client.send()) == (503, 1016)


async def test_a_full_backlog_answers_1016() -> None:
    clock = FakeClock()  # It stands still, so the number serves its first event only.
    async with logged_in(SimNode(tps=1, backlog_max=1, clock=clock)) as client:
        assert (await client.send())[0] == 201
        assert (await client.send())[0] == 201
        assert code(await client.send()) == (503, 1016)


async def test_a_hanging_send_is_taken_and_never_answered() -> None:
    node = SimNode()
    node.faults.hang_ratio = 1.0
    async with logged_in(node) as client:
        with pytest.raises(TimeoutError):
            await client.call("POST", "/v1/messages", json=TEXT, timeout=aiohttp.ClientTimeout(total=0.1))
    (entry,) = node.journal.sends
    assert not entry.is_answered


@pytest.mark.parametrize(("switch", "taken"), [("reset_ratio", 0), ("lost_answer_ratio", 1)])
async def test_a_reset_connection_before_and_after_the_send_was_taken(switch: str, taken: int) -> None:
    node = SimNode()
    node.faults.set(switch, 1.0)
    async with logged_in(node) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.send()
    assert len(node.journal.sends) == taken


async def test_messages_are_limited_to_a_burst_of_150_and_50_a_second() -> None:
    clock = FakeClock()
    async with logged_in(SimNode(clock=clock)) as client:
        statuses = [(await client.send())[0] for _ in range(150)]
        assert statuses == [201] * 150
        assert code(await client.send()) == (429, 1015)
        clock.advance_ns(NS_PER_S // 50)
        assert (await client.send())[0] == 201
        assert code(await client.send()) == (429, 1015)
        assert (await client.call("GET", "/v1/health"))[0] == 200, "each endpoint has its own limit"


def test_the_rate_limit_refuses_a_nanosecond_early_and_allows_on_time() -> None:
    limit = RateLimit(50, 2)
    assert [limit.try_take(0) for _ in range(3)] == [True, True, False]
    assert not limit.try_take(NS_PER_S // 50 - 1)
    assert limit.try_take(NS_PER_S // 50)


async def test_media_comes_back_as_it_went() -> None:
    async with logged_in(SimNode()) as client:
        client.headers["Content-Type"] = "image/png"
        status, body = await client.call("POST", "/v1/media", data=b"\x89PNG")
        path = "/v1/media/" + body["media"][0]["id"]
        assert status == 201
        assert await client.call("GET", path) == (200, b"\x89PNG")
        assert (await client.call("DELETE", path))[0] == 200
        assert (await client.call("GET", path))[0] == 404


async def test_a_group_tells_its_participants() -> None:
    async with logged_in(SimNode()) as client:
        created = {"subject": "storm", "wa_ids": ["15550200001", "15550200002"]}
        _, body = await client.call("POST", "/v1/groups", json=created)
        id_ = body["groups"][0]["id"]
        _, info = await client.call("GET", f"/v1/groups/{id_}")
        assert info["groups"][0]["participants"] == ["15550100999", "15550200001", "15550200002"]
        assert (await client.send(to=id_, recipient_type="group"))[0] == 201


async def test_settings_change_only_what_is_named() -> None:
    node = SimNode(webhook_url="http://127.0.0.1:1/")
    async with logged_in(node) as client:
        change = {"webhooks": {"max_concurrent_requests": 24}, "callback_backoff_delay_ms": "5000"}
        assert (await client.call("PATCH", "/v1/settings/application", json=change))[0] == 200
        _, body = await client.call("GET", "/v1/settings/application")
    webhooks = body["settings"]["application"]["webhooks"]
    assert webhooks["max_concurrent_requests"] == node.settings.concurrency == 24
    assert webhooks["url"] == "http://127.0.0.1:1/"
    assert node.settings.backoff_ms == 5000


@pytest.mark.parametrize(
    "change",
    [
        {"webhooks": {"max_concurrent_requests": 7}},
        {"webhooks": {"url": None}},
        {"webhooks": {"message": {"read": "yes"}}},
        {"webhooks": []},
        {"callback_backoff_delay_ms": "soon"},
        [],
    ],
)
def test_a_bad_setting_is_named_and_changes_nothing(change: Any) -> None:
    settings = Settings()
    before = settings.document
    assert settings.patch(change) != ""
    assert settings.document is before


async def test_marking_as_read_is_noted() -> None:
    node = SimNode()
    async with logged_in(node) as client:
        assert (await client.call("PUT", "/v1/messages/ABGG1", json={"status": "read"}))[0] == 200
        assert code(await client.call("PUT", "/v1/messages/ABGG1", json={})) == (400, 1009)
    assert node.journal.reads_marked == ["ABGG1"]


async def test_health_and_statistics_show_live_values() -> None:
    node = SimNode()
    async with logged_in(node) as client:
        node.faults.gateway_status = "disconnected"
        node.report_error(1014, "Internal error")
        _, health = await client.call("GET", "/v1/health")
        _, stats = await client.call("GET", "/v1/stats/app")
    assert health["health"] == {"gateway_status": "disconnected"}
    assert stats["stats"]["app"]["callback_queue_size"]["data"] == [{"value": 1}]
    assert stats["stats"]["app"]["pending_callbacks"]["data"] == [{"value": 0}]


def test_a_fault_that_does_not_exist_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="no fault switch"):
        SimNode().faults.set("gremlins", 1.0)
    with pytest.raises(AssertionError):
        SimNode().faults.set("hang_ratio", 2.0)

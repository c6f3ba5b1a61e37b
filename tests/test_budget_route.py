"""`GET /v1/budget` of a running gateway, and the command that asks for it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from builders import GROUP, WALL_MS, onprem_body, push_body
from harness import TOKEN, Harness, RecordingBackend, running_gateway

from gateway.budget.groups import MEMBERS_ASSUMED
from gateway.cli import main
from gateway.events import TpsKind
from gateway.sim.node import SimNode
from gateway.sim.receipts import ReceiptModel

KINDS = ["receive", "send", "delivered", "read", "all"]


async def budget(gateway: Harness) -> dict[str, Any]:
    async with gateway.session.get(f"{gateway.admin}/v1/budget") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        report: dict[str, Any] = json.loads(await answer.read())
        return report


def receipts(count: int) -> bytes:
    return onprem_body(
        statuses=[{"id": f"s{n}", "status": "delivered", "recipient_id": "1"} for n in range(count)]
    )


def messages(count: int) -> bytes:
    return onprem_body([{"id": f"m{n}", "from": "15550100111", "type": "text"} for n in range(count)])


async def test_what_arrived_a_moment_ago_is_in_the_report(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port, TPS="20") as gateway:
        assert await gateway.webhook(messages(3)) == 200
        assert await gateway.webhook(receipts(5)) == 200
        report = await budget(gateway)
        used = {use["kind"]: use for use in report["used"]}
        assert list(used) == KINDS
        assert used["receive"]["events_last_s"] == 3
        assert used["delivered"]["share_of_plan_percent_now"] == 25.0
        assert used["all"]["events_last_s"] == 8
        await gateway.settle()


async def test_a_second_later_it_is_in_the_history(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        assert await gateway.webhook(messages(3)) == 200
        async with asyncio.timeout(10):
            while not (report := await budget(gateway))["observed_s"]:
                await asyncio.sleep(0.02)  # the history has whole seconds, and they are real here
        received = report["used"][0]
        for span in ("1m", "5m", "60m"):
            assert received[f"events_per_s_{span}"] == 3 / report["observed_s"]
        await gateway.settle()


async def test_sends_that_wait_are_in_the_time_to_drain(tmp_path: Path) -> None:
    """The node is down: what is pushed stays. 9.5 / 2.65 sends a second."""
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        for _ in range(10):
            assert (await gateway.push(push_body()))[0] == 202
        advice = (await budget(gateway))["advice"]
        assert advice["waiting_sends"] == 10
        assert advice["send_cost"]["source"] == "default"
        assert advice["now"]["sends_per_s"] == pytest.approx(9.5 / 2.65)
        assert advice["now"]["drain_s"] == pytest.approx(10 * 2.65 / 9.5)
        assert advice["limited_by"] == "plan"
        assert all(change["sentence"].endswith(".") for change in advice["changes"])


async def test_group_sends_that_wait_are_in_the_time_to_drain(tmp_path: Path) -> None:
    """Half of them go to groups that nobody could be asked for: taken for the largest, as the pacer takes them."""
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        for _ in range(2):
            assert (await gateway.push(push_body()))[0] == 202
            assert (await gateway.push(push_body(GROUP, recipient_type="group")))[0] == 202
        advice = (await budget(gateway))["advice"]
        assert advice["waiting_recipients_mean"] == (1 + MEMBERS_ASSUMED) / 2
        assert advice["now"]["drain_s"] == pytest.approx(4 * (1 + 1.65 * (1 + MEMBERS_ASSUMED) / 2) / 9.5)
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        advice = (await budget(gateway))["advice"]
        assert advice["waiting_sends"] == 4
        assert advice["waiting_recipients_mean"] == 1, "of what a start finds on the disk nothing is known"


async def test_what_the_number_did_is_in_the_report_kind_by_kind(tmp_path: Path) -> None:
    """Customers write, single chats and a group are sent to, and each recipient receives and reads."""
    backend = RecordingBackend()
    at_once = ReceiptModel(delivered_ratio=1.0, read_ratio=1.0, time_scale=0.0)
    async with backend.serving(), SimNode(tps=1000, receipts=at_once) as node:
        group = node.groups.create(tuple(f"1555010{n:04}" for n in range(8)), WALL_MS)
        variables = {"NODE_URL": node.url, "NODE_USER": "admin", "NODE_PASSWORD": "secret-of-the-sim"}
        async with running_gateway(tmp_path, backend.port, TPS="1000", **variables) as gateway:
            node.set_webhook(f"{gateway.ingest}/webhook")
            for n in range(3):
                node.receive_text("15550100111", f"hello {n}")
            for _ in range(4):
                assert (await gateway.push(push_body()))[0] == 202
            for _ in range(2):
                assert (await gateway.push(push_body(group, recipient_type="group")))[0] == 202
            recipients = 4 + 2 * 8
            expected = {"receive": 3, "send": 6, "delivered": recipients, "read": recipients}
            expected["all"] = sum(expected.values())
            async with asyncio.timeout(20):
                # Both histories have whole seconds, real ones here, and each shows a second once it is over.
                while (await counted(gateway)) != expected or (
                    await recipients_mean(gateway)
                ) != recipients / 6:
                    await asyncio.sleep(0.02)
            assert gateway.gateway.parts.budget.totals == {k: expected[k.label] for k in TpsKind}
            cost = (await budget(gateway))["advice"]["send_cost"]
            assert cost["source"] == "default", "six sends tell too little"
            assert cost["events"] == pytest.approx(1 + 1.65 * recipients / 6)
            assert gateway.gateway.parts.sends.groups_share is None, "nothing waits any more"
            await gateway.settle()


async def recipients_mean(gateway: Harness) -> float:
    """Of the sends that the node took in the hour; 1 while none is known."""
    mean: float = (await budget(gateway))["advice"]["send_cost"]["recipients_mean"]
    return mean


async def counted(gateway: Harness) -> dict[str, int]:
    """Events of each kind in the report's hour."""
    report = await budget(gateway)
    return {use["kind"]: round(use["events_per_s_60m"] * report["observed_s"]) for use in report["used"]}


async def test_a_shard_reports_its_part_of_the_plan(tmp_path: Path) -> None:
    backend = RecordingBackend()
    variables = {"TPS": "21", "SHARDS": "4", "SHARD_INDEX": "0"}
    async with backend.serving(), running_gateway(tmp_path, backend.port, **variables) as gateway:
        advice = (await budget(gateway))["advice"]
        assert (advice["plan_tps"], advice["part_tps"], advice["shards"]) == (21, 6, 4)


async def test_the_command_prints_the_report_of_the_running_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port, TPS="20") as gateway:
        # As an operator's shell has it: the listener as the gateway's own settings say, and a secret out of reach.
        monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", f"0.0.0.0:{gateway.gateway.admin_port}")
        monkeypatch.setenv("GATEWAY_PUSH_TOKENS_FILE", "/nonexistent/tokens")
        assert await asyncio.to_thread(main, ["budget"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("Plan              20 TPS, 5 % left free\n")
        assert "Queue             nothing waits\n" in text
        assert await asyncio.to_thread(main, ["budget", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert [use["kind"] for use in report["used"]] == KINDS


async def test_the_plan_is_changed_live_by_whoever_may_push(tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with running_gateway(tmp_path, 1, TPS="20", SHARDS="2", SHARD_INDEX="1") as gateway:
        url = f"{gateway.admin}/v1/budget"
        parts = gateway.gateway.parts
        for body, expected in (
            (b'{"tps": 15}', 200),
            (b'{"tps": 1}', 400),
            (b'{"tps": "x"}', 400),
            (b"", 400),
        ):
            async with gateway.session.put(url, data=body, headers=headers) as answer:
                assert answer.status == expected
        assert (parts.plan_tps, parts.budget.tps) == (15, 7), "shard 1 of 2 has the smaller half"
        assert parts.fanout is not None
        assert parts.fanout.tps == 7
        async with gateway.session.put(
            url, data=b'{"tps": 99}', headers={**headers, "Authorization": "x"}
        ) as answer:
            assert answer.status == 401
        async with gateway.session.put(
            url, data=b'{"tps": 99}', headers={"Content-Type": "text/plain"}
        ) as answer:
            assert answer.status == 415
        assert parts.budget.tps == 7
        assert (await gateway.metrics())["gateway_tps_limit"] == 7

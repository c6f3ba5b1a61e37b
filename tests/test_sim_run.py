"""Whole runs with a real gateway process: short ones that keep every promise, and ones made to break one."""

import io
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from gateway.sim.checker import check
from gateway.sim.child import StartError
from gateway.sim.demo import main
from gateway.sim.run import Plan, Run
from gateway.sim.scenarios import QUICK
from gateway.sim.serving import Server
from gateway.sim.traffic import (
    Action,
    BackendOutage,
    BackendTrouble,
    Burst,
    GroupStorm,
    Inbound,
    Phase,
    Scenario,
)

TPS = 50


def make_plan(
    state_dir: Path,
    *actions: Action,
    env: Mapping[str, str] | None = None,
    length_s: float = 2.0,
    settle_s: float = 30.0,
    is_crashing: bool = False,
) -> Plan:
    phases = (Phase("steady", 0, 0.5), Phase("storm", 0.5, length_s))
    scenario = Scenario("test", "", phases, actions, settle_s, QUICK)
    return Plan(scenario, TPS, 1, state_dir, env or {}, is_crashing)


async def broken(plan: Plan) -> list[str]:
    facts = await Run(plan, io.StringIO()).facts()
    return [f"{v.promise}: {v.evidence}" for v in check(facts) if not v.is_kept]


async def test_a_short_storm_keeps_every_promise(tmp_path: Path) -> None:
    plan = make_plan(
        tmp_path,
        Inbound(0, 2, 5.0),
        GroupStorm(0.5, groups=2, members=20, priority="bulk"),
        Burst(0.6, 10),
        BackendOutage(1.5, 1.8),
    )
    assert await broken(plan) == []


async def test_a_gateway_killed_with_sends_waiting_loses_nothing(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Inbound(0, 2, 5.0), Burst(0.5, TPS), is_crashing=True)
    assert await broken(plan) == []


async def test_a_gateway_told_twice_the_plan_breaks_the_plan(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Inbound(0, 2, 5.0), Burst(0.1, TPS), env={"GATEWAY_TPS": str(2 * TPS)})
    (verdict,) = await broken(plan)
    assert verdict.startswith("the number's TPS is never exceeded")


async def test_a_backend_that_never_takes_messages_leaves_them_waiting(tmp_path: Path) -> None:
    env = {"GATEWAY_MESSAGE_WEBHOOK_URL": "http://127.0.0.1:9/messages"}
    plan = make_plan(tmp_path, Inbound(0, 2, 5.0), env=env, settle_s=0.5)
    (verdict,) = await broken(plan)
    assert verdict.startswith("it ends well: waiting at the end")


async def take_and_forget(_request: web.Request) -> web.Response:
    return web.Response()


def make_sink() -> web.Application:
    app = web.Application()
    app.add_routes([web.post("/", take_and_forget)])
    return app


async def test_receipts_that_end_elsewhere_are_missed(tmp_path: Path) -> None:
    """The gateway's books say delivered; the ledger of the backend knows better."""
    sink = Server(make_sink)
    await sink.start()
    plan = make_plan(tmp_path, Burst(0.1, 5), env={"GATEWAY_EVENT_WEBHOOK_URL": sink.url + "/"})
    (verdict,) = await broken(plan)
    await sink.stop()
    assert verdict.startswith("acked is kept: 5 acked sent did not arrive, 0 are accounted for")


async def test_a_webhook_that_answers_404_makes_the_node_wait(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Inbound(0, 2, 5.0), env={"GATEWAY_WEBHOOK_PATH": "/elsewhere"}, settle_s=0.5)
    (verdict,) = await broken(plan)
    assert verdict.startswith("the node is never made to wait: callbacks not answered 200")


async def test_a_backend_that_takes_its_time_is_seen_in_the_messages(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Inbound(0, 2, 5.0), BackendTrouble(0.5, 2, latency_s=1.5))
    verdicts = await broken(plan)
    assert any(verdict.startswith("messages first: p99") for verdict in verdicts), verdicts


async def test_a_gateway_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, env={"GATEWAY_TPS": "many"})
    with pytest.raises(ExceptionGroup) as raised:
        await Run(plan, io.StringIO()).facts()
    found = raised.group_contains(StartError, match="GATEWAY_TPS='many'")
    assert found


def test_the_demo_says_that_the_gateway_did_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gateway-env", "GATEWAY_TPS=many"]) == 2
    assert "ended with exit code 78" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_its_gateway(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "TPS r" in line and "/20" in line:
                demo.send_signal(how)
                break
        rest = demo.stdout.read()
    assert demo.returncode == 130
    assert "Interrupted" in rest
    assert "drained" in (tmp_path / "gateway.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--crash"], ["--seed", "7"]])
def test_the_tour_keeps_every_promise(more: list[str]) -> None:
    assert main(more) == 0


@pytest.mark.slow
def test_the_tour_with_twice_the_plan_fails() -> None:
    assert main(["--gateway-env", "GATEWAY_TPS=40"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steady", "campaign", "outage"])
def test_the_other_scenarios_keep_every_promise(name: str) -> None:
    assert main(["--scenario", name, "--tps", "50"]) == 0

"""Scenarios as data, their seeds, the exposition parser and the demo's command line."""

import pytest

from gateway.sim.demo import main
from gateway.sim.exposition import Exposition
from gateway.sim.receipts import ReceiptModel
from gateway.sim.scenarios import SCENARIOS, tour
from gateway.sim.timeline import (
    BackendBehaviour,
    BackendSwitch,
    ExpireTokens,
    FaultSwitch,
    MessageIn,
    PushOut,
    timeline,
)
from gateway.sim.traffic import (
    Action,
    BackendOutage,
    BackendTrouble,
    Inbound,
    NodeFault,
    Phase,
    Pushes,
    Scenario,
    TokenExpiry,
)


def make_scenario(*actions: Action) -> Scenario:
    return Scenario("test", "", (Phase("steady", 0, 10),), actions, 1, ReceiptModel())


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_is_in_order_inside_its_length_and_marks_every_push_apart(name: str) -> None:
    scenario = SCENARIOS[name](20)
    steps = timeline(scenario, seed=1)
    times = [at_s for at_s, _ in steps]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= scenario.length_s
    marks = [step.text for _, step in steps if isinstance(step, PushOut)]
    assert len(marks) == len(set(marks))
    assert any(isinstance(step, MessageIn) for _, step in steps)


def test_the_same_seed_makes_the_same_traffic_and_another_seed_another() -> None:
    assert timeline(tour(20), 1) == timeline(tour(20), 1)
    assert timeline(tour(20), 1) != timeline(tour(20), 2)


def test_the_storm_is_ten_groups_of_256() -> None:
    pushes = [step for _, step in timeline(SCENARIOS["storm"](20), 1) if isinstance(step, PushOut)]
    assert [(push.group, push.members) for push in pushes] == [(n, 256) for n in range(10)]


def test_the_tour_is_short_and_its_load_outside_the_storm_is_under_half_of_the_plan() -> None:
    scenario = tour(20)
    assert scenario.length_s <= 45
    cost = ReceiptModel().events_per_send()
    load = 0.0
    for action in scenario.actions:
        if isinstance(action, Inbound):
            load += action.per_s * (1 + cost)
        elif isinstance(action, Pushes):
            load += action.per_s * cost
    assert load < 10


def test_troubles_begin_and_end() -> None:
    scenario = make_scenario(
        BackendOutage(2, 3, "refuse"),
        NodeFault(1, 4, "error_ratio", 0.5),
        TokenExpiry(5),
        BackendTrouble(6, 7, latency_s=0.1, error_ratio=0.2),
    )
    assert timeline(scenario, 0) == [
        (1, FaultSwitch("error_ratio", 0.5)),
        (2, BackendSwitch("refuse")),
        (3, BackendSwitch(None)),
        (4, FaultSwitch("error_ratio", 0.0)),
        (5, ExpireTokens()),
        (6, BackendBehaviour(0.1, 0.2)),
        (7, BackendBehaviour(0.0, 0.0)),
    ]


def test_the_poisson_rate_comes_out_as_set() -> None:
    assert 900 < len(timeline(make_scenario(Inbound(0, 10, 100.0)), 5)) < 1100


def test_exposition_reads_names_labels_and_escapes() -> None:
    page = Exposition(
        '# TYPE a counter\na{x="1",y="q\\"\\\\\\n,}"} 2\na{x="2"} 3.5e1\nb 1 1700000000\nc{} +Inf\n'
    )
    assert page.total("a") == 37.0
    assert page.total("a", {"x": "2"}) == 35.0
    assert page.series("a")[0][0]["y"] == 'q"\\\n,}'
    assert page.by("x", "a") == {"1": 2.0, "2": 35.0}
    assert page.total("c") == float("inf")
    assert page.has("b")
    assert not page.has("d")
    with pytest.raises(ValueError, match="not a line of exposition"):
        Exposition("<html>")


@pytest.mark.parametrize(
    "argv", [["--tps", "0"], ["--tps", "x"], ["--scenario", "none"], ["--gateway-env", "PATH=/"], ["--no"]]
)
def test_the_demo_refuses_a_bad_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage: wa-gateway demo" in capsys.readouterr().err

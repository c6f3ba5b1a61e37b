"""The benchmarks run and print their tables. What they measure is read by people: machines are noisy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for part in ("micro", "macro") for path in (ROOT / "bench" / part).glob("*.py"))
COMMANDS = [path for path in SCRIPTS if "__main__" in path.read_text()]
PEERS = ("aiolimiter", "pyrate_limiter", "limits")


def run(script: Path, *arguments: str) -> str:
    """What it prints; it must end well within the time of a test."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    ended = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture
def _peers() -> None:
    """The extra `bench`, which a machine that only runs the gateway's tests may lack."""
    for peer in PEERS:
        pytest.importorskip(peer)


@pytest.mark.usefixtures("_peers")
@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_says_what_it_measures(script: Path) -> None:
    assert "usage:" in run(script, "--help")


@pytest.mark.usefixtures("_peers")
def test_decision_has_a_row_for_ours_and_each_peer(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    printed = run(ROOT / "bench/micro/decision.py", "--rounds", "1", "--count", "200", "--json", str(result))
    rows = json.loads(result.read_text())["ns"]
    assert all(row in printed for row in rows)
    for name in ("TpsBudget.try_send", "aiolimiter", "pyrate-limiter", "limits"):
        assert sum(name in row for row in rows) >= 2, (name, list(rows))


@pytest.mark.usefixtures("_peers")
def test_pacing_runs_every_pacer_and_ours_never_breaks_the_limit(tmp_path: Path) -> None:
    """That is no timing: a grant that comes late only makes a second emptier."""
    result = tmp_path / "result.json"
    short = ("--seconds", "0.1", "--rounds", "1", "--grants", "8")
    run(ROOT / "bench/macro/pacing.py", *short, *("--rates", "80", "--json", str(result)))
    rows = {row["pacer"]: row for row in json.loads(result.read_text())["pacers"]}
    assert {"ours", "aiolimiter", "pyrate-limiter", "limits", "asyncio.sleep"} <= set(rows)
    assert rows["ours"]["worst"] <= 80


@pytest.mark.slow
@pytest.mark.usefixtures("_peers")
def test_pacing_counts_at_the_node_what_the_gateway_sends(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run(
        ROOT / "bench/macro/pacing.py",
        *("--seconds", "1", "--rates", "80", "--pacers", "--node", "--json", str(result)),
    )
    (row,) = json.loads(result.read_text())["node"]
    assert row["sends"] >= 80


def test_idle_measures_a_started_gateway(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run(ROOT / "bench/macro/idle.py", *("--seconds", "0.2", "--settle", "0", "--json", str(result)))
    servers = json.loads(result.read_text())["servers"]
    assert set(servers["wa-gateway"]) >= {"cpu_percent", "wakeups_per_s", "threads"}


@pytest.mark.slow
def test_storm_loses_nothing(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    short = ("--scenarios", "fast", "--peers", "--rounds", "1", "--quiet", "1", "--storms", "2")
    printed = run(ROOT / "bench/macro/storm.py", *short, "--json", str(result))
    assert "nothing lost: 0 messages missing" in printed
    scenario = json.loads(result.read_text())["scenarios"]["fast"]
    assert {row["what"] for row in scenario["rows"]} == {"quiet", "one storm", "2 storms"}
    kept = scenario["kept"]
    assert kept["receipts"] == 4 * 2560  # one to warm up, one alone, two together
    assert kept["accepted"] == kept["known_when_asked"] == sum(kept["outcomes"].values()) == kept["receipts"]
    assert kept["waiting"] == kept["difference"] == 0


@pytest.mark.slow
def test_goodput_has_both_servers_at_each_load(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    short = ("--seconds", "1", "--multiples", "1", "2", "--series", "receipts")
    run(ROOT / "bench/macro/goodput.py", *short, "--json", str(result))
    rows = json.loads(result.read_text())["rows"]
    assert len({(row["server"], row["multiple"]) for row in rows}) == len(rows) == 4


@pytest.mark.slow
def test_receipts_memory_ends_with_nothing_waiting(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    short = ("--receipts", "3000", "--rest", "0", "--full-early")
    run(ROOT / "bench/macro/receipts_memory.py", *short, "--json", str(result))
    last = json.loads(result.read_text())["rows"][-1]
    assert (last["receipts"], last["waiting"], last["difference"]) == (3000, 0, 0)
    assert last["rss"] > last["anonymous"] > 0

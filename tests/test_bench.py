"""The benchmarks run and print their tables. What they measure is read by people: machines are noisy."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for part in (".", "micro", "macro") for path in (ROOT / "bench" / part).glob("*.py"))
COMMANDS = [path for path in SCRIPTS if "__main__" in path.read_text()]
PEERS = ("aiolimiter", "cachetools", "limits", "pydantic", "pyrate_limiter", "rbloom")
INGEST = ("full", "os", "memory", "nginx", "aiohttp", "FastAPI + Redis AOF", "aiohttp + Redis AOF")
FORWARD = ("full", "os", "memory", "nginx", "HAProxy", "aiohttp")


def run(script: Path, *arguments: str, status: int = 0, **environ: str) -> str:
    """What it prints; it must end well within the time of a test."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    ended = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, **environ},
        check=False,
    )
    assert ended.returncode == status, (ended.stdout[-500:], ended.stderr[-2000:])
    return ended.stdout


def result_of(script: str, result: Path, *arguments: str) -> Any:
    """What it writes."""
    run(ROOT / "bench" / script, *arguments, "--json", str(result))
    return json.loads(result.read_text())


def assert_each_ran_or_is_named(result: Any, servers: tuple[str, ...]) -> None:
    named = {row["server"] for row in result["rows"]} | set(result["missing"])
    assert {name.removeprefix("wa-gateway, ") for name in named} - {"direct"} == set(servers)


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


@pytest.mark.usefixtures("_peers")
@pytest.mark.parametrize("name", ["bucket", "window", "rings", "seen", "decode"])
def test_a_row_of_ours_comes_first_in_each_group(name: str, tmp_path: Path) -> None:
    groups = result_of(f"micro/{name}.py", tmp_path / "result.json", "--rounds", "1", "--count", "100")[
        "groups"
    ]
    assert groups
    for rows in groups.values():
        first = next(iter(rows))
        assert first[0].isupper() or first == "decode", first


def test_ingest_measures_every_server_or_names_what_it_lacks(tmp_path: Path) -> None:
    short = ("--connections", "2", "--rounds", "1", "--seconds", "0.05")
    result = result_of("macro/ingest.py", tmp_path / "result.json", *short)
    assert_each_ran_or_is_named(result, INGEST)
    assert all(row["per_s"] > 0 for row in result["rows"])
    assert len(result["targets"]) == 3


def test_relay_finds_every_event_at_the_backend_once(tmp_path: Path) -> None:
    short = ("--rates", "100", "0", "--rounds", "1", "--scale", "0.05")
    result = result_of("macro/relay.py", tmp_path / "result.json", *short)
    assert_each_ran_or_is_named(result, FORWARD)
    assert {row["rate"] for row in result["rows"]} == {100.0, 0.0}
    assert all((row["lost"], row["twice"], row["failures"]) == (0, 0, 0) for row in result["rows"])


def test_push_measures_what_is_accepted(tmp_path: Path) -> None:
    short = ("--rounds", "1", "--seconds", "0.05")
    result = result_of("macro/push.py", tmp_path / "result.json", *short)
    assert_each_ran_or_is_named(result, ("full", "os", "memory", "FastAPI + Redis AOF"))


@pytest.mark.slow
def test_waiting_starts_again_on_what_waits(tmp_path: Path) -> None:
    short = ("--marks", "100", "300", "--window", "50", "--bodies-to", "200")
    result = result_of("macro/waiting.py", tmp_path / "result.json", *short)
    assert [row["waiting"] for row in result["rows"]] == [100, 300]
    assert [row["body"] for row in result["bodies"]] == [350, 2048, 16384]
    assert all(row["start_s"] > 0 for row in result["rows"])


@pytest.mark.slow
def test_profile_finds_the_lines_that_touch_python(tmp_path: Path) -> None:
    run(ROOT / "bench/profile.py", "--tools", "annotate", "--out", str(tmp_path))
    told = (tmp_path / "annotate.txt").read_text()
    assert all(f"{path.name}: " in told for path in (ROOT / "gateway/_fast").glob("*.pyx"))


def test_report_fills_its_blocks_and_leaves_what_is_written_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    fill = importlib.import_module("report").fill
    about = {
        "date": "2026-01-31",
        "machine": "m",
        "python": "p",
        "versions": {"v": "1"},
        "load_1min_at_start": 0.1,
    }
    row = {"server": "s", "per_s": 12345, "per_s_low": 1, "per_s_high": 2, "cpu_us": 3.0, "p99_ms": 4.0}
    results = {"push": {**about, "rows": [row], "missing": {"nginx": "not installed"}}}
    page = "before <!-- push -->old<!-- /push --> between <!-- ingest -->kept<!-- /ingest --> after"
    filled = fill(page, results)
    assert filled.startswith("before <!-- push -->\n")
    assert filled.endswith("<!-- /push --> between <!-- ingest -->kept<!-- /ingest --> after")
    assert "old" not in filled
    assert "12,345" in filled
    assert "nginx (not installed)" in filled
    assert fill(filled, results) == filled


STEP = "ring: push and pop"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The instructions of one step, as just counted."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    path = tmp_path / "kept.json"
    run(ROOT / "bench/instructions.py", "--steps", STEP, "--kept", str(path), "--update")
    return path


@pytest.mark.slow
def test_bench_check_counts_the_same_again_and_fails_what_costs_more(kept: Path) -> None:
    check = (ROOT / "bench/instructions.py", "--steps", STEP, "--kept", str(kept), "--tolerance")
    assert "passed: none more" in run(*check, "0.005")
    everything = json.loads(kept.read_text())
    ((key, counted),) = everything.items()
    counted["instructions"][STEP] *= 0.98
    kept.write_text(json.dumps({key: counted}))
    assert "MORE" in run(*check, "0.005", status=1)


def test_bench_check_says_that_it_needs_valgrind(tmp_path: Path) -> None:
    assert "NOT CHECKED" in run(ROOT / "bench/instructions.py", PATH=str(tmp_path))

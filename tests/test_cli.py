"""The command: exit statuses, and what it says where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import main
from gateway.config.variables import VARIABLES


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("GATEWAY_") or name in {"STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("GATEWAY_STORE_PATH", str(tmp_path))


def test_check_accepts_what_works_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert out == f"configuration: valid; 1 of {len(VARIABLES)} settings are not the default\n"
    assert "warning: GATEWAY_PUSH_TOKENS: unset; the push API is closed\n" in err


@pytest.mark.parametrize("command", ["check", "run"])
def test_wrong_settings_end_with_78_and_every_problem(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TPS", "0")
    monkeypatch.setenv("GATEWAY_TSP", "1")
    assert main([command]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "configuration: 2 problems",
        "  - GATEWAY_TPS='0': expected a whole number from 1 to 5000 (default 10; cloud: 80)",
        "  - GATEWAY_TSP: unknown setting; did you mean GATEWAY_TPS?",
    ]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_cannot_be_read_ends_with_78(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_NODE_CA", "/nonexistent/ca.pem")
    assert main([command]) == 78
    assert "configuration: 1 problem\n  - GATEWAY_NODE_CA='/nonexistent/ca.pem': " in capsys.readouterr().err


def test_check_prints_the_settings_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_NODE_PASSWORD", "geheim")
    assert main(["check", "--print"]) == 0
    out, err = capsys.readouterr()
    assert "# env\n# GATEWAY_NODE_PASSWORD=***\n" in out
    assert "geheim" not in out + err


def test_the_environment_file_is_printed_commented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "--environment-file"]) == 0
    assert "\n#GATEWAY_TPS=10\n" in capsys.readouterr().out


def test_version_names_ours_and_pythons(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith(f"wa-gateway {__version__} (Python 3.")


@pytest.mark.parametrize("arguments", [[], ["serve"], ["run", "--tps", "5"]])
def test_wrong_arguments_end_with_2_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: wa-gateway")


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["unit"]])
def test_help_of_each_command_names_it(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert " ".join(["usage: wa-gateway", *command]) in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["unit"], ["check"]])
def test_a_command_that_serves_nothing_loads_no_server(arguments: list[str]) -> None:
    """A restart is as long as its imports, and aiohttp alone takes a quarter of a second."""
    code = (
        "import sys\nfrom gateway.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'aiohttp', 'uvloop', 'sqlite3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

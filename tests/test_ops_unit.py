"""The systemd unit: what it promises elsewhere, and what systemd thinks of it."""

import re
import shutil
import subprocess
import sysconfig
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config.variables import BY_FIELD, VARIABLES
from gateway.errors import EXIT_CONFIG
from gateway.ops.logs.configure import STOP_TIMEOUT_S

UNIT = files("gateway.ops").joinpath("wa-gateway.service").read_text(encoding="utf-8")

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="no systemd-analyze on this machine: only systemd judges a unit",
)


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def value(key: str) -> str:
    [only] = values(key)
    return only


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["unit"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def installed(printed: str, tmp_path: Path) -> Path:
    path = tmp_path / "wa-gateway.service"
    path.write_text(printed)
    return path


def test_every_secret_can_be_a_credential() -> None:
    secrets = [variable.credential for variable in VARIABLES if variable.form.is_secret]
    assert sorted(values("LoadCredential")) == sorted(secrets)


def test_the_longest_drain_ends_before_systemd_kills() -> None:
    drain_ms_max = BY_FIELD["drain_timeout_ms"].high
    assert drain_ms_max is not None
    assert drain_ms_max / 1_000 + STOP_TIMEOUT_S < int(value("TimeoutStopSec"))


def test_wrong_settings_are_not_tried_again() -> None:
    assert value("RestartPreventExitStatus") == str(EXIT_CONFIG)


def test_the_printed_unit_starts_this_installation(printed: str) -> None:
    [command] = re.findall(r"^ExecStart=(.*) run$", printed, re.MULTILINE)
    assert Path(command.split()[0]).is_absolute()
    assert "/usr/bin/wa-gateway" not in printed
    version = subprocess.run(
        [*command.split(), "--version"], check=True, capture_output=True, cwd=Path(__file__).parents[1]
    )
    assert version.stdout.startswith(b"wa-gateway ")


def test_a_path_with_spaces_or_signs_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = tmp_path / "100% a"
    scripts.mkdir()
    (scripts / "wa-gateway").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts))
    assert main(["unit"]) == 0
    assert f'\nExecStart="{tmp_path}/100%% a/wa-gateway" run\n' in capsys.readouterr().out


def test_an_installation_the_sandbox_hides_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.executable", "/home/me/venv/bin/python")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "/nonexistent")
    assert main(["unit"]) == 0
    assert "hides files" in capsys.readouterr().err


@needs_systemd_analyze
def test_systemd_finds_nothing_wrong_with_the_unit(installed: Path) -> None:
    result = subprocess.run(["systemd-analyze", "verify", str(installed)], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


@needs_systemd_analyze
def test_systemd_rates_the_exposure_below_a_point_and_a_half(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(installed)]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout.decode()

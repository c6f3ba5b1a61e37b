"""The files for an operator: every variable commented, and the settings in force."""

import os
import subprocess
from pathlib import Path

import pytest

from gateway.config import load, read
from gateway.config.environment import effective_file, environment_file
from gateway.config.variables import VARIABLES

CHANGED = {
    "GATEWAY_LISTEN": "[::1]:0",
    "GATEWAY_DIALECT": "cloud",
    "GATEWAY_NODE_PHONE_ID": "1234",
    "GATEWAY_NODE_USER": 'we "and" $HOME `x` \\ ü',
    "GATEWAY_MESSAGE_WEBHOOK_URL": "http://bot/?a=b&c=d;e",
    "GATEWAY_SEND_RETENTION": "90m",
    "GATEWAY_STORE_PATH": "/srv/with space",
}


def assignments(page: str) -> dict[str, str]:
    """What a shell sets that sources `page`; in double quotes systemd reads an environment file alike."""
    script = f"set -a\n{page}\nexec env -0"
    output = subprocess.run(
        ["sh", "-eu"], input=script.encode(), env={"PATH": os.defpath}, capture_output=True, check=True
    )
    lines = output.stdout.decode().rstrip("\0").split("\0")
    return dict(line.split("=", 1) for line in lines if line.startswith("GATEWAY_"))


def test_the_environment_file_sets_nothing() -> None:
    assert assignments(environment_file()) == {}


def test_the_environment_file_has_every_variable_with_a_default_that_can_be_uncommented() -> None:
    lines = [
        line.removeprefix("#") for line in environment_file().splitlines() if line.startswith("#GATEWAY_")
    ]
    settings = assignments("\n".join(line for line in lines if "_FILE=" not in line))
    assert set(settings) == {variable.name for variable in VARIABLES}
    assert load(settings) == load({})


@pytest.mark.parametrize("environ", [{}, CHANGED | {"GATEWAY_NODE_TOKEN": "geheim"}])
def test_the_settings_in_force_can_be_loaded_again(environ: dict[str, str]) -> None:
    reading = read(environ)
    page = effective_file(reading)
    secret = {"GATEWAY_NODE_TOKEN": "geheim"} if environ else {}
    assert load(assignments(page) | secret) == reading.settings


def test_the_settings_in_force_say_where_each_is_from(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "node_password").write_text("geheim")
    page = effective_file(
        read(
            {
                "GATEWAY_TPS": "20",
                "GATEWAY_PUSH_TOKENS_FILE": str(tmp_path / "token"),
                "CREDENTIALS_DIRECTORY": str(tmp_path),
            }
        )
    )
    assert "# env\nGATEWAY_TPS=20\n" in page
    assert "# default\nGATEWAY_DIALECT=onprem\n" in page
    assert f"# file {tmp_path / 'token'}\n# GATEWAY_PUSH_TOKENS=***\n" in page
    assert "# credential\n# GATEWAY_NODE_PASSWORD=***\n" in page
    assert "geheim" not in page

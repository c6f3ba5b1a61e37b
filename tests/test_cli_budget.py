"""`wa-gateway budget`: plans offline, what it says of wrong arguments, and when nobody answers."""

import http.server
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.cli import main

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- budget -->", "<!-- /budget -->"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)


def test_the_readme_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = README.read_text(encoding="utf-8")
    assert page.count(START) == page.count(END) == 1
    shown = (
        page.partition(START)[2].partition(END)[0].strip().removeprefix("```").removesuffix("```").strip("\n")
    )
    first, _, output = shown.partition("\n")
    command = shlex.split(first.removeprefix("$ "))
    assert command[:2] == ["wa-gateway", "budget"]
    assert main(command[1:]) == 0
    assert capsys.readouterr().out.rstrip("\n") == output


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The report of an offline question, as data."""
    assert main(["budget", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_campaign_takes_sends_over_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """(9.5 - 2) / 2.65 = 2.830 sends/s; 50,000 of them take 17,667 s, which is 4 h 54 min."""
    arguments = [
        "--tps",
        "10",
        "--inbound",
        "2",
        "--delivered",
        "0.95",
        "--read",
        "0.7",
        "--campaign",
        "50000",
    ]
    advice = plan(capsys, *arguments)
    assert advice["now"]["sends_per_s"] == pytest.approx(7.5 / 2.65)
    assert advice["now"]["drain_s"] == pytest.approx(50_000 * 2.65 / 7.5)
    assert main(["budget", *arguments]) == 0
    assert "Campaign          50,000 sends: out in 4 h 54 min\n" in capsys.readouterr().out


def test_what_a_campaign_uses_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["kind"]: row for row in plan(capsys, "--inbound", "2", "--campaign", "50000")["planned"]}
    assert (rows["send"]["events"], rows["delivered"]["events"]) == (50_000, 47_500)
    assert rows["read"]["events"] == pytest.approx(35_000)
    assert rows["receive"]["events"] == pytest.approx(2 * 50_000 * 2.65 / 7.5)
    assert rows["all"]["events_per_s"] == pytest.approx(9.5)
    assert rows["all"]["share_of_plan_percent"] == pytest.approx(95)


def test_every_plan_has_a_time_with_and_without_receipts(capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        (o["plan_tps"], o["receipts"]): o["drain_s"] for o in plan(capsys, "--campaign", "1000")["options"]
    }
    choices = ["all", "no_read", "no_delivered", "neither"]
    assert list(options) == [*((tps, choice) for tps in (10, 15, 20) for choice in choices), (80, "all")]
    assert options[20, "no_read"] == pytest.approx(1000 * 1.95 / 19)
    assert options[80, "all"] == pytest.approx(1000 / 80)


def test_defaults_are_those_of_the_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    onprem = plan(capsys, "--campaign", "1")
    assert (onprem["plan_tps"], onprem["headroom_percent"], onprem["send_cost"]["events"]) == (10, 5, 2.65)
    cloud = plan(capsys, "--dialect", "cloud")
    assert (cloud["plan_tps"], cloud["headroom_percent"], cloud["send_cost"]["events"]) == (80, 0, 1)


def test_members_multiply_the_receipts(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, "--members", "100")["send_cost"]["events"] == pytest.approx(1 + 95 + 70)


@pytest.mark.parametrize("text", ["10", "10%"])
def test_headroom_is_percent(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, "--headroom", text, "--read", "0")["now"]["sends_per_s"] == pytest.approx(9 / 1.95)


def test_a_campaign_that_never_ends_says_so_and_which_plans_carry_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["budget", "--inbound", "11", "--campaign", "500"]) == 0
    out = capsys.readouterr().out
    assert "Campaign          500 sends: never out\n" in out
    assert "received messages alone fill the plan\n" in out
    rows = {line[2:16].strip(): line for line in out.splitlines() if " TPS" in line[:16]}
    assert rows["10 TPS"].split()[-4:] == ["never"] * 4
    assert "6 min 48 s" in rows["15 TPS"]


def test_without_a_campaign_rates_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "--tps", "20"]) == 0
    out = capsys.readouterr().out
    assert "\n> 20 TPS                   7.17" in out
    assert "Campaign" not in out


def test_an_offline_question_reads_no_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TPS", "nonsense")
    assert plan(capsys, "--campaign", "10")["plan_tps"] == 10


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--tps", "0", "'0': expected a whole number from 1 to 5000"),
        ("--tps", "10.5", "'10.5': expected a whole number from 1 to 5000"),
        ("--inbound", "-1", "'-1': expected a number from 0 to 5000"),
        ("--inbound", "nan", "'nan': expected a number from 0 to 5000"),
        ("--inbound", "1e3", "'1e3': expected a number from 0 to 5000"),
        ("--delivered", "95", "'95': expected a number from 0 to 1"),
        ("--read", "70%", "'70%': expected a number from 0 to 1"),
        ("--members", "0", "'0': expected a number from 1 to 1024"),
        ("--headroom", "51", "'51': expected percent from 0 to 50, as 5 or 5%"),
        ("--campaign", "0", "'0': expected a whole number from 1 to 1000000000"),
        ("--campaign", "50k", "'50k': expected a whole number from 1 to 1000000000"),
        ("--dialect", "sms", "invalid choice: 'sms'"),
    ],
)
def test_a_value_out_of_range_ends_with_2_and_the_range(
    option: str, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["budget", option, text])
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_every_combination_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--campaign", "1000000000"],
        ["--dialect", "cloud"],
        ["--tps", "5000", "--members", "1024"],
    ):
        assert main(["budget", *arguments]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["budget", "--help"])
    assert "wa-gateway budget --tps 10 --inbound 2 --campaign 50000" in capsys.readouterr().out


# -- asking a gateway


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_nobody_there_ends_with_1_and_what_to_look_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", address)
    assert main(["budget"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"budget: no gateway answers at {address} (Connection refused); is it running, and does "
        "GATEWAY_ADMIN_LISTEN say here what it says there? With --tps or --campaign no gateway is needed\n"
    )


def test_a_listener_the_kernel_chooses_cannot_be_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
    assert main(["budget"]) == 1
    assert "budget: GATEWAY_ADMIN_LISTEN=127.0.0.1:0: the kernel chose the port" in capsys.readouterr().err


def test_a_wrong_listener_ends_with_78(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "9081")
    assert main(["budget"]) == 78
    assert "budget: GATEWAY_ADMIN_LISTEN='9081': " in capsys.readouterr().err


class _Something(http.server.BaseHTTPRequestHandler):
    """A listener that is no gateway."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is http.server's
        pass


@pytest.fixture
def something(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Something]]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Something) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", f"127.0.0.1:{server.server_port}")
        yield _Something
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"not found"), "(status 404)"),
        ((200, b"<html>"), "(JSON is malformed"),
        ((200, b'{"dialect":"onprem"}'), "(Object missing required field"),
        ((200, b"[" * (1 << 20) + b"["), "(the answer is larger than 1048576 bytes)"),
    ],
)
def test_an_answer_of_something_else_ends_with_1(
    answer: tuple[int, bytes],
    said: str,
    something: type[_Something],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(something, "answer", answer)
    assert main(["budget"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize("arguments", [["budget", "--campaign", "10"], ["budget"]])
def test_the_command_loads_no_server(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom gateway.cli import main\n"
        f"main({arguments!r})\n"
        "assert not {'aiohttp', 'uvloop', 'sqlite3'} & set(sys.modules)"
    )
    environ = {**os.environ, "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environ)

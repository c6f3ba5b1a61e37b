"""The environment to settings: defaults, mistakes, secrets, rules and warnings."""

import pickle
from pathlib import Path

import pytest

from gateway.config import Address, ConfigError, Secret, Settings, TpsCost, load, read
from gateway.config.variables import VARIABLES, Variable
from gateway.events import TpsKind

CLOUD = {"GATEWAY_DIALECT": "cloud", "GATEWAY_NODE_TOKEN": "token", "GATEWAY_NODE_PHONE_ID": "1234"}
TOKEN = "0123456789abcdef"


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return caught.value.problems


def problems_or_none(environ: dict[str, str]) -> list[str]:
    try:
        load(environ)
    except ConfigError as error:
        return error.problems
    return []


def problem(environ: dict[str, str]) -> str:
    [only] = problems(environ)
    return only


def test_every_setting_has_a_default_that_works() -> None:
    assert load({}) == Settings()


def test_what_is_not_ours_is_ignored() -> None:
    assert load({"PATH": "/bin", "GATEWAY_INTERFACE": "CGI/1.1"}) == Settings()


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(dict.fromkeys((variable.name for variable in VARIABLES), " ")) == Settings()


def test_each_form_is_read_into_its_unit() -> None:
    settings = load(
        {
            "GATEWAY_LISTEN": "[::1]:0",
            "GATEWAY_TPS": "80",
            "GATEWAY_TPS_COST": "receive=1, send=2, delivered=0, read=3",
            "GATEWAY_TPS_HEADROOM": "7%",
            "GATEWAY_NODE_TIMEOUT": "2m",
            "GATEWAY_WEBHOOK_BODY_MAX": "64KiB",
            "GATEWAY_LOG_CONTENT": "true",
            "GATEWAY_STORE_PATH": "/srv/wa",
        }
    )
    assert settings.listen == Address("::1", 0)
    assert settings.tps == 80
    assert [settings.tps_cost.of(kind) for kind in TpsKind] == [1, 2, 0, 3]
    assert settings.tps_headroom_percent == 7
    assert settings.node_timeout_ms == 120_000
    assert settings.webhook_body_max_bytes == 65_536
    assert settings.log_content
    assert settings.store_path == Path("/srv/wa")


@pytest.mark.parametrize("variable", [v for v in VARIABLES if v.low is not None], ids=lambda v: v.name)
def test_a_range_includes_its_ends_and_nothing_beyond(variable: Variable) -> None:
    show = variable.form.show
    assert variable.low is not None
    assert variable.high is not None
    for inside in (variable.low, variable.high):
        # Another setting may refuse the value, but not for its range.
        assert not any(variable.expected in said for said in problems_or_none({variable.name: show(inside)}))
    for outside in (variable.low - 1, variable.high + 1):
        assert variable.expected in problem({variable.name: show(outside) if outside >= 0 else "-1"})


def test_all_mistakes_are_reported_at_once() -> None:
    said = problems(
        {
            "GATEWAY_TPS": "abc",
            "GATEWAY_DRAIN_TIMEOUT": "20",
            "GATEWAY_LOG_LEVEL": "trace",
            "GATEWAY_NODE_PASSWORD_FILE": "/nonexistent",
            "GATEWAY_TSP": "3",
        }
    )
    assert "\n".join(said) == (
        "GATEWAY_NODE_PASSWORD_FILE='/nonexistent': cannot be read (No such file or directory); "
        "expected a file with the secret in it\n"
        "GATEWAY_TPS='abc': expected a whole number from 1 to 5000 (default 10; cloud: 80)\n"
        "GATEWAY_DRAIN_TIMEOUT='20': the unit is missing (ms, s, m, h, d); "
        "expected a duration (250ms, 30s, 5m, 24h, 7d) from 0s to 39s (default 30s)\n"
        "GATEWAY_LOG_LEVEL='trace': expected debug, info, warning or error (default info)\n"
        "GATEWAY_TSP: unknown setting; did you mean GATEWAY_TPS?"
    )


def test_an_unknown_name_is_refused_without_showing_its_value() -> None:
    said = problem({"GATEWAY_NODE_PASWORD": "geheim"})
    assert said == "GATEWAY_NODE_PASWORD: unknown setting; did you mean GATEWAY_NODE_PASSWORD?"


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    assert "did you mean" not in problem({"GATEWAY_XYZZY": "1"})


def test_a_setting_that_is_no_secret_has_no_file() -> None:
    assert "unknown setting; did you mean GATEWAY_TPS?" in problem({"GATEWAY_TPS_FILE": "/x"})


def test_a_cost_must_name_all_four_kinds() -> None:
    assert "all four" in problem({"GATEWAY_TPS_COST": "send=1"})
    assert "given twice" in problem({"GATEWAY_TPS_COST": "send=1,send=1,delivered=1,read=1"})
    assert "all four" in problem({"GATEWAY_TPS_COST": "receive=1,send=1,delivered=1,red=1"})
    assert "0 to 10" in problem({"GATEWAY_TPS_COST": "receive=1,send=11,delivered=1,read=1"})


# Secrets


def test_a_secret_is_read_from_the_file_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    reading = read({"GATEWAY_NODE_PASSWORD_FILE": str(tmp_path / "password")})
    assert reading.settings.node_password == Secret("geheim")
    assert reading.sources["node_password"] == f"file {tmp_path / 'password'}"


def test_a_secret_is_read_from_a_credential_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "push_tokens").write_text(f"{TOKEN}\n{TOKEN}2\n")
    reading = read({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert reading.settings.push_tokens == (Secret(TOKEN), Secret(f"{TOKEN}2"))
    assert reading.sources["push_tokens"] == "credential"


def test_a_secret_from_two_places_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node_password").write_text("geheim")
    said = problem(
        {
            "GATEWAY_NODE_PASSWORD": "geheim",
            "GATEWAY_NODE_PASSWORD_FILE": str(tmp_path / "node_password"),
            "CREDENTIALS_DIRECTORY": str(tmp_path),
        }
    )
    assert said == (
        "GATEWAY_NODE_PASSWORD: set by GATEWAY_NODE_PASSWORD and by GATEWAY_NODE_PASSWORD_FILE "
        "and by $CREDENTIALS_DIRECTORY/node_password; keep one"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\n", "is empty"), (b"\xff", "not UTF-8"), (b"x" * 70_000, "larger than 65536 bytes")],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "password").write_bytes(content)
    assert words in problem({"GATEWAY_NODE_PASSWORD_FILE": str(tmp_path / "password")})


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "push_tokens").write_text("geheim")
    for environ in ({"GATEWAY_PUSH_TOKENS": "geheim"}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        said = problem(environ)
        assert "geheim" not in said
        assert "token 1 has 6 characters" in said


def test_a_secret_shows_itself_only_when_asked() -> None:
    settings = load({"GATEWAY_NODE_PASSWORD": "geheim", "GATEWAY_PUSH_TOKENS": TOKEN})
    for shown in (repr(settings), str(settings), f"{settings.node_password}", f"{settings.push_tokens}"):
        assert "geheim" not in shown
        assert TOKEN not in shown
    with pytest.raises(TypeError):
        pickle.dumps(settings.node_password)
    assert settings.node_password is not None
    assert settings.node_password.reveal() == "geheim"
    assert settings.node_password.matches("geheim")
    assert not settings.node_password.matches("gehéim")


def test_a_password_in_a_url_is_not_shown() -> None:
    assert "geheim" not in problem({"GATEWAY_NODE_URL": "https://admin:geheim@node:9090"})


@pytest.mark.parametrize("token", ["0123456789 abcdef", "0123456789abcdéf"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    assert "non-ASCII" in problem({"GATEWAY_PUSH_TOKENS": token})


# Defaults that depend on other settings


def test_the_cloud_has_its_own_defaults() -> None:
    settings = load(CLOUD)
    assert settings.node_url == "https://graph.facebook.com/v23.0"
    assert settings.tps == 80
    assert settings.tps_cost == TpsCost(receive=1, send=1, delivered=0, read=0)


def test_a_variable_that_is_set_goes_before_the_default_of_its_dialect() -> None:
    assert load(CLOUD | {"GATEWAY_TPS": "20"}).tps == 20


def test_headroom_is_kept_only_where_receipts_cost() -> None:
    free_receipts = {"GATEWAY_TPS_COST": "receive=1,send=1,delivered=0,read=0"}
    assert load({}).tps_headroom_percent == 5
    assert load(free_receipts).tps_headroom_percent == 0
    assert load(free_receipts | {"GATEWAY_TPS_HEADROOM": "3%"}).tps_headroom_percent == 3


def test_events_go_where_messages_go_unless_told_otherwise() -> None:
    message = {"GATEWAY_MESSAGE_WEBHOOK_URL": "http://bot/messages"}
    assert load(message).event_webhook_url == "http://bot/messages"
    assert (
        load(message | {"GATEWAY_EVENT_WEBHOOK_URL": "http://bot/events"}).event_webhook_url
        == "http://bot/events"
    )


def test_the_store_is_in_the_state_directory_systemd_made() -> None:
    assert load({"STATE_DIRECTORY": "/var/lib/wa-gateway:/var/lib/other"}).store_path == Path(
        "/var/lib/wa-gateway"
    )


# Rules between settings


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"GATEWAY_TLS_CERT": "/c"}, "GATEWAY_TLS_KEY: unset"),
        ({"GATEWAY_TLS_KEY": "/k"}, "GATEWAY_TLS_CERT: unset"),
        ({"GATEWAY_ADMIN_LISTEN": "127.0.0.1:9080"}, "the same as GATEWAY_LISTEN"),
        ({"GATEWAY_NODE_URL": "https://node/?a=b"}, "has a query"),
        ({"GATEWAY_NODE_TLS_VERIFY": "false", "GATEWAY_NODE_CA": "/ca"}, "keep one"),
        ({"GATEWAY_WEBHOOK_PATH": "/v1/messages"}, "/v1 is the push API's"),
        ({"GATEWAY_TPS": "2", "GATEWAY_TPS_COST": "receive=1,send=3,delivered=0,read=0"}, "never fits"),
        ({"GATEWAY_BACKEND_BACKOFF_MIN": "1m"}, "more than GATEWAY_BACKEND_BACKOFF_MAX='30s'"),
        ({"GATEWAY_STORE_MAX_BYTES": "16MiB", "GATEWAY_PUSH_BODY_MAX": "5MiB"}, "more than a quarter"),
        (
            {"GATEWAY_MESSAGE_WEBHOOK_URL": "off"},
            "expected an http://, https:// or http+unix:// URL (default",
        ),
        ({"GATEWAY_EVENT_WEBHOOK_URL": "no"}, "expected an http://, https:// or http+unix:// URL, or off"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environ: dict[str, str], words: str) -> None:
    assert words in problem(environ)


def test_the_cloud_needs_a_token_and_a_phone_number_id() -> None:
    said = problems({"GATEWAY_DIALECT": "cloud"})
    assert [line.partition(":")[0] for line in said] == ["GATEWAY_NODE_TOKEN", "GATEWAY_NODE_PHONE_ID"]


def test_port_zero_may_be_asked_for_twice() -> None:
    load({"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0"})


# Warnings


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "the push API is closed"),
        ({}, "the node will refuse the login"),
        ({"GATEWAY_NODE_PASSWORD": "geheim"}, "GATEWAY_NODE_PASSWORD: a secret in a variable"),
        ({"GATEWAY_NODE_TOKEN": "x"}, "GATEWAY_NODE_TOKEN: has no effect with GATEWAY_DIALECT=onprem"),
        ({"GATEWAY_NODE_TLS_VERIFY": "false"}, "can read its password"),
        ({"GATEWAY_LOG_CONTENT": "true"}, "written to the log"),
        ({"GATEWAY_LISTEN": "0.0.0.0:9080", "GATEWAY_PUSH_TOKENS": TOKEN}, "over plain HTTP"),
    ],
)
def test_what_may_not_be_meant_is_warned_about(environ: dict[str, str], words: str) -> None:
    assert any(words in warning for warning in read(environ).warnings)


def test_a_complete_configuration_has_no_warning(tmp_path: Path) -> None:
    (tmp_path / "node_password").write_text("geheim")
    (tmp_path / "push_tokens").write_text(TOKEN)
    assert read({"CREDENTIALS_DIRECTORY": str(tmp_path)}).warnings == []

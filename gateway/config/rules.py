"""What must hold between settings, and what holds and still deserves a word."""

from gateway.config.settings import Settings
from gateway.config.values import show_duration, show_size
from gateway.config.variables import BY_FIELD, VARIABLES

_ONLY_FOR = {
    "node_user": "onprem",
    "node_password": "onprem",
    "node_token": "cloud",
    "node_phone_id": "cloud",
    "webhook_verify_token": "cloud",
}

_SHARE_OF_STORE = 4
"""The store must take this many of the largest body at once, or a few of them close it."""


def problems_of(settings: Settings) -> list[str]:
    """A full sentence for each pair of settings that cannot both be meant."""
    s = settings
    problems = []
    if (s.tls_cert is None) != (s.tls_key is None):
        missing = "GATEWAY_TLS_CERT" if s.tls_cert is None else "GATEWAY_TLS_KEY"
        problems.append(f"{missing}: unset; TLS needs certificate and key, set both or neither")
    if s.listen == s.admin_listen and s.listen.port != 0:
        problems.append(
            f"GATEWAY_ADMIN_LISTEN='{s.admin_listen}': the same as GATEWAY_LISTEN; each needs its own port"
        )
    if s.dialect == "cloud":
        if s.node_token is None:
            problems.append(
                "GATEWAY_NODE_TOKEN: unset; GATEWAY_DIALECT=cloud needs the access token of the Graph API"
            )
        if s.node_phone_id is None:
            problems.append(
                "GATEWAY_NODE_PHONE_ID: unset; GATEWAY_DIALECT=cloud needs the phone number ID to send from"
            )
        if s.node_receipt_valve:
            problems.append(
                "GATEWAY_NODE_RECEIPT_VALVE=true: GATEWAY_DIALECT=cloud has no such switch; remove it"
            )
    if "?" in s.node_url:
        problems.append(
            f"GATEWAY_NODE_URL={s.node_url!r}: has a query; expected the base that API paths are added to"
        )
    if s.node_ca is not None and not s.node_tls_verify:
        problems.append("GATEWAY_NODE_CA: set while GATEWAY_NODE_TLS_VERIFY=false ignores it; keep one")
    if s.webhook_path == "/v1" or s.webhook_path.startswith("/v1/"):
        problems.append(
            f"GATEWAY_WEBHOOK_PATH={s.webhook_path!r}: /v1 is the push API's; choose another, such as /webhook"
        )
    if s.tps_cost.send > s.tps // int(s.shards) and s.tps >= int(s.shards):
        problems.append(
            f"GATEWAY_TPS_COST: send={s.tps_cost.send} never fits into GATEWAY_TPS={s.tps}; lower one or raise the other"
        )
    shards = int(s.shards)
    if s.shard_index >= shards:
        problems.append(
            f"GATEWAY_SHARD_INDEX={s.shard_index}: there is no such shard of GATEWAY_SHARDS={shards}; "
            f"expected 0 to {shards - 1}"
        )
    if s.tps < shards:
        problems.append(
            f"GATEWAY_TPS={s.tps}: less than one event a second for each of GATEWAY_SHARDS={shards}; "
            "expected the whole number's plan"
        )
    if s.backend_backoff_min_ms > s.backend_backoff_max_ms:
        problems.append(
            f"GATEWAY_BACKEND_BACKOFF_MIN='{show_duration(s.backend_backoff_min_ms)}': more than "
            f"GATEWAY_BACKEND_BACKOFF_MAX='{show_duration(s.backend_backoff_max_ms)}'; expected at most that"
        )
    for field, body_bytes in (
        ("webhook_body_max_bytes", s.webhook_body_max_bytes),
        ("push_body_max_bytes", s.push_body_max_bytes),
    ):
        if body_bytes * _SHARE_OF_STORE > s.store_max_bytes:
            problems.append(
                f"{BY_FIELD[field].name}='{show_size(body_bytes)}': more than a quarter of "
                f"GATEWAY_STORE_MAX_BYTES='{show_size(s.store_max_bytes)}'; lower one or raise the other"
            )
    return problems


def warnings_of(settings: Settings, sources: dict[str, str]) -> list[str]:
    """A full sentence for each setting that works and may not be what was meant; `sources` by field."""
    s = settings
    warnings = [
        f"{variable.name}: a secret in a variable is inherited by every child process; "
        f"{variable.file_name} or a systemd credential {variable.credential!r} is not"
        for variable in VARIABLES
        if variable.form.is_secret and sources[variable.field] == "env"
    ]
    warnings += [
        f"{BY_FIELD[field].name}: has no effect with GATEWAY_DIALECT={s.dialect}"
        for field, dialect in _ONLY_FOR.items()
        if dialect != s.dialect and sources[field] != "default"
    ]
    if not s.push_tokens:
        warnings.append("GATEWAY_PUSH_TOKENS: unset; the push API is closed")
    elif s.tls_cert is None and not s.listen.is_loopback:
        warnings.append(f"GATEWAY_TLS_CERT: unset; push tokens reach {s.listen} over plain HTTP")
    if s.dialect == "onprem" and s.node_password is None:
        warnings.append("GATEWAY_NODE_PASSWORD: unset; the node will refuse the login and nothing is sent")
    if not s.node_tls_verify and s.node_url.startswith("https:"):
        warnings.append(
            "GATEWAY_NODE_TLS_VERIFY=false: who stands between us and the node can read its password"
        )
    if s.log_content:
        warnings.append("GATEWAY_LOG_CONTENT=true: messages and phone numbers are written to the log")
    return warnings

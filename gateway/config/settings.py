"""Every setting: its name, unit, range, default and meaning, in this one place.

The variable of a field is `GATEWAY_` and the field's name in capitals, without the unit: `node_timeout_ms` is
set by `GATEWAY_NODE_TIMEOUT=10s`. `load.py` makes a `Settings`; tests too: `load({"GATEWAY_TPS": "20"})`.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.config import fields
from gateway.config.secret import Secret
from gateway.config.values import Address, parse_duration_ms, parse_size_bytes
from gateway.events import TpsKind

Dialect = Literal["onprem", "cloud"]

Limiter = Literal["concurrency", "backend_tps", "batch", "fold", "digest", "shed", "refuse", "age"]

StoreSync = Literal["full", "os", "off"]

ReceiptPolicy = Literal["forward", "batch", "fold", "digest", "drop"]
"""The least that is done to receipts of a kind, whatever the load."""

_Cost = Annotated[int, msgspec.Meta(ge=0, le=10)]


class TpsCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one event of each `TpsKind` takes from the number's budget."""

    receive: _Cost
    send: _Cost
    delivered: _Cost
    read: _Cost

    def of(self, kind: TpsKind) -> int:
        cost: int = getattr(self, kind.label)
        return cost

    @property
    def charges_receipts(self) -> bool:
        return self.delivered > 0 or self.read > 0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration of one gateway. Secrets mask themselves in its repr."""

    # Doors
    listen: Annotated[Address, fields.address("Where webhooks and the push API are served.")] = Address(
        "127.0.0.1", 9080
    )
    admin_listen: Annotated[
        Address, fields.address("Where health, metrics and administration are served.")
    ] = Address("127.0.0.1", 9081)
    tls_cert: Annotated[
        Path | None, fields.path("PEM certificate chain for LISTEN; unset serves plain HTTP.")
    ] = None
    tls_key: Annotated[Path | None, fields.path("PEM private key of TLS_CERT.")] = None
    connections_max: Annotated[
        int,
        fields.count(16, 65_536, "Connections to LISTEN at once; for more, idle ones are closed."),
    ] = 512

    # The number
    dialect: Annotated[
        Dialect, fields.choice("Wire format: the On-Premises WebApp's or the Cloud API's.")
    ] = "onprem"
    tps: Annotated[int, fields.count(1, 5_000, "Events a second WhatsApp allows this number.")] = 10
    tps_cost: Annotated[
        TpsCost,
        fields.pairs(
            "receive=N,send=N,delivered=N,read=N, all four, each N from 0 to 10",
            "`receive=N,send=N,…`, each 0 to 10",
            "What one event of each kind takes from TPS.",
        ),
    ] = TpsCost(1, 1, 1, 1)
    tps_headroom_percent: Annotated[
        int,
        fields.percent(
            0,
            50,
            "Share of TPS left unused, so that a queue at WhatsApp's end drains.",
            "5%; where TPS_COST charges no receipts: 0%",
        ),
    ] = 5
    send_floor_percent: Annotated[
        int,
        fields.percent(
            0,
            50,
            "Share of TPS that sends keep when arrivals alone fill it; above 0 the limit may be passed by it.",
        ),
    ] = 0
    bulk_floor_percent: Annotated[
        int, fields.percent(0, 50, "Share of sends that are bulk while bulk waits, whatever else does.")
    ] = 5
    reply_share_percent: Annotated[
        int, fields.percent(50, 100, "Most of all sends that are replies while other sends wait.")
    ] = 80
    fanout_window_ms: Annotated[
        int,
        fields.duration(
            "0s", "1m", "Receipts of groups that may be outstanding, as time at TPS; 0s: no such limit."
        ),
    ] = parse_duration_ms("5s")
    shards: Annotated[
        Literal["1", "2", "4", "8", "16", "32"],
        fields.choice("Shards of the number's node; each has a gateway with its part of TPS."),
    ] = "1"
    shard_index: Annotated[int, fields.count(0, 31, "Which of the SHARDS this gateway serves, from 0.")] = 0

    # The node
    node_url: Annotated[
        str, fields.url("Where the node's API is: the WebApp, or the Graph API with its version.")
    ] = "https://127.0.0.1:9090"
    node_user: Annotated[
        str,
        fields.text(
            r"[^:\x00-\x1f\x7f]{1,64}", "1 to 64 characters without a colon", "User of the WebApp (onprem)."
        ),
    ] = "admin"
    node_password: Annotated[Secret | None, fields.secret("Password of NODE_USER (onprem).")] = None
    node_token: Annotated[Secret | None, fields.secret("Access token of the Graph API (cloud).")] = None
    node_phone_id: Annotated[
        str | None, fields.text("[0-9]{1,32}", "1 to 32 digits", "Phone number ID of the Graph API (cloud).")
    ] = None
    node_ca: Annotated[
        Path | None, fields.path("PEM certificates to trust for the node, instead of the system's.")
    ] = None
    node_tls_verify: Annotated[
        bool, fields.switch("Check the node's certificate. False for a self-signed WebApp on this machine.")
    ] = True
    node_timeout_ms: Annotated[int, fields.duration("100ms", "2m", "Longest wait for the node's answer.")] = (
        parse_duration_ms("10s")
    )
    node_connections: Annotated[int, fields.count(1, 256, "Sends under way at once.")] = 16
    node_receipt_valve: Annotated[
        bool,
        fields.switch(
            "Switch delivered and read off at the node while overrun (onprem; NODE_USER must be an admin)."
        ),
    ] = False

    # Sends
    send_attempts: Annotated[
        int, fields.count(1, 100, "Attempts before a send fails; a 429 counts as none.")
    ] = 8
    uncertain: Annotated[
        Literal["resend", "park"],
        fields.choice(
            "A send without an answer, which the node may have taken: sent again, or failed and told so."
        ),
    ] = "resend"
    send_queue_max: Annotated[
        int, fields.count(1, 10_000_000, "Sends waiting; beyond it a push is answered 429.")
    ] = 100_000
    send_wait_max_ms: Annotated[
        int,
        fields.duration(
            "0s",
            "30d",
            "Longest computed wait of a send; beyond it a push is answered 429; 0s: no such limit.",
        ),
    ] = 0
    send_ttl_ms: Annotated[
        int,
        fields.duration(
            "0s", "30d", "How long a send that does not say it may wait; 0s: as long as it takes."
        ),
    ] = 0
    send_retention_ms: Annotated[
        int,
        fields.duration(
            "1m",
            "30d",
            "How long the status of a finished send can be asked; LEDGER_AGE where that is longer.",
        ),
    ] = parse_duration_ms("24h")

    pair_limit_interval_ms: Annotated[
        int,
        fields.duration("0s", "1h", "Least mean time between sends to one recipient; 0s: no such limit."),
    ] = 0
    pair_limit_burst: Annotated[
        int, fields.count(1, 1_000, "Sends to one recipient at once, paid back at that pace.")
    ] = 45

    # Webhooks from the node
    webhook_path: Annotated[
        str,
        fields.text(
            r"/[!-\"$->@-~]*", "a path that starts with /, without ? # or spaces", "Path the node posts to."
        ),
    ] = "/webhook"
    webhook_body_max_bytes: Annotated[
        int, fields.size("1KiB", "64MiB", "Largest webhook body taken; WhatsApp sends up to 3MiB.")
    ] = parse_size_bytes("3MiB")
    webhook_verify_token: Annotated[
        Secret | None, fields.secret("Answer to the verification GET of Meta (cloud); unset refuses it.")
    ] = None
    webhook_app_secret: Annotated[
        Secret | None,
        fields.secret("App secret; when set, a webhook must carry a valid X-Hub-Signature-256."),
    ] = None

    # The backend
    message_webhook_url: Annotated[
        str,
        fields.url(
            "Where messages are forwarded; `http+unix://%2Frun%2Fbot.sock/webhook`: through a unix socket."
        ),
    ] = "http://127.0.0.1:8080/webhook"
    event_webhook_url: Annotated[
        str,
        fields.url_or_off(
            "Where receipts and failures are forwarded; off: nowhere, they are counted and can be asked for.",
            default_words="MESSAGE_WEBHOOK_URL",
        ),
    ] = "http://127.0.0.1:8080/webhook"
    webhook_secret: Annotated[
        tuple[Secret, ...],
        fields.signing_keys(
            "Signs what is forwarded (Standard Webhooks); two while one is replaced; unset: not signed."
        ),
    ] = ()
    backend_concurrency: Annotated[
        int,
        fields.count(
            1,
            1_024,
            "Most requests under way at once, per destination; on one server a quarter of it is for events.",
        ),
    ] = 64
    backend_tps: Annotated[
        int, fields.count(0, 100_000, "Most requests a second, messages first; 0: no such limit.")
    ] = 0
    backend_timeout_ms: Annotated[
        int, fields.duration("100ms", "2m", "Longest wait for the backend's answer.")
    ] = parse_duration_ms("10s")
    backend_backoff_min_ms: Annotated[
        int, fields.duration("10ms", "1m", "First wait before a retry; it doubles.")
    ] = parse_duration_ms("500ms")
    backend_backoff_max_ms: Annotated[int, fields.duration("100ms", "1h", "Longest wait before a retry.")] = (
        parse_duration_ms("30s")
    )
    backend_attempts: Annotated[
        int,
        fields.count(
            1,
            10_000,
            "Failed attempts before a message is parked; none count while the webhook as a whole fails.",
        ),
    ] = 50
    backend_ca: Annotated[
        Path | None, fields.path("PEM certificates to trust for the backend, instead of the system's.")
    ] = None

    # Receipts
    receipts_sent: Annotated[
        ReceiptPolicy, fields.choice("The least done to `sent` receipts, whatever the load.")
    ] = "forward"
    receipts_delivered: Annotated[
        ReceiptPolicy, fields.choice("The same for `delivered` of single chats.")
    ] = "forward"
    receipts_read: Annotated[ReceiptPolicy, fields.choice("The same for `read` of single chats.")] = "forward"
    receipts_group: Annotated[
        ReceiptPolicy, fields.choice("The same for both, of the members of groups.")
    ] = "forward"
    receipts_digest: Annotated[
        bool,
        fields.switch("Under load, turn receipts of a group into counts for each message (a body of ours)."),
    ] = True
    receipts_wait_max_ms: Annotated[
        int,
        fields.duration(
            "10s", "30d", "Waiting time by which the load is measured; an eighth of it sheds the first."
        ),
    ] = parse_duration_ms("1h")
    receipts_age_max_ms: Annotated[
        int,
        fields.duration("0s", "30d", "Older receipts are not forwarded any more; 0s: whatever their age."),
    ] = 0
    ledger_messages: Annotated[
        int,
        fields.count(
            1_000, 10_000_000, "Messages whose receipts can be asked for, about 50 bytes of memory each."
        ),
    ] = 200_000
    ledger_age_ms: Annotated[
        int, fields.duration("1m", "90d", "How long after their last receipt they can.")
    ] = parse_duration_ms("24h")
    batch_receipts: Annotated[int, fields.count(1, 10_000, "Most receipts in one batch.")] = 100
    batch_bytes: Annotated[
        int, fields.size("1KiB", "16MiB", "Size at which a batch is full.", "BATCH_BYTES")
    ] = parse_size_bytes("512KiB")
    batch_delay_ms: Annotated[
        int, fields.duration("0s", "1m", "Longest wait of a receipt for others, where a policy batches it.")
    ] = parse_duration_ms("200ms")

    # The push API
    push_tokens: Annotated[
        tuple[Secret, ...], fields.tokens("Bearer tokens of those who may push; unset closes the push API.")
    ] = ()
    push_wait_ms: Annotated[
        int,
        fields.duration("0s", "1m", "How long a push without `Prefer: wait=N` waits for the node's answer."),
    ] = 0
    idempotency_age_ms: Annotated[
        int, fields.duration("1m", "30d", "How long an `Idempotency-Key` is remembered, of the last million.")
    ] = parse_duration_ms("24h")
    push_body_max_bytes: Annotated[int, fields.size("1KiB", "64MiB", "Largest push body taken.")] = (
        parse_size_bytes("1MiB")
    )

    # Memory and disk
    store_path: Annotated[
        Path, fields.path("Directory of the store.", default_words="$STATE_DIRECTORY; else: ./var")
    ] = Path("var")
    store_sync: Annotated[
        StoreSync,
        fields.choice(
            "What an answer of 2xx survives. `full`: a power cut. `os`: the end of the process, not of the machine."
            " `off`: nothing, all is kept in memory."
        ),
    ] = "full"
    store_max_bytes: Annotated[
        int,
        fields.size(
            "16MiB",
            "1TiB",
            "Disk the store may use; near it receipts, then all, are refused.",
            "STORE_MAX_BYTES",
        ),
    ] = parse_size_bytes("2GiB")
    queue_slots: Annotated[
        int, fields.count(16, 1_000_000, "Queue places in memory, per class; the rest waits on disk.")
    ] = 4_096
    dead_max: Annotated[
        int,
        fields.count(0, 100_000, "Dead letters kept, the newest; none while the store is over half full."),
    ] = 10_000
    dedupe_keys: Annotated[
        int, fields.count(1_000, 50_000_000, "Webhook events remembered to drop repeats.")
    ] = 500_000
    dedupe_age_ms: Annotated[int, fields.duration("1m", "30d", "How long they are remembered.")] = (
        parse_duration_ms("24h")
    )

    # Operation
    drain_timeout_ms: Annotated[
        int,
        fields.duration("0s", "39s", "Longest wait for work under way when stopping; the unit kills at 45s."),
    ] = parse_duration_ms("30s")
    dry_run: Annotated[
        frozenset[Limiter], fields.choices("Limiters that only count what they would have held or dropped.")
    ] = frozenset()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], fields.choice("Least level that is logged.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        fields.choice("Form of a log line; auto is text on a terminal, else JSON."),
    ] = "auto"
    log_content: Annotated[
        bool, fields.switch("Log message text and whole phone numbers. For tests: they are personal data.")
    ] = False


CLOUD_PRESET: Final[dict[str, Any]] = {
    "tps": 80,
    "tps_cost": TpsCost(receive=1, send=1, delivered=0, read=0),
    "node_url": "https://graph.facebook.com/v23.0",
    "pair_limit_interval_ms": parse_duration_ms("6s"),
}
"""Defaults that differ where `dialect` is cloud."""

SECTIONS: Final = {
    "listen": "Doors",
    "dialect": "The number",
    "node_url": "The node",
    "send_attempts": "Sends",
    "webhook_path": "Webhooks from the node",
    "message_webhook_url": "The backend",
    "receipts_sent": "Receipts",
    "push_tokens": "The push API",
    "store_path": "Memory and disk",
    "drain_timeout_ms": "Operation",
}
"""Titles for the table and the environment file, by the first field of each."""

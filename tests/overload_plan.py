"""What one run of the inbound side is, drawn whole from a seed: settings, traffic, the backend's troubles, restarts."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.config import Settings, load
from gateway.events import ReceiptMask

LENGTH_S: Final = 20.0
"""Of the traffic; what is left waits until all troubles are over, and is worked off then."""
STORE_MAX_BYTES: Final = 16 << 20
RANKS: Final = {"sent": 1, "delivered": 2, "read": 3}
"""Receipts by what they say; failures and unknown statuses have no rank."""
CLASSES: Final = ("group_read", "group_delivered", "sent", "delivered", "read")
"""In the order in which they give way."""
LIMITERS: Final = ("batch", "fold", "digest", "shed", "refuse", "age", "concurrency", "backend_tps")


@dataclass(frozen=True, slots=True)
class Item:
    """One message or status, and what makes it the same when it comes again."""

    word: str
    """`message`, or a status: `sent`, `delivered`, `read`, `failed`, `warning`."""
    message_id: str
    who: str
    group: str = ""

    @property
    def cls(self) -> str | None:
        """Its class on the ladder; None: it has no place there."""
        if self.word not in RANKS:
            return None
        return f"group_{self.word}" if self.group and self.word != "sent" else self.word


@dataclass(frozen=True, slots=True)
class Webhook:
    """A body of the node, and when it comes first."""

    at_s: float
    items: tuple[Item, ...]
    is_cloud: bool
    is_probe: bool = False
    """One fresh receipt of each class: it shows at once which classes are shed."""

    @property
    def body(self) -> bytes:
        messages = [_message(item) for item in self.items if item.word == "message"]
        statuses = [_status(item, is_cloud=self.is_cloud) for item in self.items if item.word != "message"]
        value: dict[str, Any] = {}
        if messages:
            value["messages"] = messages
        if statuses:
            value["statuses"] = statuses
        if not self.is_cloud:
            return json.dumps(value).encode()
        changes = [{"field": "messages", "value": {"messaging_product": "whatsapp", **value}}]
        return json.dumps(
            {"object": "whatsapp_business_account", "entry": [{"id": "9", "changes": changes}]}
        ).encode()


def _message(item: Item) -> dict[str, Any]:
    return {"id": item.message_id, "from": item.who, "type": "text", "text": {"body": "hi"}}


def _status(item: Item, *, is_cloud: bool) -> dict[str, Any]:
    made = {"id": item.message_id, "status": item.word, "timestamp": "1700000000"}
    if not item.group:
        return {**made, "recipient_id": item.who}
    if is_cloud:
        whose = {"recipient_id": item.group, "recipient_type": "group"}
        return {**made, **whose, "recipient_participant_id": item.who}
    return {**made, "recipient_id": item.who, "group_id": item.group}


@dataclass(frozen=True, slots=True)
class Trouble:
    """How one destination behaves until all troubles are over, and how long it takes for good."""

    latency_s: float
    places: int = 1_000
    """Requests at once; beyond them it answers 503."""
    error_share: float = 0.0
    errors: tuple[int | None, ...] = (503,)
    batch_max: int = 1_000_000
    """Statuses in a body; beyond them it answers `batch_status`."""
    batch_status: int = 413
    digest_status: int = 200
    poison_share: float = 0.0
    """Of all items, those it answers `poison_status`."""
    poison_status: int = 400
    down_s: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Restart:
    """An end of the process, and how long nobody is there."""

    at_s: float
    is_graceful: bool
    turns: int
    """Turns of the loop after that moment, so that it comes anywhere between."""
    is_written: bool
    """Killed: whether what was submitted is on disk, though nobody was told."""
    away_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    settings: Settings
    webhooks: tuple[Webhook, ...]
    masks: dict[str, ReceiptMask]
    messages: Trouble
    events: Trouble
    restarts: tuple[Restart, ...] = ()
    disk_shares: tuple[tuple[float, float], ...] = ()
    """(from when, share of the store's bound in use)."""
    commit_s: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """(from when, how long a commit takes)."""
    stalls: tuple[tuple[float, float], ...] = ()
    """(when, how long the loop stands still)."""
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def has_kills(self) -> bool:
        return any(not restart.is_graceful for restart in self.restarts)

    def disk_share(self, at_s: float) -> float:
        """How much of the store's bound is in use then."""
        return latest(self.disk_shares, at_s, 0.1)

    def describe(self) -> str:
        """One line for whoever looks into a seed."""
        said = " ".join(f"{name}={value}" for name, value in sorted(self.variables.items()))
        return (
            f"seed {self.seed}: {len(self.webhooks)} webhooks, masks {len(self.masks)}, {self.restarts}, disk "
            f"{self.disk_shares}, commits {self.commit_s}, stalls {self.stalls}, messages {self.messages}, events "
            f"{self.events}, ledger {self.settings.ledger_messages}; {said}"
        )


def latest(steps: tuple[tuple[float, float], ...], now_s: float, otherwise: float) -> float:
    """The value of the step that began last."""
    begun = [(at_s, value) for at_s, value in steps if at_s <= now_s]
    return max(begun)[1] if begun else otherwise


def draw(seed: int) -> Plan:
    """The run of a seed; the same one for ever, as long as this file is not changed."""
    rng = random.Random(f"{seed}/overload")
    variables = _draw_variables(rng)
    settings = load({f"GATEWAY_{name}": value for name, value in variables.items()})
    if rng.random() < 0.15:
        settings = msgspec.structs.replace(settings, ledger_messages=rng.randint(3, 30))
    webhooks = _draw_webhooks(rng)
    ids = sorted({item.message_id for webhook in webhooks for item in webhook.items if not webhook.is_probe})
    masks = {}
    if rng.random() < 0.4:
        masks = {message_id: rng.choice(list(ReceiptMask)) for message_id in ids if rng.random() < 0.3}
    return Plan(
        seed=seed,
        settings=settings,
        webhooks=webhooks,
        masks=masks,
        messages=_draw_trouble(rng),
        events=_draw_trouble(rng),
        restarts=_draw_restarts(rng),
        disk_shares=_draw_disk(rng),
        commit_s=_draw_commits(rng),
        stalls=_draw_stalls(rng),
        variables=variables,
    )


def _draw_variables(rng: random.Random) -> dict[str, str]:
    policies = ["forward"] * 4 + ["batch", "fold", "digest", "drop"]
    variables = {f"RECEIPTS_{name}": rng.choice(policies) for name in ("SENT", "DELIVERED", "READ", "GROUP")}
    if rng.random() < 0.5:
        variables |= dict.fromkeys(
            ("RECEIPTS_SENT", "RECEIPTS_DELIVERED", "RECEIPTS_READ"), rng.choice(policies)
        )
    event_url = rng.choice(
        ["http://127.0.0.1:8080/events"] * 4 + ["http://127.0.0.2:8080/events"] * 4 + ["off"]
    )
    dry_run = rng.sample(LIMITERS, rng.randint(1, 4)) if rng.random() < 0.25 else []
    return {
        **variables,
        "RECEIPTS_DIGEST": rng.choice(["true", "true", "false"]),
        "RECEIPTS_WAIT_MAX": rng.choice(["10s", "10s", "60s", "1h"]),
        "RECEIPTS_AGE_MAX": rng.choice(["0s", "0s", "2s", "10s"]),
        "MESSAGE_WEBHOOK_URL": "http://127.0.0.1:8080/messages",
        "EVENT_WEBHOOK_URL": event_url,
        "BACKEND_CONCURRENCY": rng.choice(["1", "2", "4", "8"]),
        "BACKEND_TPS": rng.choice(["0", "0", "0", "50"]),
        "BACKEND_ATTEMPTS": rng.choice(["2", "10000", "10000", "10000"]),
        "BACKEND_BACKOFF_MIN": rng.choice(["10ms", "500ms"]),
        "BACKEND_BACKOFF_MAX": rng.choice(["1s", "5s"]),
        "BATCH_RECEIPTS": rng.choice(["1", "3", "20", "500"]),
        "BATCH_BYTES": rng.choice(["1KiB", "512KiB"]),
        "BATCH_DELAY": rng.choice(["0s", "50ms", "200ms", "3s"]),
        "QUEUE_SLOTS": rng.choice(["16", "64", "4096"]),
        "STORE_MAX_BYTES": "16MiB",
        "DEDUPE_KEYS": "20000",
        "LEDGER_MESSAGES": "1000",
        "DRY_RUN": ",".join(dry_run),
    }  # fmt: skip


def _draw_webhooks(rng: random.Random) -> tuple[Webhook, ...]:
    items = [*_draw_messages(rng), *_draw_singles(rng), *_draw_groups(rng)]
    items.sort(key=lambda timed: timed[0])
    cloud_share = rng.choice([0.0, 0.0, 0.5, 1.0])
    is_cloud = {item.message_id: rng.random() < cloud_share for _, item in items}
    bundled = rng.choice([0.0, 0.2, 0.6])
    webhooks: list[Webhook] = []
    while items:
        at_s, first = items.pop(0)
        bundle = [first]
        while items and len(bundle) < 8 and rng.random() < bundled:
            bundle.append(items.pop(0)[1])
        for of_cloud in (False, True):
            chosen = tuple(item for item in bundle if is_cloud[item.message_id] is of_cloud)
            if chosen:
                webhooks.append(Webhook(at_s, chosen, of_cloud))
    webhooks += _draw_duplicates(rng, webhooks)
    step_s = rng.choice([0.5, 1.0])
    webhooks += [_probe(number, number * step_s) for number in range(int(LENGTH_S / step_s))]
    return tuple(sorted(webhooks, key=lambda webhook: webhook.at_s))


def _draw_duplicates(rng: random.Random, webhooks: list[Webhook]) -> list[Webhook]:
    """Of some, alone or together with what may be new, or even with themselves."""
    found = []
    for webhook in webhooks:
        if rng.random() < 0.1:
            other = rng.choice(webhooks)
            is_joint = other.is_cloud is webhook.is_cloud and rng.random() < 0.5
            items = (*webhook.items, *(other.items if is_joint else ()))
            found.append(Webhook(webhook.at_s + rng.uniform(0.0, 5.0), items, webhook.is_cloud))
    return found


def _probe(number: int, at_s: float) -> Webhook:
    items = tuple(
        Item(
            cls.removeprefix("group_"),
            f"probe-{number}-{cls}",
            "15550100555",
            "group-of-probes" if cls.startswith("group_") else "",
        )
        for cls in CLASSES
    )
    return Webhook(at_s, items, is_cloud=number % 2 == 1, is_probe=True)


Timed = tuple[float, Item]


def _draw_messages(rng: random.Random) -> Iterable[Timed]:
    for number in range(rng.randint(5, 40)):
        yield rng.uniform(0.0, LENGTH_S), Item("message", f"in-{number}", f"1555010{rng.randint(0, 5):04d}")


def _draw_singles(rng: random.Random) -> Iterable[Timed]:
    burst_s = rng.choice([0.0, 0.0, rng.uniform(0.0, LENGTH_S)])
    for number in range(rng.randint(10, 60)):
        who = f"1555011{rng.randint(0, 9):04d}"
        at_s = burst_s or rng.uniform(0.0, LENGTH_S)
        words = ["sent", "delivered", "read"][: rng.randint(1, 3)]
        if rng.random() < 0.1:
            words.append("failed")
        if rng.random() < 0.1:
            words.append("warning")
        yield from _spread(rng, at_s, [Item(word, f"out-{number}", who) for word in words])


def _draw_groups(rng: random.Random) -> Iterable[Timed]:
    for number in range(rng.randint(0, 4)):
        group, at_s = f"15550100999-{number}", rng.uniform(0.0, LENGTH_S)
        yield at_s, Item("sent", f"to-group-{number}", group, group)
        for member in range(rng.randint(2, 25)):
            who = f"1555012{member:04d}"
            words = ["delivered", "read"][: rng.randint(1, 2)]
            yield from _spread(rng, at_s, [Item(word, f"to-group-{number}", who, group) for word in words])


def _spread(rng: random.Random, at_s: float, items: list[Item]) -> Iterable[Timed]:
    """Statuses of one message and phone: mostly in order, soon after each other or not."""
    if rng.random() < 0.25:
        rng.shuffle(items)
    for item in items:
        at_s += rng.choice([0.0, 0.01, rng.uniform(0.0, 1.0), rng.uniform(0.0, 5.0)])
        yield min(at_s, LENGTH_S), item


def _draw_trouble(rng: random.Random) -> Trouble:
    is_calm = rng.random() < 0.2
    latency_s = rng.choice([0.002, 0.05, 0.5])
    if is_calm:
        return Trouble(latency_s)
    down_s = []
    if rng.random() < 0.4:
        begin_s = rng.uniform(0.0, LENGTH_S)
        down_s.append((begin_s, begin_s + rng.uniform(0.5, LENGTH_S)))
    return Trouble(
        latency_s=latency_s,
        places=rng.choice([1_000, 1_000, 1, 3]),
        error_share=rng.choice([0.0, 0.0, 0.1, 0.5, 1.0]),
        errors=rng.choice([(503,), (429,), (500,), (None,), (503, 429, 500, None)]),
        batch_max=rng.choice([1_000_000, 1_000_000, 1, 5]),
        batch_status=rng.choice([413, 400, 503, 500]),
        digest_status=rng.choice([200, 200, 200, 400, 500]),
        poison_share=rng.choice([0.0, 0.0, 0.05]),
        poison_status=rng.choice([400, 500]),
        down_s=tuple(down_s),
    )


def _draw_restarts(rng: random.Random) -> tuple[Restart, ...]:
    if rng.random() < 0.5:
        return ()
    return tuple(
        Restart(
            at_s,
            is_graceful=rng.random() < 0.3,
            turns=rng.randint(0, 12),
            is_written=rng.random() < 0.5,
            away_s=rng.choice([0.0, rng.uniform(0.0, 3.0)]),
        )
        for at_s in sorted(rng.uniform(0.0, LENGTH_S) for _ in range(rng.randint(1, 4)))
    )


def _draw_disk(rng: random.Random) -> tuple[tuple[float, float], ...]:
    if rng.random() < 0.5:
        return ()
    shares = [0.1, 0.55, 0.7, 0.8, 0.88, 0.93, 0.945, 0.96, 1.0]
    return tuple((rng.uniform(0.0, LENGTH_S), rng.choice(shares)) for _ in range(rng.randint(1, 5)))


def _draw_commits(rng: random.Random) -> tuple[tuple[float, float], ...]:
    usual_s = rng.choice([0.0, 0.001, 0.01])
    if rng.random() < 0.7:
        return ((0.0, usual_s),)
    begin_s = rng.uniform(0.0, LENGTH_S)
    return (0.0, usual_s), (begin_s, rng.choice([0.2, 1.0, 4.0])), (begin_s + rng.uniform(0.5, 8.0), usual_s)


def _draw_stalls(rng: random.Random) -> tuple[tuple[float, float], ...]:
    if rng.random() < 0.8:
        return ()
    return ((rng.uniform(0.0, LENGTH_S), rng.choice([0.3, 1.0, 5.0, 20.0])),)

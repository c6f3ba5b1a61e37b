"""What happened in one run: what the node offered and was answered, what came on disk, and what the backend got."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from overload_plan import Item, Webhook

from gateway.events import Kind
from gateway.inbound.receipt_book import Known
from gateway.overload.ladder import Rung, Treatment

Key = tuple[str, str, str]
"""Word, message id and phone: what the backend sees of an item."""


@dataclass(slots=True)
class Attempt:
    """A webhook offered once; status None: no answer came."""

    webhook: Webhook
    began_ns: int
    ended_ns: int = 0
    status: int | None = None


@dataclass(slots=True)
class Post:
    """A request to the backend."""

    destination: str
    began_ns: int
    keys: list[Key]
    digests: list[dict[str, Any]]
    status: int | None
    treatments: dict[str, Treatment]
    """What is done to each class at that moment."""
    ended_ns: int | None = None
    """None: the gateway was killed meanwhile."""

    @property
    def is_taken(self) -> bool:
        return self.status == 200


@dataclass(slots=True)
class Look:
    """A look of the monitor, of the process with this number."""

    life: int
    at_ns: int
    figure: float
    rung: Rung


@dataclass(slots=True)
class Story:
    """All that happened."""

    attempts: list[Attempt] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    stored: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """What was to be forwarded, when it came on disk: (number and acceptance in wall ms of its record)."""
    parked: set[Key] = field(default_factory=set)
    parked_records: list[list[Key]] = field(default_factory=list)
    dropped: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    would_have: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    books: Counter[tuple[Kind, str | None]] = field(default_factory=Counter)
    ledger: dict[str, Known | None] = field(default_factory=dict)
    recovered_ledger: dict[str, Known | None] = field(default_factory=dict)
    evicted: int = 0
    problems: list[str] = field(default_factory=list)
    ended_ns: int = 0


def read_body(body: dict[str, Any]) -> tuple[list[Key], list[dict[str, Any]]]:
    """What a body says to a backend: its items, and its digests."""
    values = [body] + [change["value"] for entry in body.get("entry", ()) for change in entry["changes"]]
    keys: list[Key] = []
    for value in values:
        keys += [("message", item["id"], item["from"]) for item in value.get("messages", ())]
        keys += [
            (item["status"], item["id"], item.get("recipient_participant_id", item["recipient_id"]))
            for item in value.get("statuses", ())
        ]
    return keys, body.get("gateway", {}).get("receipts", [])


def key_of(item: Item) -> Key:
    """What the backend sees of an item."""
    return item.word, item.message_id, item.who

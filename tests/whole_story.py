"""What was seen of one run from outside: by the node, by the backend, by who pushes, and by who looks at the books."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from virtual_time import START_NS, virtual_loop
from whole_plan import Push

from gateway.clock import NS_PER_S

Key = tuple[str, str, str]
"""Word, message id and phone: what makes an item of a webhook the same when it comes again."""


@dataclass(slots=True)
class Request:
    """A send as the node got it."""

    tag: str
    to: str
    life: int
    began_ns: int
    wall_ms: int
    wall_max_ms: int
    """The latest that the wall clock has ever been."""
    node_id: str
    window: int
    """Counted events in the second that ends with it."""
    sends: int
    """Of them, sends."""
    just_arrived: int
    """Of them, what arrived in the last few ms."""
    plan_tps: int
    took_ns: int | None = None
    ended_ns: int | None = None
    """When the gateway had the answer, or gave up waiting; None: it was killed meanwhile."""
    status: int | None = None
    """None: no answer."""
    code: int | None = None
    was_sent: bool = True
    body: str = ""

    @property
    def is_known(self) -> bool:
        """Whether the gateway has been told that the node took it."""
        return self.ended_ns is not None and self.status == 200

    @property
    def is_open(self) -> bool:
        """Whether nobody at the gateway can know what became of it."""
        if self.ended_ns is None or (self.status is None and self.was_sent):
            return True
        return self.code is None and self.status in (408, 500, 504)


@dataclass(slots=True)
class Told:
    """A status of ours: how a send ended."""

    send_id: str
    outcome: str


@dataclass(slots=True)
class Post:
    """A request to the backend."""

    number: int
    destination: str
    life: int
    began_ns: int
    keys: list[Key]
    told: list[Told]
    digests: list[dict[str, Any]]
    status: int | None = None
    ended_ns: int | None = None
    replies: list[tuple[str, str]] = field(default_factory=list)
    """(tag, recipient) in the answer."""

    @property
    def is_taken(self) -> bool:
        return self.status == 200


@dataclass(slots=True)
class Offer:
    """A webhook offered once; status None: no answer came."""

    keys: list[Key]
    life: int
    began_ns: int
    ended_ns: int = 0
    status: int | None = None


@dataclass(slots=True)
class Call:
    """A call of the push API; status None: no answer came."""

    what: str
    pushes: tuple[Push, ...]
    life: int
    began_ns: int
    began_wall_ms: int
    ended_ns: int = 0
    ended_wall_ms: int = 0
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    target: str = ""
    """The id it is about."""

    def ids(self) -> list[str | None]:
        """The ids that its pushes were given."""
        if self.status != 202:
            return []
        return [one.get("id") for one in self.answer["messages"]]


@dataclass(slots=True)
class LifeStory:
    """One process."""

    number: int
    began_ns: int
    ended_ns: int | None = None
    how: str = ""
    commits_ns: list[int] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """All that was seen."""

    requests: list[Request] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    lives: list[LifeStory] = field(default_factory=list)
    retried: dict[str, str] = field(default_factory=dict)
    """Dead letters that an operator had tried again: old id to new."""
    is_retry_unheard: bool = False
    """Whether an operator had some tried again and got no answer."""
    discarded: list[tuple[str, str]] = field(default_factory=list)
    """Dead letters that an operator threw away: (id, tag or key)."""
    sends: list[dict[str, Any]] = field(default_factory=list)
    """What is told of each send at the end, in order of acceptance."""
    dead: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Dead letters at the end: (id, reason, body)."""
    books: dict[tuple[str, str | None], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ended_ns: int = 0

    def say(self, text: str) -> None:
        """One line more of what happened."""
        loop = virtual_loop()
        self.lines.append(f"{(loop.now_ns() - START_NS) / NS_PER_S:12.6f} {text}")

    def complain(self, text: str) -> None:
        """Something that must not be."""
        self.say(f"PROBLEM {text}")
        self.problems.append(text)


def read_post(body: bytes) -> tuple[list[Key], list[Told], list[dict[str, Any]]]:
    """What a body says to a backend: its items, our own statuses in it, and digests."""
    parsed = json.loads(body)
    values = [parsed] + [change["value"] for entry in parsed.get("entry", ()) for change in entry["changes"]]
    told = []
    theirs = []
    for value in values:
        for status in value.get("statuses", ()):
            if "gateway" in status:
                told.append(Told(status["gateway"]["id"], status["gateway"]["outcome"]))
            else:
                theirs.append(status)
    keys = [("message", item["id"], item["from"]) for value in values for item in value.get("messages", ())]
    keys += [_status_key(status) for status in theirs]
    return keys, told, parsed.get("gateway", {}).get("receipts", [])


def _status_key(status: Mapping[str, Any]) -> Key:
    who = status.get("recipient_participant_id", status["recipient_id"])
    return status["status"], status["id"], who


def tag_of(body: bytes) -> str:
    """The tag in a send's text."""
    tag: str = json.loads(body)["text"]["body"]
    return tag

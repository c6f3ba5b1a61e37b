"""What one run of the whole gateway is, drawn whole from a seed: settings, traffic, troubles, restarts, operators."""

import random
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import Settings, load

LENGTH_S: Final = 90.0
"""Of the traffic and the troubles; what is left then is worked off in peace."""
CLASSES: Final = ("reply", "high", "normal", "bulk")
MASKS: Final = ("none", "failed", "delivered", "read")

Spans = tuple[tuple[float, float], ...]
"""(from when, until when)."""


@dataclass(frozen=True, slots=True)
class Push:
    """One message that a backend wants sent."""

    number: int
    at_s: float
    to: str
    is_group: bool
    cls: str = "normal"
    key: str = ""
    ttl_s: int = 0
    not_before_s: int | None = None
    """After the start, by the wall clock as it was then."""
    mask: str = "all"
    uncertain: str = ""
    wait_s: int = 0
    again_s: tuple[float, ...] = ()
    """After its acceptance it comes again with its key."""
    other_s: float | None = None
    """After its acceptance another body comes with its key."""

    @property
    def tag(self) -> str:
        """What tells it from all others, in its text."""
        return f"p{self.number}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Pushes in one call."""

    at_s: float
    pushes: tuple[Push, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A wish about a push, or about the batch it came in."""

    at_s: float
    what: str
    """`cancel`, `reclass`, `query`, and the same with `_batch`."""
    number: int
    cls: str = "normal"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook of the node: messages of contacts, or statuses of messages we know nothing of."""

    at_s: float
    messages: tuple[tuple[str, str], ...]
    """(id, contact)."""
    failures: tuple[tuple[str, str], ...] = ()
    is_cloud: bool = False
    again_s: float | None = None
    """After it was taken it comes once more."""


@dataclass(frozen=True, slots=True)
class NodeTrouble:
    """How the node behaves until all troubles are over, and how long it takes for good."""

    latency_s: float
    slow_share: float = 0.0
    """Of the requests, those that take longer than anybody waits."""
    error_share: float = 0.0
    errors: tuple[tuple[int, int | None], ...] = ()
    """(HTTP status, code); without a code a 5xx may have been taken all the same."""
    down_s: Spans = ()
    busy_s: Spans = ()
    busy: tuple[tuple[int, int | None], ...] = ((429, None),)
    tokens_end_s: tuple[float, ...] = ()
    poison_share: float = 0.0
    """Of the messages, those that it refuses for good."""
    receipt_s: float = 2.0
    """About how long a phone takes to say `delivered`."""


@dataclass(frozen=True, slots=True)
class BackendTrouble:
    """The same of one webhook of the backend."""

    latency_s: float
    error_share: float = 0.0
    errors: tuple[int | None, ...] = (503,)
    poison_share: float = 0.0
    down_s: Spans = ()
    gone_s: Spans = ()
    reply_share: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """An end of the process, and how long nobody is there."""

    at_s: float
    how: str
    """`kill`, `stop`, `disk` (a commit fails), or `drain` (by the operator)."""
    turns: int
    """Turns of the loop after that moment, so that it comes anywhere between."""
    is_written: bool
    """What was submitted is on disk, though nobody was told."""
    away_s: float


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator does."""

    at_s: float
    what: str
    """`isolated`, `suspended`, `running`, `gone` (resume it), `retry` or `discard` dead letters, or `plan`."""
    tps: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    settings: Settings
    arrivals: tuple[Arrival, ...] = ()
    pushes: tuple[Push, ...] = ()
    batches: tuple[Batch, ...] = ()
    changes: tuple[Change, ...] = ()
    node: NodeTrouble = NodeTrouble(0.05)
    messages: BackendTrouble = BackendTrouble(0.01)
    events: BackendTrouble = BackendTrouble(0.01)
    ends: tuple[End, ...] = ()
    operators: tuple[Operator, ...] = ()
    commits: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """(from when, how long a commit takes)."""
    full_s: Spans = ()
    """When the disk has no room."""
    jumps: tuple[tuple[float, int], ...] = ()
    """(when, by how many ms the wall clock is set)."""
    stalls: tuple[tuple[float, float], ...] = ()
    """(when, how long the loop stands still)."""
    variables: dict[str, str] = field(default_factory=dict)

    def all_pushes(self) -> list[Push]:
        """Those of batches too."""
        return [*self.pushes, *(push for batch in self.batches for push in batch.pushes)]

    def commit_s(self, at_s: float) -> float:
        """How long a commit takes then."""
        begun = [step for step in self.commits if step[0] <= at_s]
        return max(begun)[1] if begun and at_s < LENGTH_S else self.commits[0][1]

    @property
    def commit_max_s(self) -> float:
        return max(length_s for _, length_s in self.commits)

    def describe(self) -> str:
        """What it has, for whoever looks into a seed."""
        said = " ".join(f"{name}={value}" for name, value in sorted(self.variables.items()))
        return (
            f"seed {self.seed}: {len(self.arrivals)} webhooks, {len(self.all_pushes())} pushes, {len(self.changes)} "
            f"changes\n  ends {self.ends}\n  operators {self.operators}\n  commits {self.commits}, full {self.full_s}, "
            f"jumps {self.jumps}, stalls {self.stalls}\n  node {self.node}\n  messages {self.messages}\n  events "
            f"{self.events}\n  {said}"
        )


def is_in(spans: Spans, at_s: float) -> bool:
    """Whether a moment is in one of them."""
    return any(begin_s <= at_s < end_s for begin_s, end_s in spans)


def settings_of(variables: dict[str, str]) -> Settings:
    """Settings for a run, with what every run needs."""
    fixed = {
        "MESSAGE_WEBHOOK_URL": "http://backend/messages",
        "EVENT_WEBHOOK_URL": "http://backend/events",
        "NODE_URL": "http://node",
        "PUSH_TOKENS": "a-token-of-the-tests",
        "STORE_MAX_BYTES": "64MiB",
        "SEND_RETENTION": "30d",
        "DEDUPE_AGE": "30d",
        "IDEMPOTENCY_AGE": "30d",
        "LEDGER_MESSAGES": "1000",
        "DEDUPE_KEYS": "20000",
    }
    return load({f"GATEWAY_{name}": value for name, value in {**fixed, **variables}.items()})


def draw(seed: int) -> Plan:
    """The run of a seed; the same one for ever, as long as this file is not changed."""
    rng = random.Random(f"{seed}/whole")
    variables = _draw_variables(rng)
    singles, batches = _draw_pushes(rng)
    arrivals = _draw_arrivals(rng)
    moments_s = [arrival.at_s for arrival in arrivals] + [push.at_s for push in singles]
    return Plan(
        seed=seed,
        settings=settings_of(variables),
        arrivals=arrivals,
        pushes=singles,
        batches=batches,
        changes=_draw_changes(rng, [*singles, *(push for batch in batches for push in batch.pushes)]),
        node=_draw_node(rng, is_cloud=variables.get("DIALECT") == "cloud"),
        messages=_draw_backend(rng, reply_share=rng.choice([0.0, 0.3, 0.8])),
        events=_draw_backend(rng),
        ends=_draw_ends(rng, moments_s),
        operators=_draw_operators(rng, int(variables["TPS"])),
        commits=_draw_commits(rng),
        full_s=_draw_spans(rng, 0.1, 10.0),
        jumps=tuple(
            _moments(rng, 0.3, 3, lambda: rng.choice([-3_600_000, -5_000, 5_000, 60_000, 3_600_000]))
        ),
        stalls=tuple(_moments(rng, 0.2, 2, lambda: rng.choice([0.3, 1.0, 5.0, 20.0]))),
        variables=variables,
    )


def _draw_variables(rng: random.Random) -> dict[str, str]:
    is_cloud = rng.random() < 0.35
    cloud = {"DIALECT": "cloud", "NODE_PHONE_ID": "77", "NODE_TOKEN": "t"}
    onprem = {"NODE_PASSWORD": "secret"}
    variables = {
        **(cloud if is_cloud else onprem),
        "TPS": rng.choice(["6", "10", "20", "40"]),
        "SEND_FLOOR": rng.choice(["0%", "0%", "0%", "20%"]),
        "BULK_FLOOR": rng.choice(["0%", "5%", "30%"]),
        "NODE_TIMEOUT": rng.choice(["1s", "3s"]),
        "NODE_CONNECTIONS": rng.choice(["1", "3", "8", "16"]),
        "SEND_ATTEMPTS": rng.choice(["1", "3", "5"]),
        "UNCERTAIN": rng.choice(["resend", "resend", "park"]),
        "SEND_TTL": rng.choice(["0s", "0s", "30s", "5m"]),
        "SEND_WAIT_MAX": rng.choice(["0s", "0s", "20s"]),
        "SEND_QUEUE_MAX": rng.choice(["100000", "100000", "15"]),
        "QUEUE_SLOTS": rng.choice(["16", "64", "4096"]),
        "PUSH_WAIT": rng.choice(["0s", "0s", "0s", "2s"]),
        "DRAIN_TIMEOUT": rng.choice(["0s", "1s", "10s"]),
        "BACKEND_CONCURRENCY": rng.choice(["1", "2", "8"]),
        "BACKEND_TIMEOUT": "2s",
        "BACKEND_ATTEMPTS": rng.choice(["2", "50", "10000", "10000"]),
        "BACKEND_BACKOFF_MIN": rng.choice(["10ms", "500ms"]),
        "BACKEND_BACKOFF_MAX": rng.choice(["1s", "5s"]),
    }
    if rng.random() < 0.3:
        variables |= {
            "PAIR_LIMIT_INTERVAL": rng.choice(["1s", "6s"]),
            "PAIR_LIMIT_BURST": rng.choice(["1", "4"]),
        }
    if rng.random() < 0.2:
        variables["FANOUT_WINDOW"] = "0s"
    if rng.random() < 0.25:
        variables |= {"RECEIPTS_DELIVERED": "batch", "RECEIPTS_READ": "fold", "RECEIPTS_GROUP": "digest"}
    if rng.random() < 0.1:
        variables["EVENT_WEBHOOK_URL"] = "off"
    return variables


def _draw_arrivals(rng: random.Random) -> tuple[Arrival, ...]:
    made = []
    number = 0
    burst_s = rng.uniform(0.0, LENGTH_S) if rng.random() < 0.3 else None
    for _ in range(rng.randint(5, 40)):
        at_s = rng.uniform(0.0, LENGTH_S) if burst_s is None or rng.random() < 0.4 else burst_s
        contact = f"1555010{rng.randint(0, 4):04d}"
        messages = []
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            number += 1
            messages.append((f"in-{number}", contact))
        failures = [(f"strange-{number}", contact)] if rng.random() < 0.1 else []
        again_s = rng.uniform(0.0, 5.0) if rng.random() < 0.15 else None
        is_cloud = rng.random() < 0.5
        made.append(Arrival(at_s, tuple(messages), tuple(failures), is_cloud, again_s))
    return tuple(sorted(made, key=lambda arrival: arrival.at_s))


def _draw_pushes(rng: random.Random) -> tuple[tuple[Push, ...], tuple[Batch, ...]]:
    people = rng.choice([2, 5, 12])
    burst_s = rng.uniform(0.0, LENGTH_S) if rng.random() < 0.5 else None
    classes = rng.choice([CLASSES, CLASSES, ("normal",), ("normal", "bulk")])
    schedules, expires = rng.choice([0.0, 0.15]), rng.choice([0.0, 0.2])
    masks, policies = rng.choice([0.0, 0.4]), rng.choice([0.0, 0.3])

    def push(number: int, at_s: float) -> Push:
        is_group = rng.random() < 0.12
        to = f"1555020{rng.randint(0, people):04d}"
        key = f"key-{number}" if rng.random() < 0.6 else ""
        return Push(
            number,
            at_s,
            f"1555020-{rng.randint(0, 2)}" if is_group else ("+" if rng.random() < 0.2 else "") + to,
            is_group,
            cls=rng.choice(classes),
            key=key,
            ttl_s=rng.choice([1, 5, 20, 60]) if rng.random() < expires else 0,
            not_before_s=int(at_s + rng.uniform(0, 60)) if rng.random() < schedules else None,
            mask=rng.choice(MASKS) if rng.random() < masks else "all",
            uncertain=rng.choice(["park", "resend"]) if rng.random() < policies else "",
            wait_s=rng.choice([1, 5]) if rng.random() < 0.15 else 0,
            again_s=tuple(rng.uniform(0.0, 20.0) for _ in range(rng.choice([0, 0, 1, 2]))) if key else (),
            other_s=rng.uniform(0.0, 20.0) if key and rng.random() < 0.1 else None,
        )

    def moment() -> float:
        return rng.uniform(0.0, LENGTH_S) if burst_s is None or rng.random() < 0.4 else burst_s

    singles = [push(number, moment()) for number in range(rng.randint(10, 60))]
    batches = []
    number = 1000
    for count in range(rng.choice([0, 0, 1, 3])):
        at_s = moment()
        members = []
        for _ in range(rng.randint(1, 12)):
            members.append(push(number, at_s))
            number += 1
        batches.append(Batch(at_s, tuple(members), f"batch-{count}" if rng.random() < 0.5 else ""))
    return tuple(sorted(singles, key=lambda one: one.at_s)), tuple(batches)


def _draw_changes(rng: random.Random, pushes: list[Push]) -> tuple[Change, ...]:
    made = []
    for _ in range(rng.choice([0, 5, 20])):
        push = rng.choice(pushes)
        what = rng.choice(["cancel", "cancel", "reclass", "reclass", "query", "query"])
        if push.number >= 1000 and rng.random() < 0.4:
            what += "_batch"
        at_s = push.at_s + rng.choice([0.05, rng.uniform(0, 2), rng.uniform(0, 40)])
        made.append(Change(at_s, what, push.number, rng.choice(CLASSES)))
    return tuple(sorted(made, key=lambda change: change.at_s))


def _draw_spans(rng: random.Random, share: float, longest_s: float) -> Spans:
    if rng.random() >= share:
        return ()
    begin_s = rng.uniform(0.0, LENGTH_S)
    return ((begin_s, begin_s + rng.uniform(0.5, longest_s)),)


def _moments(rng: random.Random, share: float, most: int, value: Any) -> list[tuple[float, Any]]:
    if rng.random() >= share:
        return []
    return [
        (at_s, value()) for at_s in sorted(rng.uniform(0.0, LENGTH_S) for _ in range(rng.randint(1, most)))
    ]


def _draw_node(rng: random.Random, *, is_cloud: bool) -> NodeTrouble:
    latency_s = rng.choice([0.005, 0.05, 0.4])
    receipt_s = rng.choice([0.01, 0.2, 2.0])
    if rng.random() < 0.25:
        return NodeTrouble(latency_s, receipt_s=receipt_s)
    onprem = [(500, None), (500, 1014), (500, 1000), (400, 1006), (400, 470), (503, 1011), (408, None)]
    cloud = [(500, None), (500, 131000), (400, 131056), (400, 131026), (400, 130429), (504, None), (500, 2)]
    spam = [(400, 131048 if is_cloud else 471)] if rng.random() < 0.06 else []
    busy = [(429, 80007), (400, 130429), (503, None)] if is_cloud else [(429, None), (503, 1016), (400, 1015)]
    return NodeTrouble(
        latency_s,
        slow_share=rng.choice([0.0, 0.0, 0.05, 0.3]),
        error_share=rng.choice([0.0, 0.1, 0.4]),
        errors=tuple(spam + rng.sample(cloud if is_cloud else onprem, rng.randint(1, 4))),
        down_s=_draw_spans(rng, 0.3, 30.0),
        busy_s=_draw_spans(rng, 0.3, 15.0),
        busy=tuple(rng.sample(busy, 2)),
        tokens_end_s=tuple(sorted(rng.uniform(0, LENGTH_S) for _ in range(rng.choice([0, 0, 2]))))
        if not is_cloud
        else (),
        poison_share=rng.choice([0.0, 0.05]),
        receipt_s=receipt_s,
    )


def _draw_backend(rng: random.Random, reply_share: float = 0.0) -> BackendTrouble:
    latency_s = rng.choice([0.002, 0.05, 0.5])
    if rng.random() < 0.3:
        return BackendTrouble(latency_s, reply_share=reply_share)
    return BackendTrouble(
        latency_s,
        error_share=rng.choice([0.0, 0.1, 0.5]),
        errors=rng.choice([(503,), (429,), (None,), (503, 429, 500, None)]),
        poison_share=rng.choice([0.0, 0.0, 0.05]),
        down_s=_draw_spans(rng, 0.3, 40.0),
        gone_s=_draw_spans(rng, 0.1, 5.0),
        reply_share=reply_share,
    )


def _draw_ends(rng: random.Random, moments_s: list[float]) -> tuple[End, ...]:
    """Any time, or while something that has just come is on its way to the disk or to the node."""

    def moment() -> float:
        if rng.random() < 0.4:
            return rng.uniform(0.0, LENGTH_S)
        return min(rng.choice(moments_s) + rng.uniform(0.0, 0.025), LENGTH_S)

    return tuple(
        End(
            at_s,
            rng.choice(["kill", "kill", "kill", "stop", "stop", "disk", "drain"]),
            turns=rng.randint(0, 12),
            is_written=rng.random() < 0.5,
            away_s=rng.choice([0.0, 0.1, rng.uniform(0.0, 10.0)]),
        )
        for at_s in sorted(moment() for _ in range(rng.choice([0, 1, 2, 4])))
    )


def _draw_operators(rng: random.Random, tps: int) -> tuple[Operator, ...]:
    made = []
    for _ in range(rng.choice([0, 0, 2, 6])):
        what = rng.choice(["isolated", "suspended", "running", "gone", "retry", "retry", "discard", "plan"])
        made.append(Operator(rng.uniform(0.0, LENGTH_S), what, rng.choice([tps, tps * 2, max(3, tps // 2)])))
    return tuple(sorted(made, key=lambda one: one.at_s))


def _draw_commits(rng: random.Random) -> tuple[tuple[float, float], ...]:
    usual_s = rng.choice([0.0, 0.001, 0.01, 0.02])
    if rng.random() < 0.7:
        return ((0.0, usual_s),)
    begin_s = rng.uniform(0.0, LENGTH_S)
    return (0.0, usual_s), (begin_s, rng.choice([0.2, 1.0, 4.0])), (begin_s + rng.uniform(0.5, 8.0), usual_s)

"""Builders with defaults, so that what a test sets is what it is about; and a store in memory."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.clock import NS_PER_MS, Clock, FakeClock
from gateway.errors import StoreError
from gateway.events import (
    InboundClass,
    InboundRecord,
    Kind,
    Outcome,
    SendClass,
    SendRecord,
    Side,
    pack_counts,
)
from gateway.inbound.destination import BackendAnswer, Route
from gateway.inbound.picks import Singles
from gateway.outbound.queue import SendQueue
from gateway.store.backlog import Backlog
from gateway.store.lanes import Lanes
from gateway.store.protocol import (
    BatchStatus,
    BookEntry,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    Place,
    RecentSends,
    Recovered,
    SendStatus,
    Settled,
    StoredKey,
    awaited,
)

CONTACT: Final = "15550100111"
GROUP: Final = "15550100999-1690000000"
WALL_MS: Final = 1_700_000_000_000


def message(message_id: str | None = "ABGG1", sender: str = CONTACT, **fields: Any) -> dict[str, Any]:
    """A message as a webhook carries it; `message_id` None leaves the id out."""
    head = {} if message_id is None else {"id": message_id}
    return {**head, "from": sender, "type": "text", "text": {"body": "hi"}, **fields}


def status(status_id: str = "gBGG1", name: str = "delivered", recipient: str = CONTACT) -> dict[str, Any]:
    """A status as a webhook carries it."""
    return {"id": status_id, "status": name, "recipient_id": recipient, "timestamp": "1700000000"}


def onprem_body(
    messages: Iterable[Any] = (), statuses: Iterable[Any] = (), errors: Iterable[Any] = (), **fields: Any
) -> bytes:
    """An on-prem webhook body; arrays without items are left out."""
    arrays = {"messages": list(messages), "statuses": list(statuses), "errors": list(errors)}
    return json.dumps({**fields, **{name: items for name, items in arrays.items() if items}}).encode()


def cloud_body(*values: dict[str, Any], **fields: Any) -> bytes:
    """A Cloud webhook body with one entry that has a change of the field `messages` for each of `values`."""
    changes = [{"field": "messages", "value": value} for value in values]
    top = {"object": "whatsapp_business_account", "entry": [{"id": "9", "changes": changes}]}
    return json.dumps({**top, **fields}).encode()


def push_body(to: str = CONTACT, **fields: Any) -> bytes:
    """A send request."""
    return json.dumps({"to": to, "type": "text", "text": {"body": "hi"}, **fields}).encode()


def inbound(
    seq: int = 1,
    cls: InboundClass = InboundClass.MESSAGE,
    kinds: Iterable[Kind] = (Kind.MESSAGE,),
    body: bytes = b'{"messages":[{}]}',
    lane: str = CONTACT,
    received_ms: int = WALL_MS,
) -> InboundRecord:
    """A record on its way to the backend."""
    return InboundRecord(seq, cls, lane, body, pack_counts(list(kinds)), received_ms)


def send(
    seq: int = 1,
    cls: SendClass = SendClass.NORMAL,
    to: str = CONTACT,
    body: bytes = b"{}",
    *,
    is_group: bool = False,
) -> SendRecord:
    """A record on its way to the node."""
    return SendRecord(seq, f"gw-0badcafe-{seq}", cls, to, is_group=is_group, body=body, accepted_ms=WALL_MS)


def settled(record: SendRecord, outcome: Outcome = Outcome.DELIVERED, settled_ms: int = WALL_MS) -> Settled:
    """The end of a send."""
    return Settled(record, outcome, "gBGG1", "", settled_ms)


def parked(record: InboundRecord) -> Parked:
    """A record that the backend refused."""
    return Parked(record, "HTTP 400", b"no", WALL_MS)


class Disk:
    """What outlives a MemoryStore: plain dicts by sequence number."""

    def __init__(self) -> None:
        self.store_id = "0badcafe"
        self.secret = bytes(16)
        self.seq = 0
        self.inbound: dict[int, InboundRecord] = {}
        self.parked: dict[int, Parked] = {}
        self.sends: dict[int, SendRecord] = {}
        self.sent: dict[int, Settled] = {}
        self.seen: list[tuple[int, bytes]] = []
        """(wall_ms, fingerprint), oldest first."""
        self.books: Counter[tuple[Kind, Outcome | None]] = Counter()
        self.ledger_pages: dict[int, bytes] = {}
        self.ledger_items = b""
        self.notes: dict[str, bytes] = {}
        self.keys: dict[str, StoredKey] = {}
        """Oldest first."""

    def write(self, change: Change, now_ms: int) -> None:
        """Enter one change."""
        given: list[InboundRecord | SendRecord] = [*change.inbound, *change.sends]
        self.seq = max([self.seq, *(record.seq for record in given)])
        self.inbound |= {record.seq: record for record in change.inbound}
        marks = change.fingerprints
        self.seen += [(now_ms, marks[at : at + 8]) for at in range(0, len(marks), 8)]
        for done in (*change.inbound_done, *(item.record for item in change.parked)):
            self.inbound.pop(done.seq, None)
        self.parked |= {item.record.seq: item for item in change.parked}
        for seq in change.unparked:
            self.parked.pop(seq, None)
        self.sends |= {record.seq: record for record in change.sends}
        for tried in change.sends_tried:
            self.sends[tried.seq] = msgspec.structs.replace(tried)
        for ended in change.settled:
            self.sends.pop(ended.record.seq, None)
            self.sent[ended.record.seq] = ended
            if ended.outcome is Outcome.FAILED:
                dead = Parked(ended.record, ended.reason, b"", ended.settled_ms)
                self.parked[ended.record.seq] = dead
        for entry in change.books:
            self.books[entry.kind, entry.outcome] += entry.count
        if change.ledger_pages is not None:
            self.ledger_items = b""
            kept = {} if change.ledger_resets else self.ledger_pages
            self.ledger_pages = kept | dict(change.ledger_pages)
        self.ledger_items += change.ledger_items
        self.notes |= change.notes
        for used in change.keys:
            self.keys.pop(used.key, None)
            self.keys[used.key] = used

    def recover(self, now_ms: int = WALL_MS, recent_ms: int = 0) -> Recovered:
        """What a store opened on this disk starts with."""
        kinds: dict[InboundClass, dict[Kind, int]] = {cls: {} for cls in InboundClass}
        for record in self.inbound.values():
            for kind, count in record.kind_counts():
                kinds[record.cls][kind] = kinds[record.cls].get(kind, 0) + count
        return Recovered(
            next_seq=self.seq + 1,
            inbound_counts={cls: sum(r.cls is cls for r in self.inbound.values()) for cls in InboundClass},
            inbound_kinds=kinds,
            send_counts=self._counts(are_scheduled=False),
            scheduled_counts=self._counts(are_scheduled=True),
            books=[BookEntry(kind, outcome, count) for (kind, outcome), count in self.books.items()],
            fingerprints=b"".join(mark for _, mark in self.seen),
            ledger_pages=sorted(self.ledger_pages.items()),
            ledger_items=self.ledger_items,
            notes=dict(self.notes),
            recent=self._recent(now_ms, recent_ms),
        )

    def _counts(self, *, are_scheduled: bool) -> dict[SendClass, int]:
        found = [record for record in self.sends.values() if record.is_scheduled is are_scheduled]
        return {cls: sum(record.cls is cls for record in found) for cls in SendClass}

    def _recent(self, now_ms: int, recent_ms: int) -> list[RecentSends]:
        attempts: Counter[str] = Counter()
        last_ms: dict[str, int] = {}
        for end in sorted(self.sent.values(), key=lambda end: end.settled_ms):
            if end.record.attempts and recent_ms and abs(end.settled_ms - now_ms) <= recent_ms:
                attempts[end.record.to] += end.record.attempts
                last_ms[end.record.to] = end.settled_ms
        return [
            RecentSends(to, attempts[to], at_ms) for to, at_ms in sorted(last_ms.items(), key=lambda i: i[1])
        ]


def _matches(query: ParkedQuery, item: Parked) -> bool:
    seq = item.record.seq
    return (
        query.side in (None, item.side)
        and query.seq in (None, seq)
        and query.contact in (None, item.contact)
        and (query.reason or "").lower() in item.reason.lower()
        and item.parked_ms >= (query.parked_from_ms or 0)
        and (query.parked_before_ms is None or item.parked_ms < query.parked_before_ms)
        and (query.upto_seq is None or seq <= query.upto_seq)
    )


def by_name(lines: bytes) -> dict[str, str]:
    """Header lines by name."""
    return dict(line.split(": ", 1) for line in lines.decode().removesuffix("\r\n").split("\r\n"))


class AskedSingles(Singles):
    """As Singles, and a forwarder asks for each record, as it does of picks that make more of them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.waits = None


class AskedBackend:
    """A destination whose answer is found by a coroutine, `post`; what it is asked with are the headers by name."""

    route: Route | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        raise NotImplementedError

    def post_soon(
        self, body: bytes, headers: bytes, done: Callable[[BackendAnswer], None]
    ) -> asyncio.Task[None]:

        async def ask() -> None:
            done(await self.post(body, by_name(headers)))

        return asyncio.get_running_loop().create_task(ask())


def _tell_failure(change: Change, error: StoreError) -> None:
    for call in change.on_failure:
        call(error)


class MemoryStore:
    """A store without a disk. It passes tests/test_store_protocol.py, as the real one does.

    `holds_commits`: nothing is committed until `commit` is called.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        disk: Disk | None = None,
        on_failure: Callable[[StoreError], None] = lambda _: None,
        *,
        holds_commits: bool = False,
        recent_ms: int = 0,
    ) -> None:
        self.disk = disk or Disk()
        self._clock = clock or FakeClock()
        self.secret = self.disk.secret
        self.recovered = self.disk.recover(self._clock.wall_ms(), recent_ms)
        self.holds_commits = holds_commits
        self.fixed_used_bytes: int | None = None
        self._on_failure = on_failure
        self._next_seq = self.recovered.next_seq
        self._submitted: list[Change] = []
        self._makers: list[Callable[[], Change]] = []
        self._failure: StoreError | None = None
        self._used_bytes = 4096
        self._submitted_ns = 0
        self._parked_dropped = 0
        self.on_committed: Callable[[], None] = lambda: None
        """Called after each commit, when all have been told."""

    def next_seq(self) -> int:
        self._next_seq += 1
        return self._next_seq - 1

    def send_id(self, seq: int) -> str:
        return f"gw-{self.disk.store_id}-{seq}"

    def put(self, change: Change, *, can_wait: bool = False) -> None:
        if self._failure is not None:
            asyncio.get_running_loop().call_soon(_tell_failure, change, self._failure)
            return
        self._make()
        self._expect_commit()
        self._submitted.append(change)

    def gather(self, make: Callable[[], Change], *, can_wait: bool = False) -> None:
        if self._failure is not None:
            self.put(make())
            return
        self._expect_commit()
        self._makers.append(make)

    def hurry(self) -> None:
        pass  # everything is committed soon

    def _make(self) -> None:
        makers, self._makers = self._makers, []
        self._submitted += [make() for make in makers]

    def _expect_commit(self) -> None:
        if self._submitted or self._makers:
            return
        self._submitted_ns = self._clock.now_ns()
        self._plan_commit()

    def _plan_commit(self) -> None:
        if not self.holds_commits:
            asyncio.get_running_loop().call_soon(self.commit)

    def submit(self, change: Change) -> asyncio.Future[None]:
        stored = awaited(change)
        self.put(change)
        return stored

    def commit(self) -> None:
        """Commit what has been submitted."""
        self._make()
        batch, self._submitted = self._submitted, []
        for change in batch:
            self.disk.write(change, self._clock.wall_ms())
            bodies = [record.body for record in change.inbound] + [record.body for record in change.sends]
            self._used_bytes += sum(map(len, bodies))
        for change in batch:
            for call in change.on_commit:
                call()
        self.on_committed()

    def fail(self, error: StoreError | None = None) -> None:
        """The disk fails: what was submitted is lost, and nothing is taken any more."""
        self._make()
        self._failure = error or StoreError("the disk failed")
        batch, self._submitted = self._submitted, []
        for change in batch:
            _tell_failure(change, self._failure)
        self._on_failure(self._failure)

    async def _turn(self) -> None:
        """Reads come after what was submitted before them."""
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure

    async def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        await self._turn()
        rows = sorted(self.disk.inbound.items())
        return [record for seq, record in rows if record.cls is cls and seq > after_seq][:limit]

    async def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        await self._turn()
        rows = sorted(self.disk.sends.items())
        in_line = (record for seq, record in rows if seq > after_seq and not record.is_scheduled)
        return [record for record in in_line if record.cls is cls][:limit]

    async def find_inbound(self, places: Sequence[Place]) -> list[InboundRecord]:
        await self._turn()
        rows = sorted(self.disk.inbound.items())
        return [record for seq, record in rows if (record.cls, seq) in places]

    async def find_sends(self, places: Sequence[Place]) -> list[SendRecord]:
        await self._turn()
        rows = sorted(self.disk.sends.items())
        return [record for seq, record in rows if (record.cls, seq) in places and not record.is_scheduled]

    async def reclass_sends(
        self, seqs: Sequence[int], old: SendClass, new: SendClass, *, is_scheduled: bool = False
    ) -> list[SendRecord]:
        await self._turn()
        found = [self.disk.sends[seq] for seq in sorted(seqs) if seq in self.disk.sends]
        there = [record for record in found if record.cls is old and record.is_scheduled is is_scheduled]
        moved = [msgspec.structs.replace(record, cls=new) for record in there]
        self.disk.sends |= {record.seq: record for record in moved}
        return [msgspec.structs.replace(record) for record in moved]

    async def read_expiring(self, limit: int) -> list[SendStatus]:
        await self._turn()
        found = [status for status in self._statuses() if status.is_waiting and status.expires_ms]
        return sorted(found, key=lambda status: (status.expires_ms, status.seq))[:limit]

    async def find_send(self, send_id: str) -> SendStatus | None:
        await self._turn()
        statuses = (status for status in self._statuses() if status.id == send_id)
        return next(statuses, None)

    async def find_send_named(self, node_id: str) -> SendStatus | None:
        await self._turn()
        statuses = (status for status in self._statuses() if node_id and status.node_id == node_id)
        return next(statuses, None)

    async def find_batch(self, batch: str, after_seq: int, limit: int) -> BatchStatus:
        await self._turn()
        found = [status for status in self._statuses() if batch and status.batch == batch]
        found.sort(key=lambda status: status.seq)
        page = [status for status in found if status.seq > after_seq][:limit]
        return BatchStatus(dict(Counter(status.state for status in found)), page)

    def _statuses(self) -> Iterable[SendStatus]:
        for seq, end in self.disk.sent.items():
            record = end.record
            state = "sent" if end.outcome is Outcome.DELIVERED else end.outcome.label
            yield SendStatus(
                self.send_id(seq), state, record.cls, record.to, record.accepted_ms, record.attempts,
                record.is_uncertain, end.node_id, end.reason, end.settled_ms, None, record.batch,
                record.not_before_ms, record.expires_ms,
            )  # fmt: skip
        for seq, record in self.disk.sends.items():
            yield SendStatus(
                self.send_id(seq), "scheduled" if record.is_scheduled else "queued", record.cls, record.to,
                record.accepted_ms, record.attempts, record.is_uncertain, is_group=record.is_group,
                batch=record.batch, not_before_ms=record.not_before_ms, expires_ms=record.expires_ms,
                mask=record.mask,
            )  # fmt: skip

    async def read_scheduled(self, cls: SendClass, limit: int) -> list[SendRecord]:
        await self._turn()
        found = [record for record in self.disk.sends.values() if record.is_scheduled and record.cls is cls]
        return sorted(found, key=lambda record: (record.not_before_ms, record.seq))[:limit]

    async def start_sends(self, records: Sequence[SendRecord]) -> None:
        await self._turn()
        for record in records:
            if record.seq in self.disk.sends:
                self.disk.sends[record.seq] = msgspec.structs.replace(record, is_scheduled=False)

    async def find_keys(self, keys: Sequence[str]) -> list[StoredKey]:
        await self._turn()
        return [self.disk.keys[key] for key in keys if key in self.disk.keys]

    async def read_parked(self, query: ParkedQuery, after_seq: int, limit: int) -> list[Parked]:
        await self._turn()
        return [
            item
            for seq, item in sorted(self.disk.parked.items())
            if seq > after_seq and _matches(query, item)
        ][:limit]

    def parked_counts(self) -> dict[Side, ParkedCount]:
        found = {}
        for side in Side:
            times = [item.parked_ms for item in self.disk.parked.values() if item.side is side]
            if times:
                found[side] = ParkedCount(len(times), min(times))
        return found

    def parked_dropped(self) -> int:
        return self._parked_dropped

    async def forget(self, limits: MemoryLimits) -> bool:
        await self._turn()
        disk = self.disk
        kept = [(at_ms, mark) for at_ms, mark in disk.seen if at_ms >= limits.seen_before_ms]
        disk.seen = kept[len(kept) - min(len(kept), limits.seen_max) :]
        kept_keys = [used for used in disk.keys.values() if used.at_ms >= limits.keys_before_ms]
        kept_keys = kept_keys[max(0, len(kept_keys) - limits.keys_max) :]
        disk.keys = {used.key: used for used in kept_keys}
        disk.sent = {s: end for s, end in disk.sent.items() if end.settled_ms >= limits.sent_before_ms}
        for seq in sorted(disk.parked, reverse=True)[limits.parked_max :]:
            del disk.parked[seq]
            self._parked_dropped += 1
        return False

    def used_bytes(self) -> int:
        return self._used_bytes if self.fixed_used_bytes is None else self.fixed_used_bytes

    def oldest_wait_ms(self) -> float:
        return (
            (self._clock.now_ns() - self._submitted_ns) / NS_PER_MS
            if self._submitted or self._makers
            else 0.0
        )

    async def close(self) -> None:
        self.commit()


def inbound_backlog(
    store: MemoryStore, clock: Clock, slots: int = 64, aside_max: int = 64, *, has_lanes: bool = False
) -> Backlog[InboundRecord]:
    """A queue of inbound records on `store`; `has_lanes`: one of each contact at a time."""

    async def read_page(cls: int, after_seq: int, limit: int) -> list[InboundRecord]:
        return await store.read_inbound(InboundClass(cls), after_seq, limit)

    return Backlog(
        len(InboundClass),
        slots,
        aside_max,
        read_page,
        lambda record: record.received_ms,
        clock,
        lanes=Lanes(lambda record: record.lane or None, store.find_inbound) if has_lanes else None,
    )


def send_backlog(store: MemoryStore, clock: Clock, slots: int = 64, aside_max: int = 64) -> SendQueue:
    """A queue of sends on `store`."""

    async def read_page(cls: int, after_seq: int, limit: int) -> list[SendRecord]:
        return await store.read_sends(SendClass(cls), after_seq, limit)

    return SendQueue(len(SendClass), slots, aside_max, read_page, lambda record: record.accepted_ms, clock)


class FakeAlarm:
    """An alarm that rings when the test says so."""

    def __init__(self, clock: FakeClock) -> None:
        self.deadline_ns: int | None = None
        """When whoever waits now wants to be woken; None while nobody waits."""
        self._clock = clock
        self._rung = asyncio.Event()

    async def wait_until(self, deadline_ns: int) -> None:
        self._rung.clear()
        self.deadline_ns = deadline_ns
        try:
            await self._rung.wait()
        finally:
            self.deadline_ns = None

    def ring(self) -> None:
        self._rung.set()

    def reach(self) -> None:
        """Let time pass until the deadline."""
        assert self.deadline_ns is not None, "nobody waits"
        self._clock.advance_ns(max(0, self.deadline_ns - self._clock.now_ns()))
        self.ring()


async def turns(count: int = 10) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)

"""The push API's decisions: who may push, what a request must look like, and that it is stored before 2xx."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from typing import Final

import orjson

from gateway.clock import Clock
from gateway.dialects.dialect import Dialect, Push, Refusal
from gateway.errors import StoreError
from gateway.events import Kind, SendClass, SendRecord
from gateway.outbound.options import Options, read_class, read_options
from gateway.store.backlog import Backlog
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change, SendStatus, Store

PUSHES_FULL: Final = 0.75
"""Share of the store's bound at which pushes are refused: the rest belongs to what comes in."""

RETRY_AFTER_S: Final = 5
"""What a push refused for a full queue is told. The queue's own rate will answer this better."""


class PushAnswer:
    """How a request of the push API is answered."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class Acceptor:
    """The door for sends."""

    def __init__(
        self,
        store: Store,
        store_max_bytes: int,
        backlog: Backlog[SendRecord],
        queue_max: int,
        tokens: tuple[str, ...],
        dialect: Dialect,
        books: Books,
        clock: Clock,
    ) -> None:
        """`tokens` are the bearer tokens that may push; with none the door is closed."""
        self._store = store
        self._store_max_bytes = store_max_bytes
        self._backlog = backlog
        self._queue_max = queue_max
        self._tokens = [token.encode() for token in tokens]
        self._dialect = dialect
        self._books = books
        self._clock = clock
        self._entering = 0
        self._reclassing = asyncio.Lock()
        self.release: Callable[[int, int], None] = lambda _seq, _now_ns: None
        """Called before a send is given another class: whoever has it in hand and has not begun gives it back."""
        self.refused: dict[str, int] = {}

    def authorise(self, authorization: str | None) -> PushAnswer | None:
        """None when the header carries a token of ours, else the refusal."""
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode(errors="surrogateescape")
        # Every token is compared, so that the time taken tells nothing of which one is near.
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if scheme.lower() == "bearer" and any(matches):
            return None
        details = (
            "Invalid credentials."
            if self._tokens
            else "The push API is closed: GATEWAY_PUSH_TOKENS is unset."
        )
        return self._refuse("denied", Refusal(401, self._dialect.codes.denied, "Access denied", details))

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> PushAnswer:
        """Take one send request whose sender is authorised, with what its headers ask for. Waits for the disk."""
        codes = self._dialect.codes
        options = read_options(headers)
        if isinstance(options, str):
            return self._invalid(options)
        push = self._dialect.read_push(body)
        if isinstance(push, Refusal):
            return self._refuse("invalid", push)
        if (full := self._full()) is not None:
            return self._refuse("full", full)
        record = self.new_record(push, body, options)
        self._entering += 1
        try:
            await self._store.submit(self.add(Change(), [record]))
        except StoreError as error:
            refusal = Refusal(503, codes.busy, "Service not ready", str(error))
            return self._refuse("store", refusal)
        finally:
            self._entering -= 1
        return PushAnswer(202, self._dialect.accepted_body(record.id))

    def refuse_large(self, limit_bytes: int) -> PushAnswer:
        """The refusal of a body over `limit_bytes`."""
        details = f"the body is larger than GATEWAY_PUSH_BODY_MAX, {limit_bytes} bytes"
        return self._refuse("large", Refusal(413, self._dialect.codes.invalid, "Request too large", details))

    def _invalid(self, details: str) -> PushAnswer:
        refusal = Refusal(400, self._dialect.codes.invalid, "Parameter value is not valid", details)
        return self._refuse("invalid", refusal)

    def _full(self) -> Refusal | None:
        waiting = self._backlog.total() + self._entering
        if waiting >= self._queue_max:
            return Refusal(429, self._dialect.codes.busy, "Too many requests", f"{waiting} sends are waiting")
        if self._store.used_bytes() >= self._store_max_bytes * PUSHES_FULL:
            return Refusal(429, self._dialect.codes.busy, "Too many requests", "the store is full")
        return None

    def takes_replies(self) -> bool:
        """Whether instant replies are taken: as many may wait, apart from pushes, as `queue_max`."""
        reply = SendClass.REPLY
        return self._backlog.depth(reply) + self._backlog.on_disk(reply) < self._queue_max

    def new_record(self, push: Push, body: bytes, options: Options) -> SendRecord:
        """A record for a send accepted now."""
        seq = self._store.next_seq()
        return SendRecord(
            seq,
            self._store.send_id(seq),
            options.cls,
            push.to,
            push.is_group,
            body,
            self._clock.wall_ms(),
            mask=options.mask,
        )

    def add(self, change: Change, records: list[SendRecord]) -> Change:
        """`change`, with these sends accepted in it: they enter the books and the queue once it is on disk."""
        books = accepted_entries([(Kind.SEND, len(records))])

        def on_commit() -> None:
            self._books.apply(books)
            for record in records:
                self._backlog.push(record)

        change.sends += records
        change.books += books
        change.on_commit.append(on_commit)
        return change

    async def reclass(self, send_id: str, priority: str | None) -> PushAnswer:
        """Give a waiting send another class, for whoever is authorised. It survives retries and restarts.

        409 for one that is under way at the node or has ended, 429 when the new class has no room for it.
        """
        codes = self._dialect.codes
        new = read_class(priority)
        if isinstance(new, str):
            return self._invalid(new)
        async with self._reclassing:
            # One at a time: so the class that the store tells is the one it waits in.
            status = await self._store.find_send(send_id)
            if status is None:
                return await self.find(send_id)
            if status.state != "queued":
                refusal = Refusal(409, codes.invalid, "Too late", f"the send is {status.state}")
                return self._refuse("too_late", refusal)
            if status.cls is not new and not self._backlog.has_room_to_move(new):
                details = f"as many {new.label} sends as fit are in memory"
                return self._refuse("full", Refusal(429, codes.busy, "Too many requests", details))
            if status.cls is not new and not await self._move(status, new):
                refusal = Refusal(409, codes.invalid, "Too late", "the send is under way")
                return self._refuse("too_late", refusal)
        return await self.find(send_id)

    async def _move(self, status: SendStatus, new: SendClass) -> bool:
        seq = int(status.id.rpartition("-")[2])
        self.release(seq, self._clock.now_ns())
        try:
            withdrawn = self._backlog.withdraw(seq, status.cls)
        except KeyError:
            return False
        moved = await self._store.reclass_send(seq, status.cls, new)
        assert moved is not None, f"{status.id} waited in class {status.cls.label} and is not on disk there"
        if withdrawn is not None:
            moved.attempts = withdrawn.attempts
            moved.is_uncertain = withdrawn.is_uncertain
        self._backlog.reinstate(moved)
        return True

    async def find(self, send_id: str) -> PushAnswer:
        """The status of one send, for whoever is authorised."""
        status = await self._store.find_send(send_id)
        if status is None:
            refusal = Refusal(
                404, self._dialect.codes.not_found, "Resource not found", f"no send {send_id!r}"
            )
            return self._refuse("not_found", refusal)
        return PushAnswer(200, orjson.dumps(_status_object(status)))

    def _refuse(self, reason: str, refusal: Refusal) -> PushAnswer:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        headers = {"Retry-After": str(RETRY_AFTER_S)} if refusal.status in (429, 503) else None
        return PushAnswer(refusal.status, self._dialect.refusal_body(refusal), headers)


def _status_object(status: SendStatus) -> dict[str, object]:
    return {
        "id": status.id,
        "state": status.state,
        "class": status.cls.label,
        "to": status.to,
        "accepted_ms": status.accepted_ms,
        "settled_ms": status.settled_ms,
        "attempts": status.attempts,
        "is_uncertain": status.is_uncertain,
        "node_id": status.node_id or None,
        "reason": status.reason or None,
    }

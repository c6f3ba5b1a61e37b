"""Where parts that don't know each other meet: forwarders and HTTP, replies and sends, ended sends and events."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from gateway._fast.exchange import Exchange
from gateway.clock import Clock
from gateway.config import OFF, Settings
from gateway.dialects.dialect import Dialect, Push, Unsent
from gateway.events import (
    InboundClass,
    InboundRecord,
    Kind,
    Outcome,
    ReceiptMask,
    SendClass,
    SendRecord,
    pack_counts,
)
from gateway.http.client import HttpClient, Response
from gateway.inbound.destination import Backend, BackendAnswer, Route
from gateway.inbound.reply import read_replies
from gateway.outbound.accept import Acceptor
from gateway.outbound.options import Options
from gateway.store.backlog import Backlog
from gateway.store.books import Books, accepted_entries
from gateway.store.protocol import Change, Store

log = logging.getLogger(__name__)

_HEADERS: Final = {"Content-Type": "application/json"}


class HttpBackend:
    """A destination reached by HTTP POST."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self.endpoint = http.endpoint("POST", url, _HEADERS)
        self.route: Route | None = self

    def answer_of(self, response: Response) -> BackendAnswer:
        status = response.status
        # A head is taken apart only when asked, and a success says nothing about coming again.
        is_success = status is not None and 200 <= status <= 299
        retry_after = None if is_success else response.headers.get("retry-after")
        return BackendAnswer(status, response.body, retry_after, response.error, was_sent=response.was_sent)

    def post_soon(self, body: bytes, headers: bytes, done: Callable[[BackendAnswer], None]) -> Exchange:
        """POST `body` with `headers`, lines that end in CR LF; `done` gets the answer, later, and must not raise.

        The exchange can be cancelled: then nobody is called.
        """
        return self.endpoint.start(body, headers, lambda response: done(self.answer_of(response)))


class Nowhere:
    """The destination of what is switched off: whatever should still come here is done with."""

    route: Route | None = None

    def post_soon(
        self, _body: bytes, _headers: bytes, done: Callable[[BackendAnswer], None]
    ) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(done, BackendAnswer(204))


class HttpBackends:
    """The backend's two destinations, each with connections of its own: one that hangs holds none of the other's."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext) -> None:
        self._clients = [
            HttpClient(settings.backend_timeout_ms, settings.backend_concurrency, tls) for _ in range(2)
        ]
        of_messages, of_events = self._clients
        self.message: Backend = HttpBackend(of_messages, settings.message_webhook_url)
        self.event: Backend = Nowhere()
        if settings.event_webhook_url != OFF:
            self.event = HttpBackend(of_events, settings.event_webhook_url)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))


class InstantReplies:
    """Turns messages in a backend's answer into sends of the reply class, in the change that settles the message."""

    def __init__(self, acceptor: Acceptor, dialect: Dialect) -> None:
        self._acceptor = acceptor
        self._dialect = dialect
        self.taken = 0
        self.bad_answers = 0

    def add_replies(self, record: InboundRecord, answer: bytes, change: Change) -> None:
        found = read_replies(answer, record.body, record.lane, self._dialect)
        problem = found.problem
        if found.replies and not self._acceptor.takes_replies():
            problem = "as many replies as GATEWAY_SEND_QUEUE_MAX wait already"
        if problem:
            self.bad_answers += 1
            log.warning("instant reply not sent", extra={"problem": problem, "seq": record.seq})
        if not found.replies or problem != found.problem:
            return
        records = [
            self._acceptor.new_record(Push(reply.to, reply.is_group), reply.body, Options(SendClass.REPLY))
            for reply in found.replies
        ]
        self.taken += len(records)
        self._acceptor.add(change, records)


class EndedSends:
    """Tells the event webhook of sends that failed, expired or were cancelled: a status of ours among the node's.

    It came from no node: no budget is charged, and nothing is looked at for repeats.
    """

    def __init__(
        self, dialect: Dialect, store: Store, events: Backlog[InboundRecord], books: Books, clock: Clock
    ) -> None:
        self._dialect = dialect
        self._store = store
        self._events = events
        self._books = books
        self._clock = clock
        self.told = dict.fromkeys(Outcome, 0)

    def tell(
        self, record: SendRecord, outcome: Outcome, reason: str, code: int | None, change: Change
    ) -> None:
        if record.mask == ReceiptMask.NONE:
            return
        at_ms = self._clock.wall_ms()
        unsent = Unsent(record.id, record.to, record.is_group, outcome, reason, code, at_ms)
        status = InboundRecord(
            seq=self._store.next_seq(),
            cls=InboundClass.FAILURE,
            lane=record.to,
            body=self._dialect.failed_status(unsent),
            counts=pack_counts([Kind.FAILED]),
            received_ms=at_ms,
        )
        books = accepted_entries(status.kind_counts())

        def on_commit() -> None:
            self._books.apply(books)
            self._events.push(status)
            self.told[outcome] += 1

        change.inbound.append(status)
        change.books += books
        change.on_commit.append(on_commit)

"""From the queue to one destination of the backend: bounded concurrency, backoff, a breaker, replies.

Each destination (message webhook, event webhook) has a forwarder, a backlog and a concurrency of its own,
so a dead or slow one never touches the other, even where both are the same server.
"""

import asyncio
import logging
import random
from typing import Final, Protocol

from gateway._fast.histogram import LatencyHistogram
from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, Outcome
from gateway.inbound.breaker import Breaker
from gateway.inbound.verdict import Verdict, judge, retry_after_ms
from gateway.store.backlog import Backlog
from gateway.store.books import Books, outcome_entries
from gateway.store.protocol import Change, Parked, Store

log = logging.getLogger(__name__)

PROBE_MAX_MS: Final = 5_000
"""Longest wait between two probes of a destination: so late at most is a message once the backend is back,
and one request in five seconds hurts nobody."""

ANSWER_KEPT_BYTES: Final = 4096
"""Of the answer to a parked record."""


class BackendAnswer:
    """What the backend said; `status` None when it said nothing."""

    __slots__ = ("body", "error", "retry_after", "status")

    def __init__(
        self, status: int | None, body: bytes = b"", retry_after: str | None = None, error: str = ""
    ) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.error = error


class Backend(Protocol):
    """How a destination is called."""

    async def post(self, body: bytes) -> BackendAnswer:
        """POST `body`. Never raises but on cancellation."""


class ReplySink(Protocol):
    """Who takes the instant replies. Handed in, because inbound does not know outbound."""

    def add_replies(self, record: InboundRecord, answer: bytes, change: Change) -> None:
        """Put the replies in `answer` to `record` into `change`, which also settles the record."""


class Forwarder:
    """Workers that carry records to one destination."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        backlog: Backlog[InboundRecord],
        concurrency: int,
        backoff_min_ms: int,
        backoff_max_ms: int,
        store: Store,
        books: Books,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.backlog = backlog
        self.concurrency = concurrency
        self.breaker = Breaker(backoff_min_ms, min(backoff_max_ms, PROBE_MAX_MS), rng)
        self.latency = LatencyHistogram()
        """From acceptance to the backend's 2xx."""
        self.verdicts = dict.fromkeys(Verdict, 0)
        self._backend = backend
        self._backoff_min_ms = backoff_min_ms
        self._backoff_max_ms = backoff_max_ms
        self._store = store
        self._books = books
        self.replies: ReplySink | None = None
        """Who takes instant replies; None where answers carry none."""
        self._clock = clock
        self._rng = rng
        self._is_draining = False

    def drain(self) -> None:
        """Take nothing new: workers finish what they have and return."""
        self._is_draining = True
        self.backlog.wake_all()

    async def work(self) -> None:
        """One worker: one record at a time, until `drain`. Run `concurrency` of them."""
        while not self._is_draining:
            now_ns = self._clock.now_ns()
            if not self.breaker.may_pass(now_ns):
                await self._wait_for_breaker(now_ns)
                continue
            # A probe with a record that has failed before would show that record's trouble, not the destination's.
            is_closed = self.breaker.state == "closed"
            record = self.backlog.take(prefers_fresh=not is_closed)
            if record is None:
                await self.backlog.wait_changed()
                continue
            is_probe = self.breaker.enter(now_ns)
            await self._forward(record, is_probe)

    async def _wait_for_breaker(self, now_ns: int) -> None:
        passes_at_ns = self.breaker.passes_at_ns()
        if passes_at_ns is None:
            await self.backlog.wait_changed()  # a probe is under way, its end wakes all
            return
        try:
            async with asyncio.timeout((passes_at_ns - now_ns) / NS_PER_S):
                await self.backlog.wait_changed()
        except TimeoutError:
            return

    async def _forward(self, record: InboundRecord, is_probe: bool) -> None:
        answer = await self._backend.post(record.body)
        verdict = judge(answer.status)
        self.verdicts[verdict] += 1
        if verdict is Verdict.DELIVERED:
            self._recovered()
            await self._deliver(record, answer)
        elif verdict is Verdict.PARK:
            self._recovered()
            await self._park(record, answer)
        else:
            self._retry(record, answer, verdict, is_probe)

    def _recovered(self) -> None:
        """The destination answers: what was put off because it did not need not wait any longer."""
        was_closed = self.breaker.state == "closed"
        self.breaker.succeed()
        if not was_closed:
            log.info("backend answers again", extra={"destination": self.name})
            self.backlog.hasten()

    async def _deliver(self, record: InboundRecord, answer: BackendAnswer) -> None:
        change = Change(inbound_done=[record])
        if self.replies is not None and answer.body:
            self.replies.add_replies(record, answer.body, change)
        age_ms = self._clock.wall_ms() - record.received_ms
        if record.cls is InboundClass.MESSAGE:
            self.latency.record_ns(max(0, age_ms) * NS_PER_MS)
        await self._settle(record, change, Outcome.DELIVERED)

    async def _park(self, record: InboundRecord, answer: BackendAnswer) -> None:
        reason = f"HTTP {answer.status}"
        log.warning(
            "backend refuses a body for good, parked",
            extra={"destination": self.name, "seq": record.seq, "reason": reason},
        )
        parked = Parked(record, reason, answer.body[:ANSWER_KEPT_BYTES], self._clock.wall_ms())
        await self._settle(record, Change(parked=[parked]), Outcome.FAILED)

    async def _settle(self, record: InboundRecord, change: Change, outcome: Outcome) -> None:
        books = outcome_entries(record.kind_counts(), outcome)

        def on_commit() -> None:
            self._books.apply(books)
            self.backlog.settle(record)

        change.books += books
        change.on_commit.append(on_commit)
        try:
            await self._store.submit(change)
        except StoreError:
            return  # the record stays taken and on disk; the process is about to end

    def _retry(self, record: InboundRecord, answer: BackendAnswer, verdict: Verdict, is_probe: bool) -> None:
        now_ns = self._clock.now_ns()
        asked_ms = retry_after_ms(answer.retry_after, self._backoff_max_ms)
        was_open = self.breaker.state != "closed"
        is_first_failure = record.attempts == 0
        if verdict is Verdict.RETRY:
            record.attempts += 1
        else:
            asked_ms = asked_ms or self._backoff_min_ms
        # A record that fails again and again may be the trouble itself: it must not close the destination
        # for all others.
        if is_probe or is_first_failure or asked_ms:
            self.breaker.fail(now_ns, asked_ms, is_probe=is_probe)
        if self.breaker.state == "open" and not was_open:
            log.warning(
                "backend is in trouble, waiting",
                extra={"destination": self.name, "status": answer.status, "error": answer.error},
            )
        ceiling_ms = min(self._backoff_min_ms << min(record.attempts, 20), self._backoff_max_ms)
        wait_ms = max(asked_ms, self._rng.randint(0, ceiling_ms))
        self.backlog.defer(record, now_ns + wait_ms * NS_PER_MS)
        self.backlog.wake_all()

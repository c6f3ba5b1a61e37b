"""From the queue to one destination of the backend: what goes next, carrying it, and what the answer means for it.

Each destination (message webhook, event webhook) has a forwarder, a backlog and a gate of its own, so a dead or slow
one never touches the other, even where both are the same server.
"""

import logging
import random
from collections.abc import Mapping
from typing import Final, Protocol

from gateway._fast.histogram import LatencyHistogram
from gateway.clock import NS_PER_MS, Clock
from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, Outcome
from gateway.inbound.compose import Parcel
from gateway.inbound.gate import Gate, Passage
from gateway.inbound.picks import Picks
from gateway.inbound.stamps import stamps
from gateway.inbound.verdict import Verdict, judge, load_sign, retry_after_ms
from gateway.store.backlog import Backlog
from gateway.store.books import Books
from gateway.store.protocol import Change, Parked, Store

log = logging.getLogger(__name__)

WORKERS_SHARE: Final = 2
"""Workers for each place at the destination: one waits for the disk while another uses the place."""

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

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        """POST `body`, with `headers` beside the backend's own. Never raises but on cancellation."""


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
        gate: Gate,
        picks: Picks,
        backoff_min_ms: int,
        backoff_max_ms: int,
        store: Store,
        books: Books,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`picks` gives the work, of `backlog` and through `gate`."""
        self.name = name
        self.backlog = backlog
        self.gate = gate
        self._picks = picks
        self.workers = WORKERS_SHARE * gate.limit.highest
        """How many times `work` should run."""
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
        self.gate.let_all()

    def needs_token(self, now_ns: int) -> bool:
        """Whether a record is ready to go as soon as the backend's rate allows."""
        return not self._is_draining and self.gate.needs_token(now_ns) and self._picks.has_next()

    # -- what goes next

    async def work(self) -> None:
        """One worker: one pick at a time, until `drain`."""
        while not self._is_draining:
            now_ns = self._clock.now_ns()
            if not self._picks.has_next():
                await self.backlog.wait_changed()
            elif self.gate.opens_at_ns(now_ns) > now_ns:
                await self.gate.wait()
            else:
                pick = self._picks.take()
                for parcel in pick.parcels:
                    await self._bring(parcel, is_retry=pick.is_retry)

    async def _bring(self, parcel: Parcel, *, is_retry: bool) -> None:
        """Carry a parcel as soon as the gate is open. Draining leaves it where it is, on disk."""
        if parcel.body is None:
            await self._settle(parcel, Change(inbound_done=parcel.records))
            return
        while (now_ns := self._clock.now_ns()) < self.gate.opens_at_ns(now_ns):
            if self._is_draining:
                return
            await self.gate.wait()
        await self._carry(parcel, parcel.body, self.gate.enter(now_ns, is_retry=is_retry))

    # -- carrying it

    async def _carry(self, parcel: Parcel, body: bytes, passage: Passage) -> None:
        answer = await self._backend.post(body, stamps(parcel.records, self._clock.wall_ms()))
        verdict = judge(answer.status)
        self.verdicts[verdict] += 1
        if verdict is Verdict.DELIVERED:
            self._succeed(passage)
            await self._deliver(parcel, answer)
        elif verdict is Verdict.PARK:
            self._succeed(passage)
            await self._refused(parcel, answer)
        else:
            self._retry(parcel, answer, verdict, passage)

    def _succeed(self, passage: Passage) -> None:
        if self.gate.succeed(passage, self._clock.now_ns()):
            log.info("backend answers again", extra={"destination": self.name})
            self.backlog.hasten()  # what was put off because it did not need not wait any longer

    # -- what the answer means for it

    async def _deliver(self, parcel: Parcel, answer: BackendAnswer) -> None:
        change = Change(inbound_done=parcel.records)
        record = parcel.records[0]
        if self.replies is not None and answer.body:
            self.replies.add_replies(record, answer.body, change)
        if record.cls is InboundClass.MESSAGE:
            age_ms = self._clock.wall_ms() - record.received_ms
            self.latency.record_ns(max(0, age_ms) * NS_PER_MS)
        await self._settle(parcel, change)

    async def _refused(self, parcel: Parcel, answer: BackendAnswer) -> None:
        """The backend refuses the body for good: park it; of several, find out which it is."""
        if len(parcel.records) > 1:
            log.info("backend refuses a batch, its receipts go alone", extra=self._said(answer))
            for record in parcel.records:
                record.goes_alone = True
                self.backlog.defer(record, self._clock.now_ns())
            return
        (record,) = parcel.records
        reason = f"HTTP {answer.status}"
        log.warning(
            "backend refuses a body for good, parked",
            extra={"destination": self.name, "seq": record.seq, "reason": reason},
        )
        parked = Parked(record, reason, answer.body[:ANSWER_KEPT_BYTES], self._clock.wall_ms())
        whole = Parcel([record], record.body)
        await self._settle(whole, Change(parked=[parked]), Outcome.FAILED)

    async def _settle(self, parcel: Parcel, change: Change, outcome: Outcome = Outcome.DELIVERED) -> None:
        """Settle what a parcel carried, with `outcome`, and what it left out."""
        books = parcel.books(outcome)

        def on_commit() -> None:
            self._books.apply(books)
            self._picks.ended(parcel)
            for record in parcel.records:
                self.backlog.settle(record)

        change.books += books
        change.on_commit.append(on_commit)
        try:
            await self._store.submit(change)
        except StoreError:
            return  # the records stay taken and on disk; the process is about to end

    def _retry(self, parcel: Parcel, answer: BackendAnswer, verdict: Verdict, passage: Passage) -> None:
        now_ns = self._clock.now_ns()
        asked_ms = retry_after_ms(answer.retry_after, self._backoff_max_ms)
        attempts = max(record.attempts for record in parcel.records)
        is_first_failure = attempts == 0
        if verdict is Verdict.RETRY:
            attempts += 1
            for record in parcel.records:
                record.attempts += 1
        else:
            asked_ms = asked_ms or self._backoff_min_ms
        # A record that fails again and again may be the trouble itself: it must not close the destination
        # for all others.
        shows_trouble = is_first_failure or asked_ms > 0
        ceiling_ms = min(self._backoff_min_ms << min(attempts, 20), self._backoff_max_ms)
        wait_ms = max(asked_ms, self._rng.randint(0, ceiling_ms))
        for record in parcel.records:
            self.backlog.defer(record, now_ns + wait_ms * NS_PER_MS)
        sign = load_sign(answer.status)
        if self.gate.fail(passage, now_ns, sign, asked_ms, shows_trouble=shows_trouble):
            log.warning("backend is in trouble, waiting", extra=self._said(answer))

    def _said(self, answer: BackendAnswer) -> dict[str, object]:
        return {"destination": self.name, "status": answer.status, "error": answer.error}

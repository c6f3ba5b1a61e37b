"""From the queue to one destination of the backend: what goes next, carrying it, and what the answer means for it.

The usual, one record and an answer that takes it, is done by a courier (`_fast/courier.pyx`) as long as it goes on by itself:
a record that has come or an answer starts the next. Here is who waits when it doesn't, and all that is not usual.

Each destination (message webhook, event webhook) has a forwarder, a backlog and a gate of its own, so a dead or slow
one never touches the other, even where both are the same server.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Callable
from typing import Any, Final

from gateway._fast.courier import Courier, Errand
from gateway._fast.histogram import LatencyHistogram
from gateway._fast.limit import Passage
from gateway._fast.stamps import Stamper
from gateway.clock import NS_PER_MS, Clock
from gateway.errors import StoreError
from gateway.events import INBOUND_KINDS, InboundClass, InboundRecord, Outcome
from gateway.inbound.compose import Parcel
from gateway.inbound.destination import Backend, BackendAnswer, ReplySink
from gateway.inbound.gate import Gate
from gateway.inbound.limit import Sign
from gateway.inbound.picks import Pick, Picks
from gateway.inbound.signature import Signer
from gateway.inbound.stamps import second_text, stamps
from gateway.inbound.verdict import Verdict, judge, load_sign, retry_after_ms
from gateway.store.backlog import Backlog
from gateway.store.books import Books, book_entry
from gateway.store.protocol import Change, Parked, Store

log = logging.getLogger(__name__)

UNDER_WAY_SHARE: Final = 2
"""Records in hand for each place at the destination: one waits for the disk while another uses the place."""

TURN_NS: Final = NS_PER_MS
"""Work until the loop looks at everyone else: about one batch of receipts. Acks wait meanwhile."""

GONE: Final = "gone"
"""Why a gate is closed after a 410."""

ANSWER_KEPT_BYTES: Final = 4096
"""Of the answer to a parked record."""


class Forwarder:
    """Carries records to one destination: a courier, one task that starts what that does not, and callbacks."""

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
        *,
        attempts_max: int = 50,
        signer: Signer | None = None,
    ) -> None:
        """`picks` gives the work, of `backlog` and through `gate`. A record is given up after `attempts_max`."""
        self.name = name
        self.backlog = backlog
        self.gate = gate
        self._picks = picks
        self._verdicts = dict.fromkeys(Verdict, 0)
        """Without those of plain successes, which the courier counts."""
        self._route = backend.route
        self._backoff_min_ms = backoff_min_ms
        self._backoff_max_ms = backoff_max_ms
        self._store = store
        self._books = books
        self._replies: ReplySink | None = None
        self._clock = clock
        self._rng = rng
        self._attempts_max = attempts_max
        self._signer = signer or Signer(store.send_id)
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the destination has said that it is gone, and `gate` is closed for it."""
        self._settling = 0
        """Changes that are not on disk yet, without those of the courier."""
        self._ended = asyncio.Event()
        """Set when something has ended, for whoever waits for the last."""
        self._defect: Exception | None = None
        self._is_draining = False
        self._courier = Courier(
            backlog=backlog,
            gate=gate,
            waits=picks.waits,
            sieve=picks.sieve,
            endpoint=None if backend.route is None else backend.route.endpoint,
            post_soon=backend.post_soon,
            stamper=None if self._signer.signs else Stamper(self._signer.id_prefix, second_text),
            lines=self._lines,
            clock=clock,
            gather=functools.partial(store.gather, can_wait=True),
            hurry=store.hurry,
            make_change=Change,
            entry_of=book_entry,
            kinds=INBOUND_KINDS,
            delivered=Outcome.DELIVERED,
            books=books.totals,
            unusual=self._conclude,
            recovered=self._recovered,
            ended=self._ended.set,
            failed=self._fail,
        )

    @property
    def latency(self) -> LatencyHistogram:
        """From acceptance to the backend's 2xx, of each request's first record."""
        return self._courier.latency

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """How many answers meant what."""
        return {
            **self._verdicts,
            Verdict.DELIVERED: self._verdicts[Verdict.DELIVERED] + self._courier.delivered,
        }

    @property
    def replies(self) -> ReplySink | None:
        """Who takes instant replies; None where answers carry none."""
        return self._replies

    @replies.setter
    def replies(self, sink: ReplySink) -> None:
        self._replies = sink
        self._courier.want_bodies()

    def drain(self) -> None:
        """Take nothing new: `work` finishes what it has and returns."""
        self._is_draining = self._courier.is_draining = True
        self.backlog.wake_all()
        self.gate.let_all()

    def needs_token(self, now_ns: int) -> bool:
        """Whether a record is ready to go as soon as the backend's rate allows."""
        return not self._is_draining and self.gate.needs_token(now_ns) and self._picks.has_next()

    # -- what goes next

    async def work(self) -> None:
        """Start what may go, until `drain`, and wait for what is under way. Cancelled, it wants no answers any more."""
        picks, gate, clock = self._picks, self.gate, self._clock
        ends_ns = clock.now_ns() + TURN_NS
        if picks.waits is not None:
            self.backlog.starter = self._courier
        try:
            while not self._is_draining:
                starts_itself = self._courier.start_ready()
                now_ns = clock.now_ns()
                if (left := self._courier.take_left()) is not None:
                    await self._bring(picks.pick_of(*left))
                    if now_ns <= ends_ns:
                        continue
                    await asyncio.sleep(0)
                elif not picks.has_next():
                    await self.backlog.wait_changed()
                elif gate.opens_at_ns(now_ns) > now_ns:
                    await gate.wait()
                elif now_ns > ends_ns:
                    await asyncio.sleep(0)
                elif starts_itself:
                    continue
                else:
                    pick = picks.take()
                    if len(pick.parcels) == 1 and pick.parcels[0].body is not None:
                        self._carry(pick.parcels[0], gate.enter(now_ns, is_retry=pick.is_retry))
                    else:
                        await self._bring(pick)
                    continue
                ends_ns = clock.now_ns() + TURN_NS
            while self._defect is None and self._is_busy():
                self._ended.clear()
                await self._ended.wait()
        finally:
            self._courier.is_draining = True
            self._courier.cancel()
        if self._defect is not None:
            raise self._defect

    async def _bring(self, pick: Pick) -> None:
        """Carry all parcels, each as soon as the gate is open. Draining leaves them on disk."""
        parcels = pick.parcels
        while parcels:
            now_ns = self._clock.now_ns()
            first, *others = parcels
            if first.body is None:
                self._settle(first, Change(inbound_done=first.records))
                await asyncio.sleep(0)  # a queue full of what is too old must not hold up everyone else
            elif self.gate.opens_at_ns(now_ns) <= now_ns:
                self._carry(first, self.gate.enter(now_ns, is_retry=pick.is_retry))
            elif self._is_draining:
                return
            else:
                self._courier.gives_way = True  # what is fresh comes after what was taken before it
                await self.gate.wait()
                self._courier.gives_way = False
                # What was right before may not be so any more.
                others = self._picks.again(parcels)
            parcels = others

    # -- carrying it

    def _is_busy(self) -> bool:
        """Whether there are requests without an answer, or ends that are not on disk."""
        return bool(self._courier.under_way or self._courier.settling or self._settling)

    def _carry(self, parcel: Parcel, passage: Passage) -> None:
        assert parcel.body is not None, "nothing to carry"
        is_plain = len(parcel.records) == 1 and parcel.body is parcel.records[0].body and not parcel.old
        self._courier.carry(parcel.records, parcel.body, None if is_plain else parcel, passage)

    def _lines(self, records: list[InboundRecord], body: bytes, wall_ms: int) -> bytes:
        """A request's own header lines."""
        return stamps(records, wall_ms) + self._signer.headers(
            [record.seq for record in records], body, wall_ms
        )

    def _conclude(self, errand: Errand, answer: Any) -> None:
        """An answer that is no plain success."""
        answer = answer if self._route is None else self._route.answer_of(answer)
        parcel = errand.parcel or Parcel(errand.records, errand.records[0].body)
        self._judge(parcel, errand.passage, answer)

    def _fail(self, error: Exception) -> None:
        """A part has failed: `work` ends with it, and the process. Nobody else would see it."""
        self._defect = error
        self.drain()
        self._ended.set()

    def _judge(self, parcel: Parcel, passage: Passage, answer: BackendAnswer) -> None:
        verdict = judge(answer.status)
        self._verdicts[verdict] += 1
        had_room = self.gate.has_room_for_retry
        if verdict is Verdict.DELIVERED:
            self._succeed(passage)
            self._deliver(parcel, answer)
        elif verdict is Verdict.PARK:
            self._succeed(passage)
            self._refused(parcel, answer)
        elif verdict is Verdict.GONE:
            self._gone(parcel, answer, passage)
        else:
            self._give_up(self._retry(parcel, answer, verdict, passage), answer)
        if not had_room and self.gate.has_room_for_retry:
            self.backlog.wake_all()  # retries may have held all their places, and then what waits was not looked at

    def _succeed(self, passage: Passage) -> None:
        if self.gate.succeed(passage, self._clock.now_ns()):
            self._recovered()

    def _recovered(self) -> None:
        """A time of trouble is over: what was put off for it need not wait any longer."""
        log.info("backend answers again", extra={"destination": self.name})
        self.backlog.hasten()

    # -- what the answer means for it

    def _deliver(self, parcel: Parcel, answer: BackendAnswer) -> None:
        change = Change(inbound_done=parcel.records)
        record = parcel.records[0]
        if self._replies is not None and answer.body:
            self._replies.add_replies(record, answer.body, change)
        age_ms = self._clock.wall_ms() - record.received_ms
        self.latency.record_ns(max(0, age_ms) * NS_PER_MS)
        self._settle(parcel, change)

    def _refused(self, parcel: Parcel, answer: BackendAnswer) -> None:
        """The backend refuses the body for good: park it; of several, find out which it is.

        A digest is not what the node has sent, so nothing is parked for it: its receipts go as they came.
        """
        if len(parcel.records) > 1 or parcel.is_digest:
            what = "digest" if parcel.is_digest else "batch"
            log.info("backend refuses a %s, its receipts go alone", what, extra=self._said(answer))
            for record in parcel.records:
                record.goes_alone = True
                self.backlog.defer(record, self._clock.now_ns())
            return
        refused = parcel.records[0]
        refused.attempts += 1  # this one too, as an operator counts
        self._park(refused, answer.reason, answer)

    def _give_up(self, records: list[InboundRecord], answer: BackendAnswer) -> None:
        """Records that have spent their attempts: they are parked, and receipts expire, which nobody would send again."""
        receipts = [record for record in records if record.cls is InboundClass.RECEIPT]
        if receipts:
            extra = {**self._said(answer), "records": len(receipts)}
            log.warning("receipts have spent their attempts, expired", extra=extra)
            self._settle(Parcel(receipts, None), Change(inbound_done=receipts), Outcome.EXPIRED)
        for record in records:
            if record.cls is not InboundClass.RECEIPT:
                self._park(record, f"{answer.reason} (attempt {record.attempts})", answer)

    def _park(self, record: InboundRecord, reason: str, answer: BackendAnswer) -> None:
        log.warning(
            "message can't be delivered, parked",
            extra={"destination": self.name, "seq": record.seq, "reason": reason},
        )
        parked = Parked(record, reason, answer.body[:ANSWER_KEPT_BYTES], self._clock.wall_ms())
        whole = Parcel([record], record.body)
        self._settle(whole, Change(parked=[parked]), Outcome.FAILED)

    def _gone(self, parcel: Parcel, answer: BackendAnswer, passage: Passage) -> None:
        """Nobody is there any more (410): nothing goes to this destination until an operator says so. No attempt is spent."""
        now_ns = self._clock.now_ns()
        self.gate.fail(passage, now_ns, Sign.NEITHER, 0, shows_trouble=False)
        for record in parcel.records:
            self.backlog.defer(record, now_ns)
        if GONE in self.gate.closed_by:
            return
        self.gate.close(GONE)
        log.error("backend says that the destination is gone, it is paused", extra=self._said(answer))
        self.on_gone()

    def _settle(self, parcel: Parcel, change: Change, outcome: Outcome = Outcome.DELIVERED) -> None:
        """Settle what a parcel carried, with `outcome`, and what it left out."""
        books = parcel.books(outcome)
        for record in parcel.records:
            self.backlog.leave_lane(record)  # the next of its contact need not wait for the disk

        def on_commit() -> None:
            self._books.apply(books)
            self._picks.ended(parcel)
            for record in parcel.records:
                self.backlog.settle(record)
            self._settling -= 1
            if self._is_draining:
                self._ended.set()

        def on_failure(_error: StoreError) -> None:
            # The records stay taken and on disk; the process is about to end.
            self._settling -= 1
            self._ended.set()

        change.books += books
        change.on_commit.append(on_commit)
        change.on_failure.append(on_failure)
        self._settling += 1
        # Not while too much is in hand: then what is ready waits for it.
        self._store.put(change, can_wait=not self.backlog.memory.closed)

    def _retry(
        self, parcel: Parcel, answer: BackendAnswer, verdict: Verdict, passage: Passage
    ) -> list[InboundRecord]:
        """Put the records off; those that have spent their last attempt are the answer, and still taken."""
        now_ns = self._clock.now_ns()
        asked_ms = retry_after_ms(answer.retry_after, self._backoff_max_ms)
        attempts = max(record.attempts for record in parcel.records)
        is_first_failure = attempts == 0
        if verdict is Verdict.RETRY:
            attempts += 1
            # Where the destination is not just overloaded, one of a batch may be the trouble: it must not hold the others.
            is_suspect = not is_first_failure and load_sign(answer.status) is Sign.NEITHER
            # While the breaker is open, and where nothing was sent, it is not the record's fault: no attempt is spent.
            is_spent = answer.was_sent and self.gate.breaker.state == "closed"
            for record in parcel.records:
                record.attempts += is_spent
                record.goes_alone |= is_suspect
        else:
            asked_ms = asked_ms or self._backoff_min_ms
        # A record that fails again and again may be the trouble itself: it must not close the destination
        # for all others.
        shows_trouble = is_first_failure or asked_ms > 0 or not answer.was_sent
        ceiling_ms = min(self._backoff_min_ms << min(attempts, 20), self._backoff_max_ms)
        wait_ms = max(asked_ms, self._rng.randint(0, ceiling_ms))
        exhausted = [record for record in parcel.records if record.attempts >= self._attempts_max]
        for record in parcel.records:
            if record.attempts < self._attempts_max:
                self.backlog.defer(record, now_ns + wait_ms * NS_PER_MS)
        sign = load_sign(answer.status)
        if self.gate.fail(passage, now_ns, sign, asked_ms, shows_trouble=shows_trouble):
            log.warning("backend is in trouble, waiting", extra=self._said(answer))
        return exhausted

    def _said(self, answer: BackendAnswer) -> dict[str, object]:
        return {"destination": self.name, "status": answer.status, "error": answer.error}

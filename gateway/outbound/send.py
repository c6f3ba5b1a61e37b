"""From the pacer to the node: workers that make the request and carry out what its answer means.

Unknown outcomes. A send whose request ended without an answer may have been taken. It is sent again; or, where its
policy is `PARK`, it has failed. Then nothing may send it twice: that it goes is on disk before it goes, and a start that
finds it so fails it. That commit (a few ms) stands between its grant and its request.
"""

import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from gateway.clock import NS_PER_MS, Clock
from gateway.dialects.dialect import Answer
from gateway.errors import NodeError, StoreError
from gateway.events import OnUncertain, Outcome, SendClass, SendRecord
from gateway.outbound.outcomes import Effect, effect_of, is_uncertain
from gateway.outbound.pace import Pacer
from gateway.outbound.settle import Settler
from gateway.outbound.unnamed import Unnamed
from gateway.store.backlog import Backlog
from gateway.store.protocol import Change, Store

log = logging.getLogger(__name__)

LATE_NS: Final = 4 * NS_PER_MS
"""After its grant a send may go so much later: the window allows for 5 ms (docs/decisions/0004-window-of-1005-ms.md)."""

RETRY_MIN_MS: Final = 500
RETRY_MAX_MS: Final = 60_000
PAIR_MAX_MS: Final = 3_600_000
"""Longest wait after 131056. Meta asks for 4^n s, n counting the failures."""

OUTAGE_SENDS: Final = 3
"""So many different sends in trouble, with none through in between, are the node's trouble and not theirs."""


class Node(Protocol):
    """The node as a sender sees it."""

    @property
    def has_token(self) -> bool:
        """Whether a send can go without a login first."""

    async def send(self, body: bytes) -> Answer:
        """Make the request. Raises NodeError when no answer came."""

    async def login(self) -> None:
        """Get a new token. Raises NodeError when that fails."""

    async def check_contact(self, to: str) -> None:
        """Make the node look up a contact. Raises NodeError when no answer came."""


class Sender:
    """Workers that send. As many requests are under way as there are workers."""

    def __init__(
        self,
        node: Node,
        pacer: Pacer,
        backlog: Backlog[SendRecord],
        attempts_max: int,
        store: Store,
        settler: Settler,
        unnamed: Unnamed,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._node = node
        self._pacer = pacer
        pacer.is_prepared = lambda: node.has_token
        pacer.prepare = self.log_in
        self._backlog = backlog
        self._attempts_max = attempts_max
        self._store = store
        self._settler = settler
        self._unnamed = unnamed
        self._clock = clock
        self._rng = rng
        # Sequence numbers of sends not settled: bounded by what is taken and delayed.
        self._logged_in_for: set[int] = set()
        self._looked_up: set[int] = set()
        self._in_trouble: set[int] = set()
        self._marked: dict[int, SendRecord] = {}
        """Those of which the disk says that they go, which was too late for their moment."""
        self.under_way = 0
        self.effects = dict.fromkeys(Effect, 0)
        self.uncertain = 0
        self.on_answer: Callable[[SendRecord, Answer], None] = lambda _record, _answer: None
        """Called with each answer of the node, before what it does to the send."""

    def forget(self, seq: int) -> None:
        """A send has ended: what was kept of it in memory goes."""
        for seqs in (self._logged_in_for, self._looked_up, self._in_trouble):
            seqs.discard(seq)
        self._marked.pop(seq, None)

    async def log_in(self) -> None:
        """Get a token before anything is granted; sends pause when the node refuses."""
        try:
            await self._node.login()
        except NodeError as error:
            self._pacer.pause_all(None)
            log.warning("no login, sends pause", extra={"error": str(error)})

    async def work(self) -> None:
        """One worker: one send at a time, until the pacer drains."""
        while (record := await self._pacer.next()) is not None:
            self.under_way += 1
            try:
                await self._send(record)
            finally:
                self.under_way -= 1
        await self._unmark()

    async def _send(self, record: SendRecord) -> None:
        if record.on_uncertain == OnUncertain.PARK and not await self._may_go(record):
            return
        self._unnamed.began(record)
        try:
            answer = await self._node.send(record.body)
        except NodeError as error:
            self._unnamed.ended(record, "")
            if error.was_sent:
                await self._no_answer(record, f"no answer: {error}")
            else:
                await self._not_sent(record, error)
            return
        effect = effect_of(answer)
        self.effects[effect] += 1
        self.on_answer(record, answer)
        # Before anything is awaited: its receipts may be here already, and are looked at once this has waited.
        self._unnamed.ended(record, answer.message_id)
        if effect is Effect.SENT:
            self._pacer.front.named(record, answer.message_id, self._clock.now_ns())
        elif is_uncertain(answer):
            await self._no_answer(record, _reason(answer))
            return
        else:
            self._pacer.front.refused(record, self._clock.now_ns())
        match effect:
            case Effect.SENT:
                self._pacer.succeeded()
                self._node_is_well()
                record.attempts += 1
                await self._settle(record, Outcome.DELIVERED, node_id=answer.message_id)
            case Effect.LOGIN if record.seq in self._logged_in_for:
                # A fresh token is refused too: that is the operator's to mend, and no fault of the message.
                self._logged_in_for.discard(record.seq)
                log.error("node refuses a fresh token, sends pause", extra=_said(answer))
                await self._put_off(record, self._pacer.pause_all(None))
            case Effect.LOGIN:
                self._logged_in_for.add(record.seq)
                await self._repeat_after(record, self._node.login)
            case Effect.CONTACT if record.seq in self._looked_up:
                await self._fail(record, _reason(answer), answer.code)
            case Effect.CONTACT:
                self._looked_up.add(record.seq)
                await self._repeat_after(record, lambda: self._node.check_contact(record.to))
            case Effect.PAUSE_ALL:
                due_ns = self._pacer.slow_down(answer.retry_after_s)
                log.warning("node asks to slow down, sends pause", extra=_said(answer))
                await self._put_off(record, due_ns)
            case Effect.PAUSE_BULK:
                self._pacer.pause_bulk()
                log.warning("number is restricted, bulk pauses", extra=_said(answer))
                if record.cls is SendClass.BULK:
                    await self._put_off(record, self._clock.now_ns())  # the pause holds it back
                else:
                    await self._retry_or_fail(record, _reason(answer), answer.code)
            case Effect.PAUSE_RECIPIENT:
                self._in_trouble.clear()  # the node is well
                record.attempts += 1
                if record.attempts >= self._attempts_max:
                    await self._fail(record, _reason(answer), answer.code)
                else:
                    wait_ms = min(4**record.attempts * 1000, PAIR_MAX_MS)
                    due_ns = self._clock.now_ns() + wait_ms * NS_PER_MS
                    await self._put_off(record, due_ns, is_changed=True)
            case Effect.RETRY:
                await self._retry_or_fail(record, _reason(answer), answer.code)
            case Effect.FAIL:
                self._node_is_well()
                record.attempts += 1
                await self._fail(record, _reason(answer), answer.code)

    def _node_is_well(self) -> None:
        self._in_trouble.clear()
        self._pacer.prefers_fresh = False

    async def _may_go(self, record: SendRecord) -> bool:
        """Put on disk that a send goes that must not go twice. False: it has ended, waits again, or the disk has failed."""
        marked = self._marked.pop(record.seq, None)
        if marked is not None:
            # Read back from disk it would have the mark.
            record.attempts, record.is_uncertain = marked.attempts, marked.is_uncertain
            return True
        if record.is_uncertain:
            self._pacer.front.refused(record, self._clock.now_ns())
            await self._fail(record, "uncertain: the gateway ended before the node's answer")
            return False
        tried = msgspec.structs.replace(record, attempts=record.attempts + 1, is_uncertain=True)
        granted_ns = self._clock.now_ns()
        try:
            await self._store.submit(Change(sends_tried=[tried]))
        except StoreError:
            return False  # the send stays taken and on disk; the process is about to end
        now_ns = self._clock.now_ns()
        if now_ns - granted_ns <= LATE_NS:
            return True
        # The number's second is another one than it was granted in: it asks again, and then goes at once.
        self._marked[record.seq] = record
        self._pacer.front.refused(record, now_ns)
        self._backlog.defer(record, now_ns)
        return False

    async def _unmark(self) -> None:
        """What is on disk as if it had gone, and has not: it waits for the next start."""
        marked, self._marked = list(self._marked.values()), {}
        if marked:
            with contextlib.suppress(StoreError):  # then it counts as gone, which is the safe side
                await self._store.submit(Change(sends_tried=marked))

    async def _put_off(self, record: SendRecord, due_ns: int, *, is_changed: bool = False) -> None:
        """Give a send back until `due_ns`; `is_changed`: what the store has of its attempts is no longer true."""
        # On disk before it is given back: from then on it may be given another class, and its row another key.
        if is_changed or record.on_uncertain == OnUncertain.PARK:
            try:
                await self._store.submit(Change(sends_tried=[record]))
            except StoreError:
                return  # as above
        self._backlog.defer(record, due_ns)

    async def _not_sent(self, record: SendRecord, error: NodeError) -> None:
        """The node is away: that is no fault of the message, and no message gets through now."""
        self._pacer.front.refused(record, self._clock.now_ns())
        due_ns = self._pacer.pause_all(None)
        log.warning("nothing can be sent now, sends pause", extra={"error": str(error)})
        await self._put_off(record, due_ns)

    async def _no_answer(self, record: SendRecord, reason: str) -> None:
        """Nobody knows whether the node took it."""
        self._pacer.front.unanswered(record, self._clock.now_ns())
        self.uncertain += 1
        record.is_uncertain = True
        if record.on_uncertain != OnUncertain.PARK:
            await self._retry_or_fail(record, reason, None)
            return
        record.attempts += 1
        self._note_trouble(record, reason)
        await self._fail(record, f"uncertain: {reason}")
        # It has ended and can't meet trouble again, but that it did tells of the node.
        if len(self._in_trouble) < OUTAGE_SENDS:
            self._in_trouble.add(record.seq)

    def _note_trouble(self, record: SendRecord, reason: str) -> int | None:
        """A send has met trouble. Where it is the node's and not its own, sends pause until the time returned."""
        self._in_trouble.add(record.seq)
        if len(self._in_trouble) < OUTAGE_SENDS:
            return None
        # Several sends in trouble and none through: it is the node, and waiting must not use up attempts.
        # One that was never tried goes next: were these the trouble themselves, they would go first for ever.
        self._pacer.prefers_fresh = True
        log.warning("node is in trouble, sends pause", extra={"reason": reason})
        return self._pacer.pause_all(None)

    async def _repeat_after(self, record: SendRecord, action: Callable[[], Awaitable[None]]) -> None:
        """Do what the node asks for, then send again without spending an attempt."""
        try:
            await action()
        except NodeError as error:
            due_ns = self._pacer.pause_all(None)
            log.warning("node refuses what a send needs, sends pause", extra={"error": str(error)})
            await self._put_off(record, due_ns)
        else:
            await self._put_off(record, self._clock.now_ns())

    async def _retry_or_fail(self, record: SendRecord, reason: str, code: int | None) -> None:
        if (due_ns := self._note_trouble(record, reason)) is not None:
            await self._put_off(record, due_ns, is_changed=record.is_uncertain)
            return
        record.attempts += 1
        if record.attempts >= self._attempts_max:
            await self._fail(record, reason, code)
            return
        ceiling_ms = min(RETRY_MIN_MS << min(record.attempts - 1, 20), RETRY_MAX_MS)
        wait_ms = self._rng.randint(ceiling_ms // 2, ceiling_ms)
        await self._put_off(record, self._clock.now_ns() + wait_ms * NS_PER_MS, is_changed=True)

    async def _fail(self, record: SendRecord, reason: str, code: int | None = None) -> None:
        log.warning("send failed", extra={"id": record.id, "attempts": record.attempts, "reason": reason})
        await self._settle(record, Outcome.FAILED, reason=reason, code=code)

    async def _settle(
        self,
        record: SendRecord,
        outcome: Outcome,
        node_id: str = "",
        reason: str = "",
        code: int | None = None,
    ) -> None:
        self.forget(record.seq)
        await self._settler.settle(record, outcome, node_id, reason, code)


def _reason(answer: Answer) -> str:
    code = "" if answer.code is None else f" ({answer.code})"
    return f"HTTP {answer.status}{code}{': ' if answer.title else ''}{answer.title}"


def _said(answer: Answer) -> dict[str, object]:
    return {"status": answer.status, "code": answer.code, "retry_after_s": answer.retry_after_s}

"""Who waits for the node's own answer to a push (`Prefer: wait=N`, RFC 7240): told when the send has ended."""

import asyncio

from gateway.dialects.dialect import Answer, Dialect, Refusal
from gateway.events import Outcome, SendRecord
from gateway.outbound.answers import PushAnswer
from gateway.store.protocol import Settled

_ENDS = {
    Outcome.CANCELLED: (409, "Cancelled", "the send was cancelled"),
    Outcome.EXPIRED: (410, "Expired", "the send was not sent within its TTL"),
}


class NodeAnswers:
    """Futures by sequence number, and the node's last answer to each that someone waits for. Nothing for any other."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._waiting: dict[int, list[asyncio.Future[PushAnswer | None]]] = {}
        self._answers: dict[int, Answer] = {}

    def expect(self, seq: int) -> asyncio.Future[PushAnswer | None]:
        """A future that is done when a send has ended (None: we stop first). Whoever stops waiting must `leave`."""
        future: asyncio.Future[PushAnswer | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(seq, []).append(future)
        return future

    def leave(self, seq: int, future: asyncio.Future[PushAnswer | None]) -> None:
        """Wait no longer."""
        waiting = self._waiting.get(seq, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(seq, None)
            self._answers.pop(seq, None)

    def answered(self, record: SendRecord, answer: Answer) -> None:
        """The node has answered a send, for good or not."""
        if record.seq in self._waiting:
            self._answers[record.seq] = answer

    def ended(self, settled: Settled) -> None:
        """A send has ended, and that is on disk."""
        seq = settled.record.seq
        waiting = self._waiting.pop(seq, [])
        answer = self._answers.pop(seq, None)
        for future in waiting:
            if not future.done():
                future.set_result(self._told(settled, answer))

    def drain(self) -> None:
        """Nobody is to wait any more: the gateway stops."""
        for future in [future for waiting in self._waiting.values() for future in waiting]:
            if not future.done():
                future.set_result(None)

    def _told(self, settled: Settled, answer: Answer | None) -> PushAnswer:
        if settled.outcome in _ENDS:
            status, title, details = _ENDS[settled.outcome]
        elif answer is not None and not (200 <= answer.status < 300 and settled.outcome is Outcome.FAILED):
            return PushAnswer(answer.status, answer.body)
        else:
            status, title, details = 504, "No answer", settled.reason
        refusal = Refusal(status, self._dialect.codes.invalid, title, details)
        return PushAnswer(status, self._dialect.refusal_body(refusal))

    def __len__(self) -> int:
        """Sends that someone waits for."""
        return len(self._waiting)

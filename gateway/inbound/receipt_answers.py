"""What `GET /v1/receipts/{id}` and `POST /v1/receipts` answer: the ledger, for whoever sent the messages."""

from collections.abc import Mapping
from typing import Final

import msgspec
import orjson

from gateway.clock import Clock
from gateway.dialects.dialect import Dialect, Refusal
from gateway.inbound.receipt_book import Known, ReceiptBook
from gateway.store.protocol import Store

IDS_MAX: Final = 1_000
"""In one bulk question."""

_OURS: Final = "gw-"


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]


_decode: Final = msgspec.json.Decoder(_Question).decode


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """How a question is answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class ReceiptAnswers:
    """Answers by WhatsApp's message id, or by ours once the node has named the message."""

    def __init__(self, book: ReceiptBook, store: Store, dialect: Dialect, clock: Clock) -> None:
        self._book = book
        self._store = store
        self._dialect = dialect
        self._clock = clock

    async def find(self, message_id: str) -> ReceiptAnswer:
        """What is known of one message; 404 for one that never had a receipt, or whose are forgotten."""
        found = await self._look(message_id)
        if found is None:
            codes = self._dialect.codes
            refusal = Refusal(404, codes.not_found, "Resource not found", f"no receipts of {message_id!r}")
            return ReceiptAnswer(404, self._dialect.refusal_body(refusal))
        return ReceiptAnswer(200, orjson.dumps(found))

    async def find_many(self, body: bytes) -> ReceiptAnswer:
        """The same for `{"ids": [...]}`, at most IDS_MAX: `{"receipts": [...]}` in their order, null for unknown ones."""
        try:
            ids = _decode(body).ids
        except (msgspec.DecodeError, UnicodeDecodeError):
            ids = []
        if not 1 <= len(ids) <= IDS_MAX:
            details = f'expected {{"ids": [...]}} with 1 to {IDS_MAX} message ids'
            refusal = Refusal(400, self._dialect.codes.invalid, "Parameter value is not valid", details)
            return ReceiptAnswer(400, self._dialect.refusal_body(refusal))
        return ReceiptAnswer(200, orjson.dumps({"receipts": [await self._look(one) for one in ids]}))

    async def _look(self, message_id: str) -> dict[str, object] | None:
        node_id = message_id
        if message_id.startswith(_OURS):
            status = await self._store.find_send(message_id)
            if status is None or not status.node_id:
                return None
            node_id = status.node_id
        known = self._book.look(node_id, self._clock.wall_ms())
        return None if known is None else _object(message_id, known)


def _object(asked: str, known: Known) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(known)
    return shown if asked == known.id else {"queue_id": asked, **shown}

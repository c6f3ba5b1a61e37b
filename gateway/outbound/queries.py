"""What is told of sends: one by our id or WhatsApp's, or a batch with its counts and a page of its sends."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from gateway.errors import StoreError
from gateway.outbound.answers import PushAnswer, Refusals
from gateway.store.protocol import SendStatus, Store

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000

_OURS: Final = "gw-"


class Queries:
    """Answers those who are authorised."""

    def __init__(
        self,
        store: Store,
        refusals: Refusals,
        receipts_of: Callable[[str], object] = lambda _node_id: None,
    ) -> None:
        """`receipts_of` a WhatsApp id is what the receipt ledger knows, ready for JSON; None: nothing."""
        self._store = store
        self._refusals = refusals
        self._receipts_of = receipts_of

    async def locate(self, send_id: str) -> SendStatus | None:
        """The send with an id of ours, or of WhatsApp."""
        if send_id.startswith(_OURS):
            return await self._store.find_send(send_id)
        return await self._store.find_send_named(send_id)

    async def find(self, send_id: str) -> PushAnswer:
        """The status of one send, and when what happened to it."""
        try:
            status = await self.locate(send_id)
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))
        if status is None:
            return self._refusals.answer(self._refusals.not_found(f"no send {send_id!r}"))
        receipts = self._receipts_of(status.node_id) if status.node_id else None
        return PushAnswer(200, orjson.dumps({**_object(status), "receipts": receipts}))

    async def find_batch(self, batch_id: str, query: Mapping[str, str]) -> PushAnswer:
        """The sends of a batch by state, and a page of them: `limit` of those after the id `after`.

        Counts are of the sends that are remembered.
        """
        limit_text, after = query.get("limit", str(PAGE_DEFAULT)), query.get("after", "")
        is_number = limit_text.isascii() and limit_text.isdigit() and len(limit_text) < 9
        number = after.rpartition("-")[2]
        if not is_number or not 1 <= int(limit_text) <= PAGE_MAX:
            details = f"'limit' must be a number from 1 to {PAGE_MAX}"
            return self._refusals.answer(self._refusals.invalid(details))
        if after and not (number.isascii() and number.isdigit() and len(number) <= 15):
            return self._refusals.answer(self._refusals.invalid("'after' must be the id of a send"))
        try:
            found = await self._store.find_batch(batch_id, int(number or 0), int(limit_text))
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))
        if not found.counts:
            return self._refusals.answer(self._refusals.not_found(f"no batch {batch_id!r}"))
        body = {
            "batch_id": batch_id,
            "counts": found.counts,
            "messages": [_object(status) for status in found.sends],
        }
        return PushAnswer(200, orjson.dumps(body))


def _object(status: SendStatus) -> dict[str, object]:
    return {
        "id": status.id,
        "state": status.state,
        "class": status.cls.label,
        "to": status.to,
        "batch_id": status.batch or None,
        "accepted_ms": status.accepted_ms,
        "not_before_ms": status.not_before_ms or None,
        "expires_ms": status.expires_ms or None,
        "settled_ms": status.settled_ms,
        "attempts": status.attempts,
        "is_uncertain": status.is_uncertain,
        "node_id": status.node_id or None,
        "reason": status.reason or None,
    }

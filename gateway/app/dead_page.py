"""`/v1/dead`: dead letters listed, shown, accepted anew and discarded, over HTTP.

Whom a message was to and what it says are personal data: shown only where `content=true` asks for it, else phone numbers
are shortened as in the log, and bodies and answers left out.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway.app.dead_letters import DeadLetters
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.events import Side
from gateway.http.operations import Call, Operation
from gateway.ops.logs.redact import mask_phone, redact_text
from gateway.store.protocol import OpenStore, Parked, ParkedQuery

LIMIT_MAX: Final = 1_000
"""Of one page. Fewer where they are large."""
LIMIT_DEFAULT: Final = 100
IDS_MAX: Final = 1_000
CHANGE_MAX: Final = 100_000
"""As GATEWAY_DEAD_MAX: all there can be."""


AGE_MAX_MS: Final = 10**13
"""Three centuries: beyond it a number means nothing, and beyond 64 bits the store can't take it."""


class _Criteria(msgspec.Struct, forbid_unknown_fields=True):
    """Which are meant: all of which everything holds that is given."""

    side: Literal["inbound", "outbound"] | None = None
    contact: str | None = None
    reason: str | None = None
    older_than_ms: int | None = None
    """Parked at least so long ago."""
    newer_than_ms: int | None = None
    """Parked at most so long ago."""


class _ListQuery(_Criteria, forbid_unknown_fields=True):
    after: str | None = None
    limit: msgspec.UnsetType | int = msgspec.UNSET
    content: bool = False


class _Selection(_Criteria, forbid_unknown_fields=True):
    ids: list[str] | None = None
    everything: bool = False
    limit: int = CHANGE_MAX


class _BadRequestError(Exception):
    """What is wrong with the request."""


class DeadPage:
    """The routes, and what they say."""

    def __init__(self, letters: DeadLetters, store: OpenStore, clock: Clock) -> None:
        self._letters = letters
        self._store = store
        self._clock = clock

    def operations(self) -> list[Operation]:
        """All of them need a token."""
        routes: tuple[tuple[str, str, Callable[[Call], Awaitable[tuple[int, Any]]]], ...] = (
            ("GET", "/v1/dead", self._list),
            ("GET", "/v1/dead/{id}", self._show),
            ("POST", "/v1/dead/retry", self._retry),
            ("POST", "/v1/dead/discard", self._discard),
            ("DELETE", "/v1/dead/{id}", self._delete),
        )
        return [Operation(method, path, _answered(run)) for method, path, run in routes]

    async def _list(self, call: Call) -> tuple[int, Any]:
        asked = _read_query(call.query)
        limit = LIMIT_DEFAULT if asked.limit is msgspec.UNSET else asked.limit
        if not 1 <= limit <= LIMIT_MAX:
            raise _BadRequestError(f"limit={limit}: expected 1 to {LIMIT_MAX}")
        after_seq = 0 if asked.after is None else self._seq(asked.after)
        page = await self._store.read_parked(self._query(asked), after_seq, limit)
        # Fewer than asked for may be a page that was large, and not the last.
        more = await self._store.read_parked(self._query(asked), page[-1].record.seq, 1) if page else []
        counts = self._store.parked_counts()
        return 200, {
            "dead": [self._object(parked, shows_content=asked.content) for parked in page],
            "next": self._store.send_id(page[-1].record.seq) if more else None,
            "total": {side.label: counts[side].count if side in counts else 0 for side in Side},
        }

    async def _show(self, call: Call) -> tuple[int, Any]:
        asked = _read_query(call.query)
        found = await self._store.read_parked(ParkedQuery(seq=self._seq(call.path["id"])), 0, 1)
        if not found:
            return _not_found(call.path["id"])
        return 200, self._object(found[0], shows_content=asked.content)

    async def _retry(self, call: Call) -> tuple[int, Any]:
        queries, limit = self._selected(call.body)
        moved: dict[int, int] = {}
        for query in queries:
            moved |= await self._letters.retry(query, limit)
        answer: dict[str, Any] = {"retried": len(moved)}
        if queries[0].seq is not None:
            answer["new_ids"] = {
                self._store.send_id(old): self._store.send_id(new) for old, new in moved.items()
            }
        return 200, answer

    async def _discard(self, call: Call) -> tuple[int, Any]:
        queries, limit = self._selected(call.body)
        return 200, {"discarded": sum([await self._letters.discard(query, limit) for query in queries])}

    async def _delete(self, call: Call) -> tuple[int, Any]:
        count = await self._letters.discard(ParkedQuery(seq=self._seq(call.path["id"])), 1)
        return (200, {"discarded": count}) if count else _not_found(call.path["id"])

    # -- which

    def _selected(self, body: bytes) -> tuple[list[ParkedQuery], int]:
        """The queries of a body, oldest first where they are ids, and how many may be changed."""
        try:
            asked = msgspec.json.decode(body, type=_Selection)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _BadRequestError(str(error)) from None
        query = self._query(asked)
        if not 1 <= asked.limit <= CHANGE_MAX:
            raise _BadRequestError(f"limit={asked.limit}: expected 1 to {CHANGE_MAX}")
        if sum((asked.ids is not None, query != ParkedQuery(), asked.everything)) != 1:
            raise _BadRequestError('expected "ids", or criteria, or "everything": true')
        if asked.ids is None:
            return [query], asked.limit
        if not 1 <= len(asked.ids) <= IDS_MAX:
            raise _BadRequestError(f"{len(asked.ids)} ids: expected 1 to {IDS_MAX}")
        return [ParkedQuery(seq=seq) for seq in sorted({self._seq(one) for one in asked.ids})], asked.limit

    def _query(self, asked: _Criteria) -> ParkedQuery:
        now_ms = self._clock.wall_ms()
        for age_ms in (asked.older_than_ms, asked.newer_than_ms):
            if age_ms is not None and not 0 <= age_ms <= AGE_MAX_MS:
                raise _BadRequestError(f"an age of {age_ms} ms: expected 0 to {AGE_MAX_MS}")
        return ParkedQuery(
            side=None if asked.side is None else Side[asked.side.upper()],
            contact=asked.contact,
            reason=asked.reason,
            parked_before_ms=None if asked.older_than_ms is None else now_ms - asked.older_than_ms + 1,
            parked_from_ms=None if asked.newer_than_ms is None else now_ms - asked.newer_than_ms,
        )

    def _seq(self, letter_id: str) -> int:
        """The sequence number in an id of ours."""
        number = letter_id.rpartition("-")[2]
        if number.isascii() and number.isdigit() and len(number) <= 15:
            seq = int(number)
            if self._store.send_id(seq) == letter_id:
                return seq
        raise _BadRequestError(f"{letter_id!r} is no id of a dead letter here")

    # -- what is said

    def _object(self, parked: Parked, *, shows_content: bool) -> dict[str, Any]:
        record = parked.record
        shown: dict[str, Any] = {
            "id": self._store.send_id(record.seq),
            "side": parked.side.label,
            "class": record.cls.label,
            "contact": parked.contact
            if shows_content
            else mask_phone(parked.contact)
            if parked.contact
            else "",
            "reason": parked.reason if shows_content else redact_text(parked.reason),
            "attempts": record.attempts,
            "accepted_ms": parked.accepted_ms,
            "parked_ms": parked.parked_ms,
            "size_bytes": len(record.body),
        }
        if shows_content:
            shown["answer"] = parked.answer.decode(errors="replace")
            shown["body"] = record.body.decode(errors="replace")
        return shown


def _read_query(query: Mapping[str, str]) -> _ListQuery:
    try:
        return msgspec.convert(dict(query), _ListQuery, strict=False)
    except msgspec.ValidationError as error:
        raise _BadRequestError(str(error)) from None


def _not_found(letter_id: str) -> tuple[int, Any]:
    return 404, {"error": f"no dead letter {letter_id!r}"}


def _answered(
    run: Callable[[Call], Awaitable[tuple[int, Any]]],
) -> Callable[[Call], Awaitable[tuple[int, bytes]]]:
    async def answer(call: Call) -> tuple[int, bytes]:
        try:
            status, said = await run(call)
        except _BadRequestError as error:
            status, said = 400, {"error": str(error)}
        except StoreError as error:
            status, said = 503, {"error": str(error)}
        return status, orjson.dumps(said)

    return answer

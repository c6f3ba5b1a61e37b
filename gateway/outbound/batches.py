"""`POST /v1/messages/batch`: many sends in one request, stored by one change, with an answer for each and one id for all."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.events import SendClass, SendRecord
from gateway.outbound.accept import Accepted, Acceptor
from gateway.outbound.answers import RETRY_AFTER_S, PushAnswer, Refusals, Refused
from gateway.outbound.idempotency import Keys, digest_of
from gateway.outbound.options import (
    KEY,
    NOT_BEFORE,
    PRIORITY,
    RECEIPTS,
    TTL,
    UNCERTAIN,
    Options,
    read_options,
)
from gateway.store.protocol import StoredKey

BATCH_MAX: Final = 1_000
"""Messages in one batch."""
OWN: Final = "gateway"
"""The field of a message that is ours: it is taken out before the message is stored."""

_HEADERS: Final = {
    "priority": PRIORITY, "receipts": RECEIPTS, "ttl": TTL, "not_before": NOT_BEFORE, "idempotency_key": KEY,
    "uncertain": UNCERTAIN,
}  # fmt: skip

_SHARED: Final = (PRIORITY, RECEIPTS, TTL, NOT_BEFORE, UNCERTAIN)
"""Headers that hold for all messages. A key names the batch, and nobody waits for the node's answers to one."""


class _Batch(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Item(msgspec.Struct):
    """A message of a batch, read."""

    body: bytes
    options: Options
    digest: bytes


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_message = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_accepted = msgspec.json.Decoder(Accepted).decode

Told = Accepted | Refused


class Batches:
    """Takes batches from senders who are authorised."""

    def __init__(self, acceptor: Acceptor, keys: Keys, clock: Clock, refusals: Refusals) -> None:
        self._acceptor = acceptor
        self._keys = keys
        self._clock = clock
        self._refusals = refusals

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> PushAnswer:
        """Take the messages of a batch that are right. Waits for the disk.

        The headers hold for all of them, and a message's own `gateway` object for it before those.
        """
        now_ms = self._clock.wall_ms()
        options = read_options(headers, now_ms)
        if isinstance(options, str):
            return self._refusals.answer(self._refusals.invalid(options))
        messages = _read(body)
        if isinstance(messages, str):
            return self._refusals.answer(self._refusals.invalid(messages))
        shared = {name: headers[name] for name in _SHARED if name in headers}
        items = [_read_item(message, shared, now_ms) for message in messages]
        own_keys = {item.options.key for item in items if isinstance(item, _Item) and item.options.key}
        keys = own_keys | ({options.key} if options.key else set())
        digest = digest_of("batch", body, options)
        try:
            async with self._keys.holding(keys) as used:
                first = used.get(options.key) if options.key else None
                if first is not None and first.digest == digest:
                    return PushAnswer(202, first.answer)
                if first is not None or options.key in own_keys:
                    return self._refusals.answer(self._refusals.key_used())
                return await self._store(items, used, options.key, digest)
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))

    async def _store(
        self, items: list[_Item | str], used: Mapping[str, StoredKey], key: str, digest: bytes
    ) -> PushAnswer:
        new = sum(isinstance(item, _Item) and item.options.key not in used for item in items)
        full = self._acceptor.full(new) if new else None
        if full is not None:
            return self._refusals.answer(full)
        entry = _Entry(self._acceptor, self._keys, self._refusals, used)
        told = [entry.take(item) for item in items]
        if not any(isinstance(one, Accepted) for one in told):
            is_busy = all(isinstance(one, Refused) and one.refusal.status == 429 for one in told)
            headers = {"Retry-After": str(RETRY_AFTER_S)} if is_busy else {}
            return PushAnswer(429 if is_busy else 400, _answer("", told), headers)
        answer = _answer(entry.batch_id, told)
        if key:
            entry.keys.append(self._keys.used(key, digest, answer))
        refused = await self._acceptor.store(entry.records, entry.keys) if entry.records else None
        return self._refusals.answer(refused) if refused is not None else PushAnswer(202, answer)


class _Entry:
    """A batch on its way in: what is to be stored of it."""

    def __init__(
        self, acceptor: Acceptor, keys: Keys, refusals: Refusals, used: Mapping[str, StoredKey]
    ) -> None:
        self._acceptor = acceptor
        self._keys = keys
        self._refusals = refusals
        self._used = dict(used)
        self.batch_id = ""
        self.records: list[SendRecord] = []
        self._in_line = [0] * len(SendClass)
        """Of them, those of each class that are not scheduled."""
        self.keys: list[StoredKey] = []

    def take(self, item: _Item | str) -> Told:
        """Admit one message, or say what is told of it."""
        told = self._told(item)
        if isinstance(told, Refused):
            self._refusals.count(told)
        return told

    def _told(self, item: _Item | str) -> Told:
        if isinstance(item, str):
            return self._refusals.invalid(item)
        options = item.options
        first = self._used.get(options.key) if options.key else None
        if first is not None:
            is_same = first.digest == item.digest
            return _decode_accepted(first.answer) if is_same else self._refusals.key_used()
        admitted = self._acceptor.admit(item.body, options, ahead=sum(self._in_line[: options.cls + 1]))
        if isinstance(admitted, Refused):
            return admitted
        record, accepted = admitted.record, admitted.accepted
        if not self.batch_id:
            self.batch_id = batch_id_of(record)
        record.batch = self.batch_id
        self.records.append(record)
        self._in_line[record.cls] += not record.is_scheduled
        if options.key:
            stored = self._keys.used(options.key, item.digest, msgspec.json.encode(accepted))
            self.keys.append(stored)
            self._used[options.key] = stored
        return accepted


def batch_id_of(first: SendRecord) -> str:
    """The id of the batch whose first send this is."""
    return f"gwb{first.id.removeprefix('gw')}"


def _read(body: bytes) -> list[msgspec.Raw] | str:
    expected = f'expected {{"messages": [...]}} with 1 to {BATCH_MAX} messages'
    try:
        messages = _decode_batch(body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return expected
    return messages if 1 <= len(messages) <= BATCH_MAX else expected


def _read_item(raw: msgspec.Raw, shared: Mapping[str, str], now_ms: int) -> _Item | str:
    """One message, as it was sent but for our own field."""
    body = bytes(raw)
    own: Any = {}
    if b'"gateway"' in body:
        try:
            fields = _decode_message(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "a message must be a JSON object"
        if OWN in fields:
            own = orjson.loads(bytes(fields.pop(OWN)))
            body = msgspec.json.encode(fields)
    if not isinstance(own, dict) or (unknown := own.keys() - _HEADERS.keys()):
        what = "is no object" if not isinstance(own, dict) else f"has {min(unknown)!r}"
        return f"'{OWN}' {what}; it may have {', '.join(_HEADERS)}"
    for name, value in own.items():
        is_number = isinstance(value, int) and not isinstance(value, bool) and name in ("ttl", "not_before")
        if not isinstance(value, str) and not is_number:
            return f"'{OWN}.{name}' must be a string"
    options = read_options({**shared, **{_HEADERS[name]: str(value) for name, value in own.items()}}, now_ms)
    if isinstance(options, str):
        return options
    return _Item(body, options, digest_of("message", body, options) if options.key else b"")


def _answer(batch_id: str, told: list[Told]) -> bytes:
    return orjson.dumps({"batch_id": batch_id or None, "messages": [_object(one) for one in told]})


def _object(told: Told) -> dict[str, object]:
    if isinstance(told, Accepted):
        shown: dict[str, object] = msgspec.to_builtins(told)
        return shown
    refusal = told.refusal
    error = {
        "status": refusal.status,
        "code": refusal.code,
        "title": refusal.title,
        "details": refusal.details,
    }
    return {"error": error}

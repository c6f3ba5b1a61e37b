"""What is asked of sends beside their line: one or a batch by id, those whose time has not come, and keys that were used."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.events import Outcome, SendClass, SendRecord
from gateway.store.protocol import BatchStatus, SendStatus, StoredKey
from gateway.store.sqlite_read import PAGE_MAX_BYTES
from gateway.store.sqlite_schema import (
    CLASS_SHIFT,
    SCHEDULED,
    SEND_COLUMNS,
    row_key,
    send_id,
    send_of,
    seq_of,
)

_PLACES: Final = [cls + offset for offset in (0, SCHEDULED) for cls in SendClass]
"""The ranges of row keys that a waiting send may be in."""

_OUTCOME_STATES: Final = {outcome: outcome.label for outcome in Outcome} | {Outcome.DELIVERED: "sent"}

_HEAD: Final = (
    "key, recipient, is_group, accepted_ms, mask, batch, not_before_ms, expires_ms, attempts, is_uncertain"
)
_SENT: Final = (
    "seq, cls, recipient, accepted_ms, attempts, is_uncertain, outcome, node_id, reason, settled_ms, batch,"
    " not_before_ms, expires_ms"
)
# The index has only these rows: the literal is what tells SQLite that it may use it.
_IS_SCHEDULED: Final = f"key >= {SCHEDULED << CLASS_SHIFT}"

_KEYS_CHUNK: Final = 500
"""Keys looked up by one statement."""


def find_send(db: sqlite3.Connection, store_id: str, wanted_id: str) -> SendStatus | None:
    """The status of a send, while it is remembered."""
    prefix, _, number = wanted_id.rpartition("-")
    if prefix != f"gw-{store_id}" or not (number.isascii() and number.isdigit()) or len(number) > 15:
        return None
    seq = int(number)
    if wanted_id != send_id(store_id, seq) or seq >> CLASS_SHIFT:
        return None  # a number written in another way, or one that would reach into the class of a key
    sent = db.execute(f"SELECT {_SENT} FROM sent WHERE seq = ?", (seq,)).fetchone()
    if sent is not None:
        return _ended(store_id, sent)
    keys = [row_key(place, seq) for place in _PLACES]
    marks = ",".join("?" * len(keys))
    waiting = db.execute(f"SELECT {_HEAD} FROM send WHERE key IN ({marks})", keys).fetchone()
    return None if waiting is None else _waiting(store_id, waiting)


def find_send_named(db: sqlite3.Connection, store_id: str, node_id: str) -> SendStatus | None:
    """The same by the id that WhatsApp gave it."""
    if not node_id:
        return None
    sent = db.execute(
        f"SELECT {_SENT} FROM sent WHERE node_id = ? AND node_id != '' LIMIT 1", (node_id,)
    ).fetchone()
    return None if sent is None else _ended(store_id, sent)


def find_batch(db: sqlite3.Connection, store_id: str, batch: str, after_seq: int, limit: int) -> BatchStatus:
    """The sends of a batch: a thousand at most, so they are read whole and the page is cut from them."""
    if not batch:
        return BatchStatus({}, [])
    ended = db.execute(f"SELECT {_SENT} FROM sent WHERE batch = ? AND batch != ''", (batch,))
    found = [_ended(store_id, row) for row in ended]
    waiting = db.execute(f"SELECT {_HEAD} FROM send WHERE batch = ? AND batch != ''", (batch,))
    found += [_waiting(store_id, row) for row in waiting]
    found.sort(key=lambda status: status.seq)
    page = [status for status in found if status.seq > after_seq][:limit]
    return BatchStatus(dict(Counter(status.state for status in found)), page)


def _ended(store_id: str, row: tuple[Any, ...]) -> SendStatus:
    seq, cls, to, accepted_ms, attempts, unsure, outcome, node_id, reason, settled_ms, *rest = row
    batch, not_before_ms, expires_ms = rest
    return SendStatus(
        send_id(store_id, seq), _OUTCOME_STATES[Outcome(outcome)], SendClass(cls), to, accepted_ms, attempts,
        bool(unsure), node_id, reason, settled_ms, None, batch, not_before_ms, expires_ms,
    )  # fmt: skip


def _waiting(store_id: str, row: tuple[Any, ...]) -> SendStatus:
    key, to, is_group, accepted_ms, mask, batch, not_before_ms, expires_ms, attempts, unsure = row
    place = key >> CLASS_SHIFT
    return SendStatus(
        send_id(store_id, seq_of(key)),
        "scheduled" if place >= SCHEDULED else "queued",
        SendClass(place % SCHEDULED),
        to,
        accepted_ms,
        attempts,
        bool(unsure),
        is_group=bool(is_group),
        batch=batch,
        not_before_ms=not_before_ms,
        expires_ms=expires_ms,
        mask=mask,
    )


def read_scheduled(db: sqlite3.Connection, store_id: str, cls: SendClass, limit: int) -> list[SendRecord]:
    """Scheduled sends of a class, those due first first."""
    query = (
        f"SELECT key, {SEND_COLUMNS} FROM send WHERE key >> {CLASS_SHIFT} = ? AND {_IS_SCHEDULED}"
        " ORDER BY not_before_ms LIMIT ?"
    )
    found: list[SendRecord] = []
    page_bytes = 0
    for key, *row in db.execute(query, (cls + SCHEDULED, limit)):
        found.append(send_of(store_id, key, tuple(row)))
        page_bytes += len(found[-1].body)
        if page_bytes >= PAGE_MAX_BYTES:
            break
    return found


def read_expiring(db: sqlite3.Connection, store_id: str, limit: int) -> list[SendStatus]:
    """Waiting sends with a time to live, those that expire first first."""
    # The index has only those rows: as above.
    query = f"SELECT {_HEAD} FROM send WHERE expires_ms > 0 ORDER BY expires_ms LIMIT ?"
    return [_waiting(store_id, row) for row in db.execute(query, (limit,))]


def reclass(
    db: sqlite3.Connection, store_id: str, seqs: Sequence[int], old: int, new: int
) -> list[SendRecord]:
    """Move sends from one range of keys to another, and return them in order. Within a transaction."""
    moved: list[SendRecord] = []
    for at in range(0, len(seqs), _KEYS_CHUNK):
        keys = [row_key(old, seq) for seq in seqs[at : at + _KEYS_CHUNK]]
        query = f"""
            UPDATE send SET key = key + ? WHERE key IN ({",".join("?" * len(keys))})
            RETURNING key, {SEND_COLUMNS}
        """
        for key, *row in db.execute(query, ((new - old) << CLASS_SHIFT, *keys)):
            moved.append(send_of(store_id, key, tuple(row)))
    return sorted(moved, key=lambda record: record.seq)


def start_sends(db: sqlite3.Connection, records: Iterable[SendRecord]) -> None:
    """Move scheduled sends into the line of their class. Within a transaction."""
    db.executemany(
        "UPDATE send SET key = ? WHERE key = ?",
        [
            (row_key(record.cls, record.seq), row_key(record.cls + SCHEDULED, record.seq))
            for record in records
        ],
    )


def find_keys(db: sqlite3.Connection, keys: Sequence[str]) -> list[StoredKey]:
    """Those of the keys that are remembered."""
    found = []
    for at in range(0, len(keys), _KEYS_CHUNK):
        chunk = keys[at : at + _KEYS_CHUNK]
        query = f"SELECT key, digest, answer, at_ms FROM used_key WHERE key IN ({','.join('?' * len(chunk))})"
        found += [StoredKey(*row) for row in db.execute(query, chunk)]
    return found

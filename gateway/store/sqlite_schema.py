"""The tables of the store file. `sqlite_open.py` opens it.

Layout. A row key is `class << 48 | sequence`, so a class is a range of the table's own tree: reading back
in order, deleting and inserting need no index. Sends whose time has not come are in ranges of their own (`SCHEDULED` is
added to the class) with an index by time; those with a time to live have one by its end. `sent` keeps what is told of finished sends; its index by time serves
the start (who was written to just now) and the clean-up. `seen` has one
row a commit with the fingerprints of its events, because a row an event would double the inserts; its key is
the number of fingerprints ever stored, so "all but the newest N" is a range too.
`used_key` has the idempotency keys, oldest first by `id`.
`ledger_page` has the receipt ledger as of a checkpoint, `ledger_log` what came after it, a row a commit.
`book` has the totals, changed in the transaction that changes the rows they count.
`parked` has the dead letters of both sides; what only one side has is null for the other, and what is large comes last,
so that looking for some of them reads no bodies.
`waiting` has how many rows each class of a queue holds, by the counts of their events: the triggers of the tables keep
it, whoever changes them, so that a start need not look at what waits.
`meta` has the store's own facts by name, and notes of other parts, whose names begin with `note:`.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from gateway.events import SendClass, SendRecord

SCHEMA_VERSION: Final = 1
CLASS_SHIFT: Final = 48
"""Sequence numbers stay below 2**48: at 10,000 records a second that is 892 years."""
SEQ_MASK: Final = (1 << CLASS_SHIFT) - 1

SCHEDULED: Final = 8
"""Added to the class in the row key of a send whose time has not come; above all classes."""

ACCEPTED: Final = -1
"""`book.outcome` of what was accepted."""

SEND_COLUMNS: Final = (
    "recipient, is_group, body, accepted_ms, mask, batch, not_before_ms, expires_ms, on_uncertain, attempts,"
    " is_uncertain"
)
"""Of `send`, beside its key, in the order of `send_of`."""

NOTE_PREFIX: Final = "note:"


def _counted(queue: str, key: str, counts: str, rows: int) -> str:
    """A trigger's statement: so many rows more of this kind wait."""
    return (
        f"INSERT INTO waiting VALUES ('{queue}', {key} >> {CLASS_SHIFT}, {counts}, {rows})"
        f" ON CONFLICT DO UPDATE SET rows = rows + {rows};"
    )


SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE inbound (
    key INTEGER PRIMARY KEY, lane TEXT NOT NULL, body BLOB NOT NULL, counts BLOB NOT NULL,
    received_ms INTEGER NOT NULL
);
CREATE TABLE parked (
    seq INTEGER PRIMARY KEY, side INTEGER NOT NULL, cls INTEGER NOT NULL, contact TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, parked_ms INTEGER NOT NULL,
    counts BLOB, is_group INTEGER, mask INTEGER, batch TEXT, ttl_ms INTEGER, on_uncertain INTEGER,
    answer BLOB NOT NULL, body BLOB NOT NULL
);
CREATE INDEX parked_by_time ON parked (side, parked_ms);
CREATE TABLE send (
    key INTEGER PRIMARY KEY, recipient TEXT NOT NULL, is_group INTEGER NOT NULL, body BLOB NOT NULL,
    accepted_ms INTEGER NOT NULL, mask INTEGER NOT NULL, batch TEXT NOT NULL, not_before_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL, on_uncertain INTEGER NOT NULL, attempts INTEGER NOT NULL,
    is_uncertain INTEGER NOT NULL
);
CREATE INDEX send_by_batch ON send (batch) WHERE batch != '';
CREATE INDEX send_by_expiry ON send (expires_ms) WHERE expires_ms > 0;
CREATE INDEX send_by_time ON send (key >> 48, not_before_ms) WHERE key >= 2251799813685248;
CREATE TABLE sent (
    seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, recipient TEXT NOT NULL, accepted_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, is_uncertain INTEGER NOT NULL, outcome INTEGER NOT NULL,
    node_id TEXT NOT NULL, reason TEXT NOT NULL, settled_ms INTEGER NOT NULL, batch TEXT NOT NULL,
    not_before_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
);
CREATE INDEX sent_by_time ON sent (settled_ms);
CREATE INDEX sent_by_node_id ON sent (node_id) WHERE node_id != '';
CREATE INDEX sent_by_batch ON sent (batch) WHERE batch != '';
CREATE TABLE used_key (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, answer BLOB NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE TABLE seen (upto INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, fingerprints BLOB NOT NULL);
CREATE TABLE ledger_page (number INTEGER PRIMARY KEY, page BLOB NOT NULL);
CREATE TABLE ledger_log (id INTEGER PRIMARY KEY, items BLOB NOT NULL);
CREATE TABLE book (
    kind INTEGER NOT NULL, outcome INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, outcome)
) WITHOUT ROWID;
CREATE TABLE waiting (
    queue TEXT NOT NULL, cls INTEGER NOT NULL, counts BLOB NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (queue, cls, counts)
) WITHOUT ROWID;
""" + "".join(
    f"CREATE TRIGGER {name} AFTER {event} BEGIN {body} END;\n"
    for name, event, body in (
        ("inbound_in", "INSERT ON inbound", _counted("inbound", "new.key", "new.counts", 1)),
        ("inbound_out", "DELETE ON inbound", _counted("inbound", "old.key", "old.counts", -1)),
        ("send_in", "INSERT ON send", _counted("send", "new.key", "x''", 1)),
        ("send_out", "DELETE ON send", _counted("send", "old.key", "x''", -1)),
        (
            "send_moved",
            "UPDATE OF key ON send",
            _counted("send", "old.key", "x''", -1) + _counted("send", "new.key", "x''", 1),
        ),
    )
)


def row_key(cls: int, seq: int) -> int:
    """The key of a record in the table of its side."""
    return cls << CLASS_SHIFT | seq


def send_key(record: SendRecord) -> int:
    """The key of a send in the table `send`."""
    return row_key(record.cls + SCHEDULED * record.is_scheduled, record.seq)


def seq_of(key: int) -> int:
    """The sequence number in a row key."""
    return key & SEQ_MASK


def class_of(key: int) -> int:
    """The class in a row key."""
    return key >> CLASS_SHIFT


def send_of(store_id: str, key: int, row: tuple[Any, ...]) -> SendRecord:
    """The send in a row of SEND_COLUMNS."""
    (
        to,
        is_group,
        body,
        accepted_ms,
        mask,
        batch,
        not_before_ms,
        expires_ms,
        on_uncertain,
        attempts,
        unsure,
    ) = row
    seq, cls = seq_of(key), key >> CLASS_SHIFT
    return SendRecord(
        seq, send_id(store_id, seq), SendClass(cls % SCHEDULED), to, bool(is_group), body, accepted_ms, mask,
        batch, not_before_ms, expires_ms, on_uncertain, attempts, bool(unsure), cls >= SCHEDULED,
    )  # fmt: skip


def send_id(store_id: str, seq: int) -> str:
    """The id we give to the send with this sequence number."""
    return f"gw-{store_id}-{seq}"


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the body's statements or none; one fsync at the end."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The value of a pragma that is a number."""
    value = db.execute(f"PRAGMA {name}").fetchone()[0]
    assert isinstance(value, int)
    return value


def meta(db: sqlite3.Connection, name: str, default: Any = None) -> Any:
    """A fact of the store by name."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return default if row is None else row[0]

"""The tables of the store file, and how it is opened.

Layout. A row key is `class << 48 | sequence`, so a class is a range of the table's own tree: reading back
in order, deleting and inserting need no index. `sent` keeps what is told of finished sends; its index by time serves
the start (who was written to just now) and the clean-up. `seen` has one
row a commit with the fingerprints of its events, because a row an event would double the inserts; its key is
the number of fingerprints ever stored, so "all but the newest N" is a range too.
`ledger_page` has the receipt ledger as of a checkpoint, `ledger_log` what came after it, a row a commit.
`book` has the totals, changed in the transaction that changes the rows they count.
`meta` has the store's own facts by name, and notes of other parts, whose names begin with `note:`.
"""

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.errors import StoreBusyError, StoreError
from gateway.events import SendClass, SendRecord

SCHEMA_VERSION: Final = 1
CLASS_SHIFT: Final = 48
"""Sequence numbers stay below 2**48: at 10,000 records a second that is 892 years."""

ACCEPTED: Final = -1
"""`book.outcome` of what was accepted."""

SEND_COLUMNS: Final = (
    "recipient, is_group, body, accepted_ms, mask, batch, not_before_ms, expires_ms, on_uncertain, attempts,"
    " is_uncertain"
)
"""Of `send`, beside its key, in the order of `send_of`."""

NOTE_PREFIX: Final = "note:"

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE inbound (
    key INTEGER PRIMARY KEY, lane TEXT NOT NULL, body BLOB NOT NULL, counts BLOB NOT NULL,
    received_ms INTEGER NOT NULL
);
CREATE TABLE parked (
    seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, lane TEXT NOT NULL, body BLOB NOT NULL,
    counts BLOB NOT NULL, received_ms INTEGER NOT NULL, reason TEXT NOT NULL, answer BLOB NOT NULL,
    parked_ms INTEGER NOT NULL
);
CREATE TABLE send (
    key INTEGER PRIMARY KEY, recipient TEXT NOT NULL, is_group INTEGER NOT NULL, body BLOB NOT NULL,
    accepted_ms INTEGER NOT NULL, mask INTEGER NOT NULL, batch TEXT NOT NULL, not_before_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL, on_uncertain INTEGER NOT NULL, attempts INTEGER NOT NULL,
    is_uncertain INTEGER NOT NULL
);
CREATE INDEX send_by_batch ON send (batch) WHERE batch != '';
CREATE TABLE sent (
    seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, recipient TEXT NOT NULL, accepted_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, is_uncertain INTEGER NOT NULL, outcome INTEGER NOT NULL,
    node_id TEXT NOT NULL, reason TEXT NOT NULL, settled_ms INTEGER NOT NULL, batch TEXT NOT NULL
);
CREATE INDEX sent_by_time ON sent (settled_ms);
CREATE INDEX sent_by_node_id ON sent (node_id) WHERE node_id != '';
CREATE INDEX sent_by_batch ON sent (batch) WHERE batch != '';
CREATE TABLE seen (upto INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, fingerprints BLOB NOT NULL);
CREATE TABLE ledger_page (number INTEGER PRIMARY KEY, page BLOB NOT NULL);
CREATE TABLE ledger_log (id INTEGER PRIMARY KEY, items BLOB NOT NULL);
CREATE TABLE book (
    kind INTEGER NOT NULL, outcome INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, outcome)
) WITHOUT ROWID;
"""


def row_key(cls: int, seq: int) -> int:
    """The key of a record in the table of its side."""
    return cls << CLASS_SHIFT | seq


def seq_of(key: int) -> int:
    """The sequence number in a row key."""
    return key & ((1 << CLASS_SHIFT) - 1)


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
    seq = seq_of(key)
    return SendRecord(
        seq, send_id(store_id, seq), SendClass(key >> CLASS_SHIFT), to, bool(is_group), body, accepted_ms, mask,
        batch, not_before_ms, expires_ms, on_uncertain, attempts, bool(unsure),
    )  # fmt: skip


def send_id(store_id: str, seq: int) -> str:
    """The id we give to the send with this sequence number."""
    return f"gw-{store_id}-{seq}"


class OpenFile(NamedTuple):
    """The connection, and what of the file never changes."""

    db: sqlite3.Connection
    store_id: str
    secret: bytes


def open_file(path: Path) -> OpenFile:
    """Open or make the store file `path` and its directory, for ourselves alone.

    Raises StoreBusyError when another process has it, StoreError when it can't be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the store {path} can't be opened: {error}") from error
    try:
        _prepare(db)
        return OpenFile(db, meta(db, "store_id"), meta(db, "secret"))
    except sqlite3.OperationalError as error:
        db.close()
        if "locked" in str(error) or "busy" in str(error):
            raise StoreBusyError(f"the store {path} is in use by another process") from error
        raise StoreError(f"the store {path} can't be used: {error}") from error
    except (sqlite3.Error, StoreError) as error:
        db.close()
        raise StoreError(f"the store {path} can't be used: {error}") from error


def _prepare(db: sqlite3.Connection) -> None:
    # Exclusive: a second gateway is refused at its first write, and WAL needs no shared memory file.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    is_new = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    version = pragma(db, "user_version")
    if version != (0 if is_new else SCHEMA_VERSION):
        # Before anything is written: it may be another program's, or a later version's.
        raise StoreError(f"it has format {version}, this version reads {SCHEMA_VERSION}")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA temp_store=MEMORY")
    with transaction(db):
        if is_new:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            values = [("store_id", secrets.token_hex(4)), ("secret", secrets.token_bytes(16))]
            db.executemany("INSERT INTO meta VALUES (?, ?)", values)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        # Take the write lock for good, even when nothing else is written.
        db.execute("REPLACE INTO meta VALUES ('opened', datetime('now'))")


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

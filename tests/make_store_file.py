"""Make the store file of the current format that is kept in tests/data, and its log: `python tests/make_store_file.py`.

A file that a release has written is never made again. When the format changes (`SCHEMA_VERSION`), this makes another one,
and test_durability_versions.py goes on opening the old ones.
"""

import tempfile
from pathlib import Path
from typing import Final

from builders import CONTACT, GROUP, WALL_MS

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord, pack_counts
from gateway.store.change_codec import encode, merge
from gateway.store.protocol import BookEntry, Change, Parked, Settled, StoredKey
from gateway.store.redo_log import FIRST
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_schema import SCHEMA_VERSION

DATA: Final = Path(__file__).parent / "data"
BODY: Final = '{"text":{"body":"Grüße \U0001f30d \\u0000"}}'.encode() + b"\xff"

INBOUND: Final = [
    InboundRecord(1, InboundClass.MESSAGE, CONTACT, BODY, pack_counts([Kind.MESSAGE]), WALL_MS),
    InboundRecord(
        2, InboundClass.RECEIPT, "", b"{}", pack_counts([Kind.READ, Kind.READ, Kind.DELIVERED]), WALL_MS + 1
    ),
    InboundRecord(3, InboundClass.FAILURE, GROUP, b"{}", pack_counts([Kind.FAILED]), WALL_MS + 2),
]
DEAD: Final = Parked(
    InboundRecord(4, InboundClass.MESSAGE, CONTACT, BODY, pack_counts([Kind.MESSAGE]), WALL_MS),
    "HTTP 400",
    b"no\xff",
    WALL_MS + 3,
)
KEY: Final = StoredKey("a key", b"digest", b"answer", WALL_MS)
MARKS: Final = b"12345678abcdefgh"
PAGES: Final = [(0, bytes(range(256))), (1, b"page")]
NOTES: Final = {"a note": b"\x00\xff"}
BOOKS: Final = [
    BookEntry(Kind.MESSAGE, None, 2),
    BookEntry(Kind.MESSAGE, Outcome.FAILED, 1),
    BookEntry(Kind.READ, None, 2),
    BookEntry(Kind.DELIVERED, None, 1),
    BookEntry(Kind.FAILED, None, 1),
    BookEntry(Kind.SEND, None, 4),
    BookEntry(Kind.SEND, Outcome.DELIVERED, 1),
    BookEntry(Kind.SEND, Outcome.FAILED, 1),
]


def sends(store_id: str) -> list[SendRecord]:
    """A waiting one with everything set, a scheduled one, one that was sent and one that failed."""
    return [
        SendRecord(
            5, f"gw-{store_id}-5", SendClass.BULK, GROUP, True, BODY, WALL_MS, mask=4, batch="b1",
            not_before_ms=WALL_MS - 5, expires_ms=WALL_MS + 60_000, on_uncertain=1, attempts=2, is_uncertain=True,
        ),
        SendRecord(
            6, f"gw-{store_id}-6", SendClass.HIGH, CONTACT, False, b"{}", WALL_MS, batch="b1",
            not_before_ms=WALL_MS + 3_600_000, is_scheduled=True,
        ),
        SendRecord(7, f"gw-{store_id}-7", SendClass.REPLY, CONTACT, False, b"{}", WALL_MS, attempts=1),
        SendRecord(8, f"gw-{store_id}-8", SendClass.NORMAL, CONTACT, False, b"{}", WALL_MS, attempts=5),
    ]  # fmt: skip


def fill(file: SqliteFile) -> None:
    """Put something in every table."""
    waiting, scheduled, sent, failed = sends(file.store_id)
    ends = [
        Settled(sent, Outcome.DELIVERED, "gBGG1", "", WALL_MS + 4),
        Settled(failed, Outcome.FAILED, "", "HTTP 470", WALL_MS + 5),
    ]
    pushed = Change(sends=[waiting, scheduled, sent, failed], keys=[KEY], notes=NOTES)
    arrived = Change(inbound=[*INBOUND, _alive(DEAD)], fingerprints=MARKS, ledger_items=b"folded into pages")
    file.apply([arrived, pushed], WALL_MS)
    file.apply([Change(parked=[DEAD], settled=ends, books=BOOKS)], WALL_MS)
    file.apply([Change(ledger_pages=PAGES), Change(ledger_items=b"items")], WALL_MS)


def later(store_id: str) -> Change:
    """What comes after it, and is in the log alone: something of every field of a change."""
    _, scheduled, *_ = sends(store_id)
    received = InboundRecord(9, InboundClass.MESSAGE, CONTACT, BODY, pack_counts([Kind.MESSAGE]), WALL_MS + 6)
    again = InboundRecord(
        10, InboundClass.FAILURE, GROUP, b"{}", pack_counts([Kind.FAILED]), WALL_MS + 6, 2, True
    )
    pushed = SendRecord(11, f"gw-{store_id}-11", SendClass.HIGH, CONTACT, False, BODY, WALL_MS + 6)
    tried = SendRecord(
        11,
        f"gw-{store_id}-11",
        SendClass.HIGH,
        CONTACT,
        False,
        BODY,
        WALL_MS + 6,
        attempts=3,
        is_uncertain=True,
    )
    return Change(
        inbound=[received, again],
        fingerprints=b"in a log",
        inbound_done=[INBOUND[0]],
        parked=[Parked(again, "HTTP 410", b"gone", WALL_MS + 7)],
        unparked=[8],
        sends=[pushed],
        sends_tried=[tried],
        settled=[Settled(scheduled, Outcome.CANCELLED, "", "by us", WALL_MS + 7)],
        keys=[StoredKey("another key", b"digest", b"answer", WALL_MS + 6)],
        books=[BookEntry(Kind.MESSAGE, None, 1)],
        ledger_items=b" and more",
        ledger_pages=[(1, b"in the log"), (2, b"new")],
        ledger_resets=True,
        notes={"a note": b"later"},
    )


def _alive(dead: Parked) -> InboundRecord:
    assert isinstance(dead.record, InboundRecord)
    return dead.record


def main() -> None:
    """Write the file and its log, small: without what SQLite keeps free and what is allocated ahead."""
    kept = DATA / f"store-v{SCHEMA_VERSION}.sqlite3"
    log = Path(f"{kept}-redo")
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "gateway.sqlite3"
        file = SqliteFile(Path(directory))
        file.recover(WALL_MS)
        fill(file)
        file._db.execute("VACUUM")
        file.close()
        kept.write_bytes(made.read_bytes())
        file = SqliteFile(Path(directory))
        file.log([encode(merge([later(file.store_id)]))], WALL_MS + 7)
        log.write_bytes(Path(f"{made}-redo").read_bytes()[: FIRST + file.logged_bytes])
        file.close()
    for path in (kept, log):
        print(f"{path}: {path.stat().st_size} bytes")  # noqa: T201 - it is a command


if __name__ == "__main__":
    main()

"""Every store file that a release may have written is opened, and everything in it is found."""

import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest
from builders import GROUP, WALL_MS, inbound
from make_store_file import BOOKS, DATA, DEAD, INBOUND, KEY, MARKS, NOTES, PAGES, later, sends

from gateway.events import InboundClass, Kind, Outcome, SendClass
from gateway.store.protocol import Change, ParkedQuery, RecentSends
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_schema import SCHEMA_VERSION

KEPT = sorted(DATA.glob("store-v*.sqlite3"))


def opened(kept: Path, directory: Path) -> SqliteFile:
    shutil.copyfile(kept, directory / "gateway.sqlite3")
    return SqliteFile(directory)


def test_one_is_kept_for_each_format() -> None:
    assert [path.name for path in KEPT] == [
        f"store-v{number}.sqlite3" for number in range(1, SCHEMA_VERSION + 1)
    ]
    assert all(Path(f"{path}-redo").exists() for path in KEPT)


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_no_table_of_a_kept_file_is_empty(kept: Path) -> None:
    """Or it would show nothing of that table."""
    db = sqlite3.connect(f"file:{kept}?mode=ro&immutable=1", uri=True)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    empty = [name for name in tables if not db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
    db.close()
    assert len(tables) >= 11
    assert empty == []


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_everything_in_a_kept_file_is_found(kept: Path, tmp_path: Path) -> None:
    file = opened(kept, tmp_path)
    found = file.recover(WALL_MS, recent_ms=60_000)
    waiting, scheduled, sent, failed = sends(file.store_id)
    assert len(file.secret) == 16
    assert found.next_seq == 9
    assert found.inbound_counts == dict.fromkeys(InboundClass, 1)
    assert found.inbound_kinds[InboundClass.RECEIPT] == {Kind.READ: 2, Kind.DELIVERED: 1}
    assert {cls: count for cls, count in found.send_counts.items() if count} == {SendClass.BULK: 1}
    assert {cls: count for cls, count in found.scheduled_counts.items() if count} == {SendClass.HIGH: 1}
    assert sorted(found.books, key=repr) == sorted(BOOKS, key=repr)
    assert (found.fingerprints, found.ledger_pages, found.ledger_items) == (MARKS, PAGES, b"items")
    assert found.notes == NOTES
    assert found.recent == [RecentSends(sent.to, 6, WALL_MS + 5)]
    assert [record for cls in InboundClass for record in file.read_inbound(cls, 0, 9)] == sorted(
        INBOUND, key=lambda record: record.cls
    )
    assert file.read_sends(SendClass.BULK, 0, 9) == [waiting]
    assert file.read_scheduled(SendClass.HIGH, 9) == [scheduled]
    assert file.find_keys([KEY.key, "another"]) == [KEY]
    dead = file.read_parked(ParkedQuery(), 0, 9)
    assert dead[0] == DEAD
    assert [(item.record.seq, item.reason, item.record.body) for item in dead[1:]] == [
        (8, "HTTP 470", failed.body)
    ]
    by_id, by_name = file.find_send(sent.id), file.find_send_named("gBGG1")
    assert by_id is not None
    assert by_id == by_name
    assert (by_id.state, by_id.attempts, by_id.settled_ms) == ("sent", 1, WALL_MS + 4)
    of_failed, of_waiting = file.find_send(failed.id), file.find_send(waiting.id)
    assert of_failed is not None
    assert of_waiting is not None
    assert (of_failed.state, of_failed.reason) == (Outcome.FAILED.label, "HTTP 470")
    assert (of_waiting.to, of_waiting.is_uncertain, of_waiting.batch) == (GROUP, True, "b1")
    assert sum(file.find_batch("b1", 0, 9).counts.values()) == 2
    file.close()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_everything_in_the_log_of_a_kept_file_is_found(kept: Path, tmp_path: Path) -> None:
    shutil.copyfile(f"{kept}-redo", tmp_path / "gateway.sqlite3-redo")
    file = opened(kept, tmp_path)
    change = later(file.store_id)
    assert all(getattr(change, name) for name in change.__struct_fields__ if not name.startswith("on_"))
    found = file.recover(WALL_MS)
    assert found.next_seq == 12
    assert found.fingerprints == MARKS + b"in a log"
    assert found.ledger_pages == [(1, b"in the log"), (2, b"new")]
    assert found.ledger_items == b" and more"
    assert found.notes == {"a note": b"later"}
    assert {entry.count for entry in found.books if (entry.kind, entry.outcome) == (Kind.MESSAGE, None)} == {
        3
    }
    assert file.read_inbound(InboundClass.MESSAGE, 0, 9) == change.inbound[:1]
    assert file.read_inbound(InboundClass.FAILURE, 0, 9) == INBOUND[2:]
    assert file.read_sends(SendClass.HIGH, 0, 9) == change.sends_tried
    assert file.read_scheduled(SendClass.HIGH, 9) == []
    of_cancelled = file.find_send(change.settled[0].record.id)
    assert of_cancelled is not None
    assert (of_cancelled.state, of_cancelled.reason) == ("cancelled", "by us")
    assert file.find_keys(["another key"]) == change.keys
    (old, dead) = file.read_parked(ParkedQuery(), 0, 9)
    assert old == DEAD
    # A dead letter begins anew when it is accepted again.
    assert dead == msgspec.structs.replace(
        change.parked[0], record=msgspec.structs.replace(change.inbound[1], goes_alone=False)
    )
    file.close()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_a_kept_file_is_worked_on(kept: Path, tmp_path: Path) -> None:
    file = opened(kept, tmp_path)
    file.recover(WALL_MS)
    new = inbound(9)
    file.apply([Change(inbound=[new], inbound_done=INBOUND)], WALL_MS)
    file.close()
    file = SqliteFile(tmp_path)
    assert file.recover(WALL_MS).inbound_counts == {
        InboundClass.MESSAGE: 1, InboundClass.FAILURE: 0, InboundClass.RECEIPT: 0
    }  # fmt: skip
    assert file.read_inbound(InboundClass.MESSAGE, 0, 9) == [new]
    file.close()

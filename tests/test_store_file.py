"""The SQLite file: whole or not at all, ours alone, and nobody else's file is touched."""

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from builders import WALL_MS, inbound, parked, send, settled
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.errors import StoreBusyError, StoreError
from gateway.events import InboundClass, Kind, Outcome, SendClass
from gateway.store.change_codec import merge
from gateway.store.protocol import BookEntry, Change, MemoryLimits, Parked, ParkedQuery
from gateway.store.sqlite_file import MAINTENANCE_ROWS, SqliteFile
from gateway.store.sqlite_read import PAGE_MAX_BYTES
from gateway.store.sqlite_write import write

MESSAGE, FAILURE, RECEIPT = InboundClass


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteFile]:
    made = SqliteFile(tmp_path)
    made.recover(WALL_MS)
    yield made
    made.close()


def reopened(file: SqliteFile) -> SqliteFile:
    file.close()
    return SqliteFile(file.path.parent)


def rows(file: SqliteFile, table: str) -> int:
    count = file._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    assert isinstance(count, int)
    return count


# -- opening


def test_keeps_its_id_and_secret(file: SqliteFile) -> None:
    store_id, secret = file.store_id, file.secret
    again = reopened(file)
    assert (again.store_id, again.secret) == (store_id, secret)
    assert len(secret) == 16
    again.close()


def test_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "new" / "store")
    assert file.path.parent.stat().st_mode & 0o077 == 0
    file.close()


def test_a_second_process_is_refused(file: SqliteFile) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from gateway.errors import StoreBusyError\n"
        "from gateway.store.sqlite_file import SqliteFile\n"
        "try: SqliteFile(Path(sys.argv[1]))\n"
        "except StoreBusyError as error: print('busy', error)\n"
    )
    directory = str(file.path.parent)
    ended = subprocess.run(
        [sys.executable, "-c", program, directory], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.startswith("busy")
    assert "in use by another process" in ended.stdout
    file.apply([Change(inbound=[inbound(1)])], WALL_MS)
    assert len(file.read_inbound(MESSAGE, 0, 9)) == 1


def test_a_second_one_in_this_process_is_refused_too(file: SqliteFile) -> None:
    with pytest.raises(StoreBusyError):
        SqliteFile(file.path.parent)


def _foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()


def _later_format(path: Path) -> None:
    SqliteFile(path.parent).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()


def _rollback_journal_of_a_later_format(path: Path) -> None:
    _later_format(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    db.close()


@pytest.mark.parametrize(
    "make",
    [
        _foreign_database,
        _later_format,
        _rollback_journal_of_a_later_format,
    ],
)
def test_a_file_that_is_not_our_format_is_refused_and_not_changed(tmp_path: Path, make: object) -> None:
    assert callable(make)
    path = tmp_path / "gateway.sqlite3"
    make(path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=r"can't be used") as refusal:
        SqliteFile(tmp_path)
    assert not isinstance(refusal.value, StoreBusyError)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"can't be opened"):
        SqliteFile(tmp_path / "file")


def test_a_database_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.sqlite3").mkdir()
    with pytest.raises(StoreError):
        SqliteFile(tmp_path)


# -- writing


@hypothesis_settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 150), min_size=5, max_size=5), data=st.data())
def test_any_number_of_rows_is_written_and_deleted_whole(counts: list[int], data: st.DataObject) -> None:
    """Rows go in by statements of 64, 16, 4 and 1: no number of them may fall between."""
    messages, receipts, sends, done, ended = counts
    seqs = iter(range(1, 10_000))
    records = [inbound(next(seqs), MESSAGE) for _ in range(messages)]
    records += [inbound(next(seqs), RECEIPT, [Kind.READ]) for _ in range(receipts)]
    pushes = [send(next(seqs), data.draw(st.sampled_from(SendClass))) for _ in range(sends)]
    with tempfile.TemporaryDirectory() as directory:
        file = SqliteFile(Path(directory))
        file.recover(WALL_MS)
        file.apply([Change(inbound=records[::2], sends=pushes), Change(inbound=records[1::2])], WALL_MS)
        file.apply(
            [
                Change(inbound_done=records[: done // 2]),
                Change(parked=[parked(record) for record in records[done // 2 : done]]),
                Change(settled=[settled(record) for record in pushes[:ended]]),
            ],
            WALL_MS,
        )
        file = reopened(file)
        found = file.recover(WALL_MS)
        left = records[done:]
        for cls in InboundClass:
            of_class = [record for record in left if record.cls is cls]
            assert file.read_inbound(cls, 0, 10_000) == of_class
            assert found.inbound_counts[cls] == len(of_class)
        for send_cls in SendClass:
            expected = [record.seq for record in pushes[ended:] if record.cls is send_cls]
            assert [record.seq for record in file.read_sends(send_cls, 0, 10_000)] == expected
            assert found.send_counts[send_cls] == len(expected)
        assert rows(file, "parked") == len(records[done // 2 : done])
        assert rows(file, "sent") == len(pushes[:ended])
        assert found.next_seq == messages + receipts + sends + 1
        file.close()


def test_a_page_of_large_bodies_is_short_and_never_empty(file: SqliteFile) -> None:
    large = PAGE_MAX_BYTES // 2
    bodies = [bytes(size) for size in (large, large - 1, 1, 5, PAGE_MAX_BYTES + 1, 7)]
    file.apply([Change(inbound=[inbound(at + 1, body=body) for at, body in enumerate(bodies)])], WALL_MS)
    pages: list[list[int]] = []
    while page := file.read_inbound(MESSAGE, pages[-1][-1] if pages else 0, 100):
        pages.append([record.seq for record in page])
    assert pages == [[1, 2, 3], [4, 5], [6]]


def test_a_parked_record_keeps_everything(file: SqliteFile) -> None:
    record = inbound(3, FAILURE, [Kind.FAILED, Kind.ERROR], body=b"\x00\xff", lane="a\x00b")
    file.apply([Change(inbound=[record])], WALL_MS)
    file.apply([Change(parked=[parked(record)])], WALL_MS)
    assert file.read_parked(ParkedQuery(), 0, 9) == [parked(record)]


def test_a_dead_send_keeps_everything_it_is_sent_again_with(file: SqliteFile) -> None:
    record = msgspec.structs.replace(
        send(4, SendClass.BULK, is_group=True, body=b"\x00\xff"),
        id=file.send_id(4), mask=2, batch="b", expires_ms=WALL_MS + 5_000, on_uncertain=1, attempts=3,
    )  # fmt: skip
    file.apply([Change(sends=[record])], WALL_MS)
    file.apply([Change(settled=[settled(record, Outcome.FAILED, WALL_MS + 9)])], WALL_MS)
    assert file.read_parked(ParkedQuery(), 0, 9) == [Parked(record, "", b"", WALL_MS + 9)]


def test_a_page_of_dead_letters_ends_with_the_row_that_fills_it(file: SqliteFile) -> None:
    large = [parked(inbound(seq, body=b"x" * (3 << 20))) for seq in (1, 2, 3)]
    file.apply([Change(parked=large)], WALL_MS)
    assert [item.record.seq for item in file.read_parked(ParkedQuery(), 0, 9)] == [1, 2]
    assert [item.record.seq for item in file.read_parked(ParkedQuery(), 2, 9)] == [3]


def test_the_highest_sequence_numbers_stay_in_their_class(file: SqliteFile) -> None:
    last = 2**48 - 1
    file.apply([Change(inbound=[inbound(last, MESSAGE), inbound(last - 1, FAILURE)])], WALL_MS)
    assert [record.seq for record in file.read_inbound(MESSAGE, 0, 9)] == [last]
    assert [record.seq for record in file.read_inbound(FAILURE, 0, 9)] == [last - 1]
    assert file.read_inbound(RECEIPT, 0, 9) == []


def test_books_add_up_over_commits(file: SqliteFile) -> None:
    entry, ended = BookEntry(Kind.READ, None, 2), BookEntry(Kind.READ, Outcome.SHED, 1)
    file.apply([Change(books=[entry, ended]), Change(books=[entry])], WALL_MS)
    file.apply([Change(books=[entry])], WALL_MS)
    file = reopened(file)
    assert sorted((b.kind, b.outcome, b.count) for b in file.recover(WALL_MS).books if b.outcome is None) == [
        (Kind.READ, None, 6)
    ]
    assert [b.count for b in file.recover(WALL_MS).books if b.outcome is Outcome.SHED] == [1]
    file.close()


# -- failing


@pytest.mark.parametrize("table", ["inbound", "send", "seen", "book", "sent", "parked", "meta"])
def test_a_change_that_fails_anywhere_leaves_nothing(tmp_path: Path, table: str) -> None:
    file = SqliteFile(tmp_path)
    file.recover(WALL_MS)
    kept, going = inbound(1), send(2)
    before = Change(inbound=[kept], sends=[going], books=[BookEntry(Kind.READ, None, 1)], notes={"a": b"old"})
    file.apply([before], WALL_MS)
    trigger = f"BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'the disk is ill'); END"
    file._db.execute(f"CREATE TEMP TRIGGER fault {trigger}")
    everything = Change(
        inbound=[inbound(3)],
        sends=[send(4)],
        inbound_done=[kept],
        parked=[parked(inbound(5))],
        settled=[settled(going)],
        books=[BookEntry(Kind.SENT, None, 1)],
        fingerprints=b"12345678",
        notes={"a": b"new"},
    )
    with pytest.raises(StoreError, match="the disk is ill"):
        file.apply([Change(inbound=[inbound(6)]), everything], WALL_MS)
    file = reopened(file)
    found = file.recover(WALL_MS)
    assert found.next_seq == 3
    assert file.read_inbound(MESSAGE, 0, 9) == [kept]
    assert [record.seq for record in file.read_sends(SendClass.NORMAL, 0, 9)] == [2]
    assert (rows(file, "sent"), rows(file, "parked"), found.fingerprints) == (0, 0, b"")
    assert [(entry.kind, entry.count) for entry in found.books] == [(Kind.READ, 1)]
    assert found.notes == {"a": b"old"}
    file.close()


def test_a_full_disk_leaves_nothing_of_the_change(file: SqliteFile) -> None:
    file.apply([Change(inbound=[inbound(1)])], WALL_MS)
    file._db.execute("PRAGMA max_page_count=1")  # no page more than there are now
    with pytest.raises(StoreError, match="full"):
        file.apply([Change(inbound=[inbound(seq, body=bytes(4000)) for seq in range(2, 40)])], WALL_MS)
    file = reopened(file)
    assert file.recover(WALL_MS).inbound_counts[MESSAGE] == 1
    file.close()


def test_a_crash_before_the_commit_leaves_nothing(file: SqliteFile) -> None:
    """The connection goes away in mid-transaction, as with kill -9."""
    file.apply([Change(inbound=[inbound(1)])], WALL_MS)
    file._db.execute("BEGIN IMMEDIATE")
    write(file._db, [merge([Change(inbound=[inbound(2)])])], WALL_MS, 0)
    file = reopened(file)
    assert [record.seq for record in file.read_inbound(MESSAGE, 0, 9)] == [1]
    file.close()


# -- starting


def test_a_start_looks_at_recent_sends_only(file: SqliteFile) -> None:
    """By the index of time, from the newest back; the table has a day of them."""
    file.recover(WALL_MS)
    statements: list[str] = []
    file._db.set_trace_callback(statements.append)
    file.recover(WALL_MS, 1_000)
    file._db.set_trace_callback(None)
    (asked,) = (text for text in statements if "FROM sent" in text)
    plan = " ".join(row[3] for row in file._db.execute(f"EXPLAIN QUERY PLAN {asked}"))
    assert "SEARCH sent USING INDEX sent_by_time" in plan
    assert "SCAN sent" not in plan


# -- forgetting


def test_forgets_the_oldest_ends_though_sends_accepted_before_them_ended_later(file: SqliteFile) -> None:
    late = [settled(send(seq), settled_ms=WALL_MS + 10) for seq in range(1, MAINTENANCE_ROWS + 1)]
    file.apply([Change(settled=[*late, settled(send(5_000), settled_ms=WALL_MS)])], WALL_MS)
    assert not file.forget(MemoryLimits(0, 10**9, WALL_MS + 1, 10**9))
    assert rows(file, "sent") == MAINTENANCE_ROWS


def test_forgets_a_bounded_number_at_a_time(file: SqliteFile) -> None:
    count = MAINTENANCE_ROWS + 10
    ends = [settled(send(seq)) for seq in range(1, count + 1)]
    file.apply([Change(settled=ends)], WALL_MS)
    all_of_them = MemoryLimits(0, 10**9, WALL_MS + 1, 10**9)
    assert file.forget(all_of_them)
    assert rows(file, "sent") == 10
    assert not file.forget(all_of_them)
    assert rows(file, "sent") == 0


def test_keeps_the_newest_parked_records(file: SqliteFile) -> None:
    file.apply([Change(parked=[parked(inbound(seq)) for seq in (5, 1, 9, 3)])], WALL_MS)
    assert not file.forget(MemoryLimits(0, 10**9, 0, parked_max=2))
    assert file._db.execute("SELECT seq FROM parked ORDER BY seq").fetchall() == [(5,), (9,)]


def test_forgetting_never_touches_what_waits(file: SqliteFile) -> None:
    file.apply(
        [Change(inbound=[inbound(1)], sends=[send(2)], books=[BookEntry(Kind.READ, None, 1)])], WALL_MS
    )
    file.forget(MemoryLimits(WALL_MS * 2, 0, WALL_MS * 2, 0))
    assert (rows(file, "inbound"), rows(file, "send"), rows(file, "book")) == (1, 1, 1)


def test_a_full_fingerprint_row_is_kept_until_all_of_it_is_old(file: SqliteFile) -> None:
    """A row holds a commit's fingerprints: fewer than asked for are never kept."""
    file.apply([Change(fingerprints=b"a" * 8), Change(fingerprints=b"b" * 8)], WALL_MS)
    file.apply([Change(fingerprints=b"c" * 8)], WALL_MS)
    file.forget(MemoryLimits(0, 2, 0, 0))
    assert file.recover(WALL_MS).fingerprints == b"a" * 8 + b"b" * 8 + b"c" * 8
    file.forget(MemoryLimits(0, 1, 0, 0))
    assert file.recover(WALL_MS).fingerprints == b"c" * 8


def test_fingerprints_go_on_after_all_have_been_forgotten(file: SqliteFile) -> None:
    file.apply([Change(fingerprints=b"a" * 8)], WALL_MS)
    file.forget(MemoryLimits(WALL_MS + 1, 10**9, 0, 0))
    file = reopened(file)
    assert file.recover(WALL_MS).fingerprints == b""
    file.apply([Change(fingerprints=b"b" * 8), Change(fingerprints=b"c" * 8)], WALL_MS)
    file.apply([Change(fingerprints=b"d" * 8)], WALL_MS)
    assert file.recover(WALL_MS).fingerprints == b"b" * 8 + b"c" * 8 + b"d" * 8
    file.close()


def test_space_that_is_free_again_is_not_counted_as_used(file: SqliteFile) -> None:
    records = [inbound(seq, body=bytes(3000)) for seq in range(1, 200)]
    before = file.used_bytes()
    file.apply([Change(inbound=records)], WALL_MS)
    assert file.used_bytes() > before + 500_000
    file.apply([Change(inbound_done=records)], WALL_MS)
    assert file.used_bytes() < before + 50_000


@given(kept=st.sets(st.integers(1, 60)), ended=st.sets(st.integers(1, 60)))
def test_what_has_ended_leaves_and_nothing_else(kept: set[int], ended: set[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = SqliteFile(Path(directory))
        file.recover(WALL_MS)
        records = {seq: inbound(seq) for seq in kept | ended}
        file.apply([Change(inbound=[*records.values()])], WALL_MS)
        file.apply([Change(inbound_done=[records[seq] for seq in ended])], WALL_MS)
        assert [record.seq for record in file.read_inbound(MESSAGE, 0, 100)] == sorted(kept - ended)
        file.close()


def test_a_row_of_ends_is_one_statement(file: SqliteFile) -> None:
    records = [inbound(seq) for seq in range(1, 1001)]
    file.apply([Change(inbound=records)], WALL_MS)
    statements: list[str] = []
    file._db.set_trace_callback(statements.append)
    file.apply([Change(inbound_done=[*records[:600], *records[700:703]])], WALL_MS)
    file._db.set_trace_callback(None)
    # Each is told once more for every row, by the trigger that counts them.
    assert len({one for one in statements if one.startswith("DELETE FROM inbound")}) == 1 + 3
    assert rows(file, "inbound") == 1000 - 603

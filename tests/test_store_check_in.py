"""From the log into the tables: when that happens, that commits wait for none of it, and what it tells."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from builders import WALL_MS, inbound, parked
from store_rig import Rig, copy_of_store

from gateway.errors import StoreError
from gateway.events import InboundClass, Side
from gateway.store import sqlite_thread
from gateway.store.protocol import Change
from gateway.store.redo_log import SEGMENT_BYTES
from gateway.store.sqlite_file import WAL_KEPT_BYTES, SqliteFile
from gateway.store.sqlite_store import SqliteStore
from gateway.store.sqlite_thread import CHECK_IN_BYTES

MESSAGE = InboundClass.MESSAGE


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.store.close()


@pytest.fixture(autouse=True)
def leave_in_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked in because time passes, so that a test sees when it is for another reason."""
    monkeypatch.setattr(sqlite_thread, "CHECK_IN_S", 60.0)


async def test_each_check_in_is_synced(rig: Rig) -> None:
    assert rig.store._file._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert rig.store._file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_failed_check_in_ends_the_store_and_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    """What was told to be stored is in the log, for the next start."""
    await rig.store.submit(Change(inbound=[inbound(1)]))
    rig.break_check_ins()
    with pytest.raises(StoreError, match="could not commit: attempt to write a readonly database"):
        await rig.store.read_inbound(MESSAGE, 0, 9)
    with pytest.raises(StoreError, match="readonly"):
        await rig.store.submit(Change(inbound=[inbound(2)]))
    assert len(rig.failures) == 1
    await rig.store.close()
    file = SqliteFile(tmp_path)
    assert [record.seq for record in file.read_inbound(MESSAGE, 0, 9)] == [1]
    file.close()


async def test_dead_letters_are_counted_as_soon_as_they_are_stored(rig: Rig) -> None:
    await rig.store.submit(Change(parked=[parked(inbound(1))]))
    assert rig.store.parked_counts()[Side.INBOUND].count == 1


async def test_nobody_is_told_that_a_dead_letter_is_stored_when_the_tables_fail(rig: Rig) -> None:
    rig.break_check_ins()
    with pytest.raises(StoreError, match="readonly"):
        await rig.store.submit(Change(parked=[parked(inbound(1))]))
    assert len(rig.failures) == 1


def event_of_check_in(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set whenever the log has been brought into the tables."""
    checked_in = threading.Event()
    check_in = store._file.check_in

    def check_in_and_tell() -> None:
        check_in()
        checked_in.set()

    monkeypatch.setattr(store._file, "check_in", check_in_and_tell)
    return checked_in


async def test_the_log_is_checked_in_when_it_has_much(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    file = rig.store._file
    before = file.check_ins
    checked_in = event_of_check_in(rig.store, monkeypatch)
    for seq in range(1, 4):
        await rig.store.submit(Change(inbound=[inbound(seq, body=bytes(CHECK_IN_BYTES // 4))]))
    assert not checked_in.is_set()
    await rig.store.submit(Change(inbound=[inbound(4, body=bytes(CHECK_IN_BYTES // 4))]))
    assert await asyncio.to_thread(checked_in.wait, 30)
    assert (file.check_ins, file.logged_bytes) == (before + 1, 0)


async def test_the_log_is_checked_in_when_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "CHECK_IN_S", 0.0)
    store = Rig(tmp_path).store
    checked_in = event_of_check_in(store, monkeypatch)
    await store.submit(Change(inbound=[inbound(1)]))
    assert await asyncio.to_thread(checked_in.wait, 30)
    assert store._file.logged_bytes == 0
    await store.close()


async def test_commits_wait_for_no_table(rig: Rig, tmp_path: Path) -> None:
    """Neither for a question, nor for what the log brings into them."""
    release = rig.hold_tables()
    for seq in range(1, 9):
        await rig.store.submit(Change(inbound=[inbound(seq, body=bytes(CHECK_IN_BYTES // 4))]))
    assert rig.store.commits == 8
    found = SqliteFile(copy_of_store(tmp_path))
    assert found.recover(WALL_MS).inbound_counts[MESSAGE] == 8
    found.close()
    release()
    assert len(await rig.store.read_inbound(MESSAGE, 0, 9)) == 8


async def test_commits_wait_when_both_segments_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is on its way into the tables, which are slow: then there is nowhere to write."""
    rig = Rig(tmp_path)
    file = rig.store._file
    is_at_it, released = threading.Event(), threading.Event()
    write = file._write

    def write_slowly(*args: Any) -> None:
        is_at_it.set()
        assert released.wait(30)
        write(*args)

    monkeypatch.setattr(file, "_write", write_slowly)
    body = bytes(SEGMENT_BYTES // 2 + 1)
    await rig.store.submit(Change(inbound=[inbound(1, body=body)]))
    assert await asyncio.to_thread(is_at_it.wait, 30)
    await rig.store.submit(Change(inbound=[inbound(2, body=body)]))
    third = rig.store.submit(Change(inbound=[inbound(3, body=body)]))
    found = SqliteFile(copy_of_store(tmp_path))
    assert found.recover(WALL_MS).inbound_counts[MESSAGE] == 2
    found.close()
    assert not third.done()
    released.set()
    await third
    await rig.store.close()
    file = SqliteFile(tmp_path)
    assert file.recover(WALL_MS).inbound_counts[MESSAGE] == 3
    file.close()


async def test_what_a_log_can_not_hold_goes_into_the_tables(rig: Rig, tmp_path: Path) -> None:
    await rig.store.submit(Change(inbound=[inbound(1)]))
    await rig.store.submit(Change(inbound=[inbound(2, body=bytes(SEGMENT_BYTES))]))
    assert rig.store._file.logged_bytes == 0
    await rig.store.submit(Change(inbound=[inbound(3)]))
    found = SqliteFile(copy_of_store(tmp_path))
    assert found.recover(WALL_MS).inbound_counts[MESSAGE] == 3
    found.close()


async def test_what_is_free_again_is_told_though_nothing_is_put_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full store takes nothing, so no commit would ever say that it has room again."""
    monkeypatch.setattr(sqlite_thread, "CHECK_IN_S", 0.0)
    rig = Rig(tmp_path)
    records = [inbound(seq, body=bytes(100_000)) for seq in range(1, 101)]
    await rig.store.submit(Change(inbound=records))
    await rig.store.find_send("x")  # checks in
    await rig.store.submit(Change())
    assert rig.store.used_bytes() > 10_000_000
    await rig.store.submit(Change(inbound_done=records))
    await rig.store.submit(Change())
    while rig.store.used_bytes() > 1_000_000:
        await asyncio.sleep(0.001)
    await rig.store.close()


async def test_a_large_log_of_sqlites_is_given_back_when_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "gateway.sqlite3-wal"
    rig = Rig(tmp_path)
    await rig.store.submit(Change(inbound=[inbound(1, body=bytes(2 * WAL_KEPT_BYTES))]))
    await rig.store.find_send("x")
    assert log.stat().st_size > WAL_KEPT_BYTES
    await rig.store.close()
    monkeypatch.setattr(sqlite_thread, "CHECK_IN_S", 0.0)
    rig = Rig(tmp_path)
    await rig.store.submit(Change(inbound=[inbound(2, body=bytes(2 * WAL_KEPT_BYTES))]))
    await rig.store.submit(Change())
    while log.stat().st_size:
        await asyncio.sleep(0.001)
    await rig.store.close()

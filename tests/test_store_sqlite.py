"""Group commit: told only what is on disk, many share a commit, and a failure is final."""

import asyncio
import functools
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from builders import WALL_MS, inbound, send

from gateway.clock import FakeClock
from gateway.errors import StoreError
from gateway.events import InboundClass
from gateway.store.protocol import Change
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import BATCH_MAX, SqliteStore

MESSAGE = InboundClass.MESSAGE


class Rig:
    """A store whose thread can be held up, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.failures: list[StoreError] = []
        self.store = SqliteStore(directory, FakeClock(), self.failures.append)

    def hold(self) -> Callable[[], None]:
        """Let the store's thread wait until the function returned is called."""
        released = threading.Event()
        holding = self.store._read(lambda _: released.wait(30))
        holding.add_done_callback(lambda future: future.exception())
        return released.set

    def break_inserts(self) -> None:
        """From now on no webhook can be stored."""
        fault = "BEFORE INSERT ON inbound BEGIN SELECT RAISE(ABORT, 'the disk is ill'); END"
        self.store._file._db.execute(f"CREATE TEMP TRIGGER fault {fault}")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.store.close()


def copy_of_store(directory: Path) -> Path:
    """A directory with the files as they are now."""
    copy = directory / "copy"
    copy.mkdir()
    for entry in directory.glob("gateway.sqlite3*"):
        (copy / entry.name).write_bytes(entry.read_bytes())
    return copy


async def test_done_means_that_a_fresh_reader_sees_it(rig: Rig, tmp_path: Path) -> None:
    """A copy of the files, as a crash would leave them, holds the row."""
    await rig.store.submit(Change(inbound=[inbound(1)]))
    found = SqliteFile(copy_of_store(tmp_path))
    assert [record.seq for record in found.read_inbound(MESSAGE, 0, 9)] == [1]
    found.close()


async def test_each_commit_is_synced(rig: Rig) -> None:
    assert rig.store._file._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert rig.store._file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_nothing_is_told_before_the_commit(rig: Rig) -> None:
    told: list[str] = []
    release = rig.hold()
    future = rig.store.submit(Change(inbound=[inbound(1)], on_commit=[lambda: told.append("stored")]))
    await asyncio.sleep(0)
    assert not future.done()
    assert told == []
    assert rig.store.waiting_changes == 1
    release()
    await future
    assert told == ["stored"]
    assert rig.store.waiting_changes == 0


async def test_what_comes_during_a_commit_shares_the_next(rig: Rig) -> None:
    release = rig.hold()
    order: list[int] = []
    futures = [
        rig.store.submit(Change(inbound=[inbound(seq)], on_commit=[functools.partial(order.append, seq)]))
        for seq in range(1, 201)
    ]
    release()
    await asyncio.gather(*futures)
    assert rig.store.changes == 200
    assert rig.store.commits <= 2
    assert order == list(range(1, 201))


async def test_a_commit_is_bounded(rig: Rig) -> None:
    release = rig.hold()
    futures = [rig.store.submit(Change()) for _ in range(3 * BATCH_MAX)]
    release()
    await asyncio.gather(*futures)
    assert 3 <= rig.store.commits <= 5
    assert rig.store.changes == 3 * BATCH_MAX


async def test_a_failed_commit_fails_all_that_shared_it_and_all_after(rig: Rig, tmp_path: Path) -> None:
    await rig.store.submit(Change(sends=[send(1)]))
    rig.break_inserts()
    stored: list[str] = []
    release = rig.hold()
    innocent = rig.store.submit(Change(sends=[send(2)], on_commit=[lambda: stored.append("innocent")]))
    guilty = rig.store.submit(Change(inbound=[inbound(3)], on_commit=[lambda: stored.append("guilty")]))
    release()
    results = await asyncio.gather(innocent, guilty, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
    later = rig.store.submit(Change(sends=[send(4)]))
    with pytest.raises(StoreError, match="the disk is ill"):
        await later
    with pytest.raises(StoreError, match="the disk is ill"):
        await rig.store.find_send("x")
    assert stored == []
    assert len(rig.failures) == 1
    assert rig.store.failure is rig.failures[0]
    assert rig.store.waiting_changes == 0
    await rig.store.close()
    file = SqliteFile(tmp_path)
    assert sum(file.recover(WALL_MS).send_counts.values()) == 1
    file.close()


async def test_what_was_submitted_before_the_failure_is_known_fails_too(rig: Rig) -> None:
    """Submitted while the thread was failing: it must not hang, and on_failure must not be called again."""
    rig.break_inserts()
    first = rig.store.submit(Change(inbound=[inbound(1)]))
    rest = [rig.store.submit(Change(sends=[send(seq)])) for seq in range(2, 2 * BATCH_MAX)]
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert len(rig.failures) == 1


async def test_what_sqlite_can_not_take_fails_the_store_instead_of_hanging_it(rig: Rig) -> None:
    """A lone surrogate raises UnicodeEncodeError, a wide integer OverflowError: no errors of sqlite3's."""
    with pytest.raises(StoreError, match="surrogates not allowed"):
        await rig.store.submit(Change(inbound=[inbound(1, lane="\ud800")]))
    assert len(rig.failures) == 1
    with pytest.raises(StoreError):
        await rig.store.submit(Change())


async def test_a_failed_read_fails_the_store(rig: Rig) -> None:
    rig.store._file._db.execute("DROP TABLE sent")
    with pytest.raises(StoreError, match="no such table"):
        await rig.store.find_send(rig.store.send_id(1))
    with pytest.raises(StoreError, match="no such table"):
        await rig.store.submit(Change())
    assert len(rig.failures) == 1


async def test_a_caller_that_is_cancelled_does_not_undo_the_change(rig: Rig, tmp_path: Path) -> None:
    stored: list[str] = []
    release = rig.hold()
    future = rig.store.submit(Change(inbound=[inbound(1)], on_commit=[lambda: stored.append("yes")]))
    future.cancel()
    barrier = rig.store.submit(Change())
    release()
    await barrier
    assert stored == ["yes"]
    assert len(await rig.store.read_inbound(MESSAGE, 0, 9)) == 1


async def test_a_closed_store_takes_nothing_and_can_be_closed_again(rig: Rig) -> None:
    await rig.store.close()
    await rig.store.close()
    with pytest.raises(StoreError, match="closed"):
        await rig.store.submit(Change())
    with pytest.raises(StoreError, match="closed"):
        await rig.store.read_inbound(MESSAGE, 0, 1)
    assert rig.failures == []


async def test_closing_gives_the_file_free(rig: Rig, tmp_path: Path) -> None:
    await rig.store.submit(Change(inbound=[inbound(1)]))
    await rig.store.close()
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM inbound").fetchone() == (1,)
    db.close()


async def test_used_bytes_are_those_of_the_last_commit(rig: Rig) -> None:
    before = rig.store.used_bytes()
    release = rig.hold()
    future = rig.store.submit(Change(inbound=[inbound(1, body=bytes(200_000))]))
    assert rig.store.used_bytes() == before
    release()
    await future
    assert rig.store.used_bytes() > before + 150_000

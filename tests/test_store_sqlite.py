"""Group commit: told only what is on disk, many share a commit, and a failure is final."""

import asyncio
import functools
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from builders import WALL_MS, inbound, parked, send
from ill_log import SAYS, break_log
from store_rig import Rig, copy_of_store

from gateway.clock import FakeClock
from gateway.errors import StoreError
from gateway.events import InboundClass, Side
from gateway.store import sqlite_thread
from gateway.store.protocol import Change, Sync, awaited
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import SqliteStore
from gateway.store.sqlite_thread import BATCH_MAX, CHECK_IN_BYTES

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


async def test_done_means_that_a_fresh_reader_sees_it(rig: Rig, tmp_path: Path) -> None:
    """A copy of the files, as a crash would leave them, holds the row."""
    await rig.store.submit(Change(inbound=[inbound(1)]))
    found = SqliteFile(copy_of_store(tmp_path))
    assert [record.seq for record in found.read_inbound(MESSAGE, 0, 9)] == [1]
    found.close()


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
    break_log(rig.store._file)
    stored: list[str] = []
    release = rig.hold()
    innocent = rig.store.submit(Change(sends=[send(2)], on_commit=[lambda: stored.append("innocent")]))
    guilty = rig.store.submit(Change(inbound=[inbound(3)], on_commit=[lambda: stored.append("guilty")]))
    release()
    results = await asyncio.gather(innocent, guilty, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
    later = rig.store.submit(Change(sends=[send(4)]))
    with pytest.raises(StoreError, match=SAYS):
        await later
    with pytest.raises(StoreError, match=SAYS):
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
    break_log(rig.store._file)
    first = rig.store.submit(Change(inbound=[inbound(1)]))
    rest = [rig.store.submit(Change(sends=[send(seq)])) for seq in range(2, 2 * BATCH_MAX)]
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert len(rig.failures) == 1


async def test_what_is_gathered_when_the_store_fails_fails_too(rig: Rig) -> None:
    """Put for the next turn of the loop, or for the company of something else."""
    break_log(rig.store._file)
    told: list[str] = []
    rig.store.put(Change(inbound=[inbound(1)], on_failure=[lambda _: told.append("first")]))
    await asyncio.sleep(0)
    rig.store.put(Change(inbound=[inbound(2)], on_failure=[lambda _: told.append("second")]), can_wait=True)
    gathered = [rig.store.submit(Change(inbound=[inbound(3)]))]
    while rig.store.failure is None:
        gathered.append(rig.store.submit(Change()))
        await asyncio.sleep(0)
    results = await asyncio.gather(*gathered, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert told == ["first", "second"]
    assert rig.store.waiting_changes == 0


async def test_a_gathered_change_that_can_not_be_made_fails_all_that_is_put_with_it(rig: Rig) -> None:
    told: list[StoreError] = []
    rig.store.gather(lambda: Change(size=1 // 0))
    rig.store.gather(lambda: Change(on_failure=[told.append]))
    with pytest.raises(StoreError, match="ZeroDivisionError"):
        await rig.store.submit(Change())
    assert (len(told), len(rig.failures), rig.store.waiting_changes) == (1, 1, 0)


async def test_nobody_is_told_of_success_after_a_part_has_failed(rig: Rig) -> None:
    def broken() -> None:
        raise AssertionError("no such thing")

    release = rig.hold()
    rig.store.put(Change(on_commit=[broken]))
    others = [rig.store.submit(Change()) for _ in range(3 * BATCH_MAX)]
    release()
    results = await asyncio.gather(*others, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert rig.store.waiting_changes == 0


async def test_a_change_is_stored_as_it_was_when_it_was_handed_over(rig: Rig) -> None:
    record = send(1)
    stored = rig.store.submit(Change(sends=[record]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    record.attempts = 7
    await stored
    (found,) = await rig.store.read_sends(record.cls, 0, 9)
    assert found.attempts == 0


async def test_what_waits_is_no_older_than_the_last_commit(rig: Rig) -> None:
    def put_another() -> None:
        rig.clock.advance_ns(5_000_000)
        rig.store.put(Change(), can_wait=True)

    await rig.store.submit(Change(on_commit=[put_another]))
    assert (rig.store.waiting_changes, rig.store.oldest_wait_ms()) == (1, 0.0)
    rig.clock.advance_ns(3_000_000)
    assert rig.store.oldest_wait_ms() == 3.0


async def test_what_can_wait_shares_the_commit_of_what_can_not(rig: Rig) -> None:
    rig.store.put(Change(inbound=[inbound(1)]), can_wait=True)
    await asyncio.sleep(0)
    assert rig.store._gathered
    await rig.store.submit(Change(inbound=[inbound(2)]))
    assert (rig.store.commits, rig.store.changes) == (1, 2)


async def test_what_can_wait_is_hurried(rig: Rig) -> None:
    change = Change(inbound=[inbound(1)])
    stored = awaited(change)
    rig.store.put(change, can_wait=True)
    timer = rig.store._timer
    assert timer is not None
    rig.store.hurry()
    await stored
    assert timer.cancelled()


async def test_what_can_wait_is_stored_by_itself_too(rig: Rig) -> None:
    change = Change(inbound=[inbound(1)])
    stored = awaited(change)
    rig.store.put(change, can_wait=True)
    await stored
    assert rig.store.commits == 1


async def test_closing_stores_what_waits_for_company(rig: Rig, tmp_path: Path) -> None:
    stored: list[str] = []
    rig.store.put(Change(inbound=[inbound(1)], on_commit=[lambda: stored.append("yes")]), can_wait=True)
    await rig.store.close()
    await asyncio.sleep(0)
    assert stored == ["yes"]
    file = SqliteFile(tmp_path)
    assert [record.seq for record in file.read_inbound(MESSAGE, 0, 9)] == [1]
    file.close()


@pytest.mark.parametrize("sync", [Sync.OS, Sync.FULL])
async def test_a_killed_process_loses_nothing_with_the_kernel(tmp_path: Path, sync: Sync) -> None:
    store = SqliteStore(tmp_path, FakeClock(), lambda _: None, sync=sync)
    await store.submit(Change(inbound=[inbound(1)]))
    assert (await store.read_inbound(MESSAGE, 0, 9))[0].seq == 1
    await store.submit(Change(inbound=[inbound(2)]))
    found = SqliteFile(copy_of_store(tmp_path))
    assert [record.seq for record in found.read_inbound(MESSAGE, 0, 9)] == [1, 2]
    found.close()
    await store.close()


async def test_without_a_disk_a_change_is_stored_when_the_loop_comes_to_it(tmp_path: Path) -> None:
    """And the thread is not woken for it."""
    store = SqliteStore(tmp_path / "none", FakeClock(), lambda _: None, sync=Sync.OFF)
    told: list[int] = []
    for seq in (1, 2):
        store.put(Change(inbound=[inbound(seq)], on_commit=[functools.partial(told.append, seq)]))
    assert told == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == [1, 2]
    assert (store.waiting_changes, store.commits, store.changes) == (0, 1, 2)
    assert len(store._kept) == 1
    assert [record.seq for record in await store.read_inbound(MESSAGE, 0, 9)] == [1, 2]
    await store.submit(Change(parked=[parked(inbound(3))]))
    await store.read_inbound(MESSAGE, 0, 9)
    assert store.parked_counts()[Side.INBOUND].count == 1
    large = store.submit(Change(inbound=[inbound(4, body=bytes(CHECK_IN_BYTES))]))
    await large
    assert not store._kept
    await store.close()
    assert not (tmp_path / "none").exists()


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
    # The tables may have it already, and not have told of their pages; what a question is answered comes after that.
    await rig.store.find_keys([])
    assert rig.store.used_bytes() > before + 150_000


async def test_a_question_that_is_wrong_in_itself_fails_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in a query is no failed disk: whoever asked hears of it, and the store goes on."""

    def broken(_keys: object) -> list[object]:
        raise TypeError("no such thing")

    monkeypatch.setattr(rig.store._file, "find_keys", broken)
    asked, other = rig.store.find_keys(["a"]), rig.store.find_send("gw-0badcafe-1")
    with pytest.raises(TypeError, match="no such thing"):
        await asked
    assert await other is None
    await rig.store.submit(Change(inbound=[inbound(1)]))
    assert rig.failures == []


async def test_a_part_that_fails_at_the_failure_too_keeps_nobody_from_being_told(rig: Rig) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("answered twice")

    rig.store.put(Change(notes={"a": b"1"}, on_commit=[broken], on_failure=[broken]))
    other = rig.store.submit(Change(notes={"b": b"1"}))
    with pytest.raises(StoreError, match="take note of a commit"):
        await other
    assert len(rig.failures) == 1
    assert rig.store.waiting_changes == 0

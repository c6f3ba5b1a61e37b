"""A store on a disk that fails at its n-th operation, for each n: run by test_durability.py, with faulty_disk.c preloaded.

For each n a child process plays the scenario and writes to a pipe what it was told; then the file is opened again and
compared with what the scenario leaves after as many calls as were acknowledged, or one more: the call under way may be
on disk or not, but not in part. Then the rest of the scenario must go through. Problems are printed, one a line.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from builders import WALL_MS
from store_scenario import Rows, book_differences, rows_of, scenario

from gateway.clock import FakeClock
from gateway.errors import StoreCorruptError, StoreError
from gateway.store import redo_log, reserve, sqlite_thread
from gateway.store.protocol import Sync
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import SqliteStore

KINDS: Final = {
    "eio": 1, "eio for good": 2, "full": 3, "full for good": 4, "short write": 5,
    "kill": 6, "kill in a write": 7, "power cut": 8, "torn power cut": 9,
}  # fmt: skip
ACKED, FAILED, LIED, SPARED = b"a", b"f", b"!", b"s"
SPARED_MAX: Final = 12
"""Two threads write, so a run may take a few operations less than the one that was counted: one check-in or two."""

DISK: Final = ctypes.CDLL(None)


def make_small() -> None:
    """Let the log be checked in within the scenario because it has much, begin anew over old frames, and be passed by.

    For this process only: the tests take names from this module, and their stores are as large as ever.
    """
    redo_log.SEGMENT_BYTES = 18_000  # type: ignore[misc]
    sqlite_thread.CHECK_IN_BYTES = 13_000  # type: ignore[misc]
    reserve.SIZE_BYTES = 8_192  # type: ignore[misc]


def arm(at: int, kind: int, seed: int = 1) -> None:
    """Let operation `at` from now be the one; 0: none."""
    DISK.faulty_disk_arm(ctypes.c_long(at), ctypes.c_int(kind), ctypes.c_ulong(seed))


def operations() -> int:
    """So many since it was armed."""
    return int(DISK.faulty_disk_operations())


def open_store(directory: Path, sync: Sync = Sync.FULL) -> SqliteStore:
    """A store whose SQLite log is checked into its file early, so that this happens within the scenario."""
    store = SqliteStore(directory, FakeClock(wall_ms=WALL_MS), lambda _: None, sync=sync)
    store._file._db.execute("PRAGMA wal_autocheckpoint=12")
    return store


async def play(
    directory: Path,
    told: Callable[[bytes], object],
    first: int = 0,
    sync: Sync = Sync.FULL,
    *,
    dies_of_failure: bool = False,
) -> None:
    """The scenario from step `first` on. After a failure nothing may succeed on the same handle.

    `dies_of_failure`: it is left as it is then, as by a process that is killed.
    """
    try:
        store = open_store(directory, sync)
    except StoreError:
        told(FAILED)
        return
    has_failed = False
    for step in scenario()[first:]:
        try:
            await step(store)
        except StoreError:
            has_failed = True
            told(FAILED)
            if dies_of_failure:
                return
        else:
            told(LIED if has_failed else ACKED)
    await store.close()


def in_child(work: Callable[[Callable[[bytes], object]], None]) -> tuple[bytes, int]:
    """Do `work` in a child; what it told, and how it ended (`os.waitstatus_to_exitcode`)."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        with contextlib.suppress(StoreError):
            work(lambda word: os.write(writer, word))
            status = 0
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        words = told.read()
    return words, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def expected_rows(directory: Path) -> list[Rows]:
    """The rows after each number of steps on a disk that is well."""

    async def steps() -> list[Rows]:
        store = open_store(directory)
        found = [await store._read(lambda file: rows_of(file._db))]
        for step in scenario():
            await step(store)
            found.append(await store._read(lambda file: rows_of(file._db)))
        await store.close()
        return found

    return asyncio.run(steps())


def operations_of_scenario(directory: Path, sync: Sync) -> int:
    """How many it takes when all goes well."""
    arm(0, 0)
    asyncio.run(play(directory, lambda _: None, sync=sync))
    return operations()


def problems_after(
    directory: Path, acked: int, expected: list[Rows], *, is_exact: bool = False, may_lose: bool = False
) -> Iterator[str]:
    """What is wrong with the store after `acked` steps were acknowledged; the last of them may be lost if that is allowed."""
    try:
        file = SqliteFile(directory)
    except StoreCorruptError as error:
        yield f"does not open after {acked} acked steps: {error}"
        return
    found = rows_of(file._db)
    check = file._db.execute("PRAGMA integrity_check").fetchone()[0]
    file.close()
    if check != "ok":
        yield f"integrity_check: {check}"
    if off := book_differences(found):
        yield f"books differ by {off}"
    if any(".corrupt-" in entry.name for entry in directory.iterdir()):
        yield "was set aside"
    first = 0 if may_lose else acked
    allowed = expected[first : acked + (1 if is_exact else 2)]
    if found not in allowed:
        tables = [name for name in found if found[name] != expected[acked][name]]
        yield f"after {acked} acked steps other rows than they left, in {tables}"
        return
    at = first + allowed.index(found)
    words: list[bytes] = []
    asyncio.run(play(directory, words.append, at))
    if words != [ACKED] * (len(expected) - 1 - at):
        yield f"does not work on after recovery: {words}"
    file = SqliteFile(directory)
    if rows_of(file._db) != expected[-1]:
        yield "does not end as it should after recovery"
    file.close()


def strike(
    directory: Path, name: str, at: int, total: int, expected: list[Rows], sync: Sync
) -> Iterator[str]:
    """One run whose operation `at` of about `total` fails."""

    def work(told: Callable[[bytes], object]) -> None:
        arm(at, KINDS[name], seed=at)
        asyncio.run(play(directory, told, sync=sync))
        if operations() < at:
            told(SPARED)

    words, status = in_child(work)
    is_spared = words.endswith(SPARED) and at > total - SPARED_MAX
    words = words.removesuffix(SPARED)
    acked = words.count(ACKED)
    if LIED in words or ACKED in words.lstrip(ACKED):
        yield f"success after a failure on the same handle: {words!r}"
    if name == "short write" and words != ACKED * (len(expected) - 1):
        yield f"a short write is no failure: {words!r}"
    dies = ("kill" in name or "power" in name) and not is_spared
    if status not in (0, -9) or (status == 0 and dies):
        yield f"ended with {status}"
    yield from problems_after(directory, acked, expected, may_lose=sync is Sync.OS and "power" in name)


def strike_then_power_cut(directory: Path, at: int, expected: list[Rows]) -> Iterator[str]:
    """A call fails and the process dies of it; the next one goes on to the end of the scenario, and then the power goes.

    What a failed sync left unwritten is still unwritten then, though the second process read it from the page cache.
    """
    before, after = directory / "before", directory / "after"

    def work(told: Callable[[bytes], object]) -> None:
        arm(at, KINDS["eio"])
        words: list[bytes] = []
        asyncio.run(play(before, words.append, dies_of_failure=True))
        arm(0, 0)
        shutil.copytree(before, after)
        for path in after.iterdir():
            DISK.faulty_disk_copied(os.fsencode(before / path.name), os.fsencode(path))
        asyncio.run(go_on(words.count(ACKED), told))

    async def go_on(acked: int, told: Callable[[bytes], object]) -> None:
        # Not `open_store`: SQLite's log must not be checked in before the power goes.
        store = SqliteStore(after, FakeClock(wall_ms=WALL_MS), lambda _: None)
        rows = await store._read(lambda file: rows_of(file._db))
        for step in scenario()[acked + expected[acked : acked + 2].index(rows) :]:
            await step(store)
        told(ACKED)
        DISK.faulty_disk_power_loss(0)

    words, status = in_child(work)
    if (words, status) != (ACKED, -9):
        yield f"ended with {status}"
        return
    yield from problems_after(after, len(expected) - 1, expected, is_exact=True)


def strike_recovery(directory: Path, name: str, at: int, expected: list[Rows], log: Path) -> Iterator[str]:
    """The start after a crash is struck: `log` has the store as the crash left it, with all in its logs."""
    shutil.copytree(log, directory, dirs_exist_ok=True)

    def work(told: Callable[[bytes], object]) -> None:
        arm(at, KINDS[name], seed=at)
        SqliteFile(directory).close()

    in_child(work)
    yield from problems_after(directory, len(expected) - 1, expected, is_exact=True)


def crashed_store(directory: Path) -> int:
    """A store that was killed at its end; how many operations the next start takes."""

    def work(told: Callable[[bytes], object]) -> None:
        async def play_and_die() -> None:
            store = SqliteStore(directory, FakeClock(wall_ms=WALL_MS), lambda _: None)
            for step in scenario():
                await step(store)
            os.kill(os.getpid(), 9)

        arm(0, 0)
        asyncio.run(play_and_die())

    in_child(work)
    copy = directory.with_name("counted starts")
    shutil.copytree(directory, copy)
    arm(0, 0)
    SqliteFile(copy).close()
    return operations()


def main() -> None:
    """Arguments: a directory; what is to happen, a name of KINDS, "os: NAME", "then power cut", "recovery: NAME"; each n-th."""
    make_small()
    directory, what, stride = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    name = what.removeprefix("os: ")
    sync = Sync.FULL if name == what else Sync.OS
    expected = expected_rows(directory / "well")
    total = operations_of_scenario(directory / "counted", sync)
    recovery = what.removeprefix("recovery: ")
    log = directory / "log"
    if recovery != what:
        total = crashed_store(log)
    problems = 0
    for at in range(1, total + 1, stride):
        DISK.faulty_disk_reset()
        place = directory / str(at)
        place.mkdir()
        if recovery != what:
            found = strike_recovery(place, recovery, at, expected, log)
        elif what == "then power cut":
            found = strike_then_power_cut(place, at, expected)
        else:
            found = strike(place, name, at, total, expected, sync)
        for problem in found:
            problems += 1
            print(f"{what} at operation {at} of {total}: {problem}", flush=True)  # noqa: T201
        arm(0, 0)
        shutil.rmtree(place)
    print(f"{total} operations, {problems} problems")  # noqa: T201


if __name__ == "__main__":
    main()

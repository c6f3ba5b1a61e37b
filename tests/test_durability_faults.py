"""The disk fails, the process dies, the power goes: at each operation of a fixed story of a store, and it recovers.

`faulty_disk.c` is the disk, `store_scenario.py` the story, `store_faults.py` plays it and judges.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import WALL_MS, inbound, send
from faulty_disk import build
from store_faults import KINDS

from gateway.clock import FakeClock
from gateway.errors import StoreBusyError, StoreCorruptError, StoreError, StoreFullError
from gateway.events import InboundClass
from gateway.store.protocol import Change
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import SqliteStore

TESTS = Path(__file__).parent
CASES = [
    *KINDS,
    "then power cut",
    "recovery: kill",
    "recovery: eio",
    "recovery: full",
    "recovery: torn power cut",
    "os: kill",
    "os: power cut",
    "os: torn power cut",
]
STRIDE = 37
"""The quick suite strikes each 37th of about 360 operations. Odd: a page is logged by two writes, and an even number would
always strike the same of them."""


@pytest.fixture(scope="session")
def faulty_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty_disk"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what is on disk here is for faulty_disk.c to say."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def strike(faulty_disk: Path, directory: Path, case: str, stride: int) -> None:
    environ = {**os.environ, "LD_PRELOAD": str(faulty_disk), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    words = [sys.executable, str(TESTS / "store_faults.py"), str(directory), case, str(stride)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith(" operations, 0 problems\n"), done.stdout[-3000:]
    operations = int(done.stdout.split()[-4])
    assert operations >= (20 if case.startswith("recovery") else 300), (
        "the story has become too short to show anything"
    )


@pytest.mark.parametrize("case", CASES)
def test_recovers_when_an_operation_of_the_store_is_struck(
    faulty_disk: Path, memory: Path, case: str
) -> None:
    strike(faulty_disk, memory, case, STRIDE)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_recovers_whichever_operation_of_the_store_is_struck(
    faulty_disk: Path, memory: Path, case: str
) -> None:
    strike(faulty_disk, memory, case, 1)


# -- what SQLite says of it


class FailingDatabase:
    """A connection whose n-th statement raises."""

    def __init__(self, db: sqlite3.Connection, at: int, error: sqlite3.Error) -> None:
        self._db = db
        self._left = at
        self._error = error
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, *words: Any) -> Any:
        self._count()
        return self._db.execute(*words)

    def executemany(self, *words: Any) -> Any:
        self._count()
        return self._db.executemany(*words)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.has_failed = True
            raise self._error


def failing(kind: type[sqlite3.Error], code: int) -> sqlite3.Error:
    error = kind("said by SQLite")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_WORD"
    return error


STATEMENTS_MIN = 10
"""BEGIN, eight that write, and COMMIT."""

ERRORS = [
    (failing(sqlite3.OperationalError, sqlite3.SQLITE_BUSY), StoreBusyError, "in use by another process"),
    (failing(sqlite3.OperationalError, sqlite3.SQLITE_FULL), StoreFullError, "said by SQLite"),
    (failing(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC), StoreError, "said by SQLite"),
    (failing(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT_INDEX), StoreCorruptError, "said by SQLite"),
    (failing(sqlite3.DatabaseError, sqlite3.SQLITE_NOTADB), StoreCorruptError, "said by SQLite"),
]


@pytest.mark.parametrize(("error", "raised", "reason"), ERRORS)
def test_whatever_statement_of_a_commit_fails_nothing_of_it_stays(
    tmp_path: Path, error: sqlite3.Error, raised: type[StoreError], reason: str
) -> None:
    kept = inbound(1)
    change = Change(
        inbound=[inbound(2)], sends=[send(3)], inbound_done=[kept], fingerprints=b"12345678", ledger_items=b"x",
        notes={"a": b"b"},
    )  # fmt: skip
    for at in range(1, 100):
        file = SqliteFile(tmp_path / str(at))
        file.apply([Change(inbound=[kept])], WALL_MS)
        db, wrapped = file._db, FailingDatabase(file._db, at, error)
        file._db = wrapped  # type: ignore[assignment]
        raises = pytest.raises(raised, match=reason) if at <= STATEMENTS_MIN else contextlib.suppress(raised)
        with raises:
            file.apply([change], WALL_MS)
        db.close()
        if not wrapped.has_failed:
            break
        found = SqliteFile(tmp_path / str(at))
        assert found.read_inbound(InboundClass.MESSAGE, 0, 9) == [kept]
        assert sum(found.recover(WALL_MS).send_counts.values()) == 0
        found.close()
    else:
        pytest.fail("a commit of so many statements")


@pytest.mark.parametrize(("error", "raised", "reason"), ERRORS)
async def test_a_store_that_failed_says_why_and_never_succeeds_again(
    tmp_path: Path, error: sqlite3.Error, raised: type[StoreError], reason: str
) -> None:
    failures: list[StoreError] = []
    store = SqliteStore(tmp_path, FakeClock(), failures.append)
    await store.submit(Change(inbound=[inbound(1)]))
    db = store._file._db
    store._file._db = FailingDatabase(db, 2, error)  # type: ignore[assignment]
    with pytest.raises(raised, match=reason):  # by the check-in before it
        await store.read_inbound(InboundClass.MESSAGE, 0, 9)
    for seq in (2, 3):
        with pytest.raises(raised, match=reason):
            await store.submit(Change(inbound=[inbound(seq)]))
    with pytest.raises(raised):
        await store.read_inbound(InboundClass.MESSAGE, 0, 9)
    assert len(failures) == 1
    assert str(tmp_path) in str(failures[0])
    await store.close()

"""A damaged store: set aside whole, with a reason and an exit status, and never emptied in silence."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import WALL_MS, inbound
from process import GatewayProcess
from store_scenario import rows_in

from gateway.clock import FakeClock
from gateway.errors import EXIT_STORE, StoreCorruptError, StoreError
from gateway.events import InboundClass
from gateway.store.protocol import Change
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import SqliteStore

MESSAGE = InboundClass.MESSAGE
NAME = "gateway.sqlite3"
RECORDS = [inbound(seq, body=bytes(3000)) for seq in range(1, 101)]
PAGE = 4096


def filled_store(directory: Path) -> Path:
    """A store with 100 records, closed."""
    file = SqliteFile(directory)
    file.apply([Change(inbound=RECORDS)], WALL_MS)
    file.close()
    return directory / NAME


def killed_store(directory: Path) -> Path:
    """The same as a kill leaves it: everything is in its log."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from test_durability_damage import *\n"
        "SqliteFile(Path(sys.argv[1])).apply([Change(inbound=RECORDS)], WALL_MS); os.kill(os.getpid(), 9)\n"
    )
    tests = Path(__file__).parent
    words = [sys.executable, "-c", program, str(directory)]
    ended = subprocess.run(
        words, cwd=tests, env={**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}"}, check=False
    )
    assert ended.returncode == -9
    assert (directory / f"{NAME}-wal").stat().st_size > 100 * 3000
    return directory / NAME


def set_aside(directory: Path) -> dict[str, bytes]:
    """What was set aside, by the end of its name: "" the store, "-redo" its log, "-wal" that of its tables."""
    found = {entry.name: entry.read_bytes() for entry in directory.iterdir() if ".corrupt-" in entry.name}
    assert not {NAME, f"{NAME}-redo", f"{NAME}-wal"} & {entry.name for entry in directory.iterdir()}
    return {re.sub(r".*Z", "", name): content for name, content in found.items()}


def logs_of(path: Path) -> dict[str, bytes]:
    """The logs that a store has, by the end of their names."""
    logs = {suffix: path.with_name(NAME + suffix) for suffix in ("-redo", "-wal")}
    return {suffix: log.read_bytes() for suffix, log in logs.items() if log.exists()}


def _with_pages_of_noise(path: Path, first: int, last: int) -> None:
    with path.open("r+b") as file:
        file.seek(first * PAGE)
        file.write(b"\x5a" * PAGE * (last - first))


HEADERS: dict[str, Callable[[Path], object]] = {
    "two bytes": lambda path: path.write_bytes(b"no"),
    "a text": lambda path: path.write_bytes(b"this is no database. " * 1000),
    "a header and noise": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise in the first page": lambda path: _with_pages_of_noise(path, 0, 1),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "all but its last page": lambda path: path.write_bytes(path.read_bytes()[:-PAGE]),
}


@pytest.mark.parametrize("damage", HEADERS)
def test_damage_that_shows_at_the_start_sets_the_store_aside(tmp_path: Path, damage: str) -> None:
    path = filled_store(tmp_path)
    HEADERS[damage](path)
    content = {"": path.read_bytes(), **logs_of(path)}
    with pytest.raises(
        StoreCorruptError, match=r"was set aside as .*/gateway\.sqlite3\.corrupt-\d{8}T\d{6}Z"
    ):
        SqliteFile(tmp_path)
    assert set_aside(tmp_path) == content
    file = SqliteFile(tmp_path)
    assert file.read_inbound(MESSAGE, 0, 9) == []
    file.close()


def test_a_log_whose_store_is_gone_is_set_aside_and_not_deleted(tmp_path: Path) -> None:
    """SQLite takes an empty file for a new one, and a log beside it for rubbish."""
    path = killed_store(tmp_path)
    logs = logs_of(path)
    path.write_bytes(b"")
    with pytest.raises(StoreCorruptError, match="its log is not"):
        SqliteFile(tmp_path)
    assert set_aside(tmp_path) == {"": b"", **logs}
    assert set(logs) == {"-redo", "-wal"}


@pytest.mark.parametrize("moved", [["", "-redo"], [""]])
def test_what_a_stop_between_the_renames_leaves_is_set_aside_too(tmp_path: Path, moved: list[str]) -> None:
    path = killed_store(tmp_path)
    logs = logs_of(path)
    for suffix in moved:
        path.with_name(NAME + suffix).rename(path.with_name(f"elsewhere{suffix}"))
        logs.pop(suffix, None)
    with pytest.raises(StoreCorruptError, match="its log is not"):
        SqliteFile(tmp_path)
    assert set_aside(tmp_path) == logs


async def _read_all(store: SqliteStore) -> None:
    await store.read_inbound(MESSAGE, 0, 1000)


async def _delete_all(store: SqliteStore) -> None:
    await store.submit(Change(inbound_done=RECORDS))
    await store.find_send("x")  # the log is checked in for it


@pytest.mark.parametrize("use", [_read_all, _delete_all])
async def test_damage_that_shows_later_sets_the_store_aside_once_it_is_closed(
    tmp_path: Path, use: Callable[[SqliteStore], object]
) -> None:
    path = filled_store(tmp_path)
    pages = path.stat().st_size // PAGE
    _with_pages_of_noise(path, pages // 2, pages - 2)
    failures: list[StoreError] = []
    store = SqliteStore(tmp_path, FakeClock(), failures.append)
    with pytest.raises(StoreCorruptError, match="malformed"):
        await use(store)  # type: ignore[misc]
    assert len(failures) == 1
    assert path.exists()
    await store.close()
    assert len(set_aside(tmp_path)[""]) == pages * PAGE
    store = SqliteStore(tmp_path, FakeClock(), failures.append)
    assert store.recovered.inbound_counts[MESSAGE] == 0
    await store.close()


def test_a_store_in_use_is_never_set_aside(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    with pytest.raises(StoreError, match="in use"):
        SqliteFile(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir() if "corrupt" in entry.name] == []
    file.close()


async def test_the_gateway_ends_with_74_names_the_file_and_starts_empty_after(tmp_path: Path) -> None:
    path = filled_store(tmp_path / "store")
    rows = rows_in(path)
    with path.open("r+b") as file:  # a damage that can be mended, to show that all of it is still there
        head = file.read(16)
        file.seek(0)
        file.write(bytes(16))
    gateway = GatewayProcess(tmp_path)
    with pytest.raises(AssertionError, match=rf"exit {EXIT_STORE}"):
        await gateway.start()
    said = gateway.log_path.read_text()
    assert said.count("was set aside as") == 1
    assert "Traceback" not in said
    (aside,) = (tmp_path / "store").glob(f"{NAME}.corrupt-*Z")
    assert str(aside) in said
    with aside.open("r+b") as file:
        file.write(head)
    assert rows_in(aside) == rows
    async with gateway:
        metrics = await gateway.metrics()
        assert sum(value for name, value in metrics.items() if name.startswith("gateway_waiting")) == 0
        assert await gateway.terminate() == 0


async def test_a_second_gateway_on_one_store_refuses_to_start(tmp_path: Path) -> None:
    async with GatewayProcess(tmp_path) as gateway:
        (tmp_path / "second").mkdir()
        second = GatewayProcess(tmp_path / "second", STORE_PATH=str(tmp_path / "store"))
        with pytest.raises(AssertionError, match=rf"exit {EXIT_STORE}"):
            await second.start()
        assert "in use by another process" in second.log_path.read_text()
        assert (await gateway.metrics())["gateway_conservation_difference"] == 0
        assert await gateway.terminate() == 0
        async with second:  # a turn later the store is free
            assert await second.terminate() == 0


def test_sqlite_itself_would_have_deleted_a_log_without_its_store(tmp_path: Path) -> None:
    """The reason for `is_log_alone`: when a later SQLite keeps it, that may go."""
    path = killed_store(tmp_path)
    path.write_bytes(b"")
    db = sqlite3.connect(path)
    db.execute("SELECT count(*) FROM sqlite_schema")
    db.close()
    assert not path.with_name(f"{NAME}-wal").exists()

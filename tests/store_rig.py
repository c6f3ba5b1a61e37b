"""A store on a real file whose threads can be held up, for tests of what it does meanwhile."""

import threading
from collections.abc import Callable
from pathlib import Path

from gateway.clock import FakeClock
from gateway.errors import StoreError
from gateway.store.sqlite_store import SqliteStore
from gateway.store.sqlite_thread import Write


class Rig:
    """A store whose threads can be held up, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.failures: list[StoreError] = []
        self.clock = FakeClock()
        self.store = SqliteStore(directory, self.clock, self.failures.append)

    def hold_tables(self) -> Callable[[], None]:
        """Let the thread that has the tables wait until the function returned is called."""
        released = threading.Event()
        holding = self.store._read(lambda _: released.wait(30))
        holding.add_done_callback(lambda future: future.exception())
        return released.set

    def hold(self) -> Callable[[], None]:
        """Let commits wait too: for something that is held until it is in the tables. It is a commit of its own."""
        release = self.hold_tables()
        held = Write([])
        held.touches_parked = True
        self.store._thread.put(held)
        return release

    def break_check_ins(self) -> None:
        """From now on nothing comes into the tables."""
        self.store._file._db.execute("PRAGMA query_only=1")


def copy_of_store(directory: Path) -> Path:
    """A directory with the files as they are now."""
    copy = directory / "copy"
    copy.mkdir()
    for entry in directory.glob("gateway.sqlite3*"):
        (copy / entry.name).write_bytes(entry.read_bytes())
    return copy

"""The writer of the redo log: frames as the log reads them, in order, told once, and nothing told that is not written."""

import errno
import os
import select
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway._fast.log_writer import CALLED, HELD, IDLE, MUCH, NO_ROOM, LogWriter

FIRST, LIMIT = 64, 4096
SEED = zlib.crc32(b"secret")
HEAD = struct.Struct("<4sIQQI")
LATER_NS = 60_000_000_000
BATCH = 8
Serve = Callable[[], int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def writer(path: Path) -> Iterator[LogWriter]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    yield LogWriter(handle, b"magi", SEED, FIRST, LIMIT, os.RWF_DSYNC)
    os.close(handle)


def serve(writer: LogWriter, *, much: int = LIMIT, idle_ns: int = LATER_NS) -> int:
    return writer.serve(0, BATCH, BATCH, much, idle_ns)


def frames(path: Path, at: int = FIRST) -> list[tuple[int, int, list[bytes]]]:
    """Number, time and entries of the frames from `at` on, read with zlib and struct."""
    content, found = path.read_bytes(), []
    while at + HEAD.size <= len(content):
        magic, length, number, at_ms, checksum = HEAD.unpack_from(content, at)
        fields, at = content[at : at + HEAD.size - 4], at + HEAD.size
        payload, at = content[at : at + length], at + length
        assert (magic, checksum) == (b"magi", zlib.crc32(payload, zlib.crc32(fields, SEED)))
        entries, begin = [], 0
        while begin < length:
            (size,) = struct.unpack_from("<I", payload, begin)
            entries.append(payload[begin + 4 : begin + 4 + size])
            begin += 4 + size
        found.append((number, at_ms, entries))
    return found


def is_readable(writer: LogWriter) -> bool:
    return bool(select.select([writer], [], [], 0)[0])


@given(entries=st.lists(st.binary(max_size=200), min_size=1, max_size=9), number=st.integers(0, 2**62))
@hypothesis_settings(deadline=None)
def test_a_frame_is_what_zlib_and_struct_say(entries: list[bytes], number: int) -> None:
    handle = os.memfd_create("log")
    try:
        made = LogWriter(handle, b"magi", SEED, FIRST, LIMIT, 0)
        made.go_on(number, FIRST)
        assert made.append(entries, 77)
        assert frames(Path(f"/proc/self/fd/{handle}")) == [(number + 1, 77, entries)]
        assert (made.number, made.last_ms, made.entries()) == (number + 1, 77, entries)
        assert made.used_bytes == os.fstat(handle).st_size - FIRST
    finally:
        os.close(handle)


def test_what_is_submitted_is_written_before_the_call_ends_and_told_once(
    writer: LogWriter, path: Path
) -> None:
    for at in range(3):
        writer.submit(b"%d" % at, 1, at, holds=False)
    assert not is_readable(writer)
    writer.call()
    assert serve(writer) == CALLED
    assert frames(path) == [(1, 2, [b"0", b"1", b"2"])]
    assert (writer.take_call(), writer.take_call()) == (True, False)
    assert is_readable(writer)
    assert (writer.take_told(), writer.take_told(), writer.commits) == (3, 0, 1)
    assert not is_readable(writer)


def test_each_call_is_taken_once_however_many_came(writer: LogWriter) -> None:
    writer.call()
    writer.call()
    assert serve(writer) == CALLED
    assert [writer.take_call() for _ in range(3)] == [True, True, False]


def test_a_call_waits_for_what_came_before_it_and_for_nothing_later(writer: LogWriter) -> None:
    """However many submit and call on and on."""
    for _ in range(3):
        writer.submit(b"a", BATCH, 0, holds=False)
        writer.call()
    assert serve(writer) == CALLED
    assert (writer.take_call(), writer.take_call(), writer.commits) == (True, False, 1)
    writer.submit(b"a", BATCH, 0, holds=False)
    assert serve(writer) == CALLED
    assert (writer.take_call(), writer.take_call(), writer.take_call(), writer.commits) == (
        True,
        True,
        False,
        3,
    )


def test_a_batch_is_bounded_by_changes_and_has_one_entry_at_least(writer: LogWriter, path: Path) -> None:
    for changes in (BATCH + 5, 3, 5, 1):
        writer.submit(b"%d" % changes, changes, 0, holds=False)
    writer.call()
    assert serve(writer) == CALLED
    assert [entries for _, _, entries in frames(path)] == [[b"13"], [b"3", b"5"], [b"1"]]
    assert (writer.take_told(), writer.commits) == (4, 3)


def test_what_is_held_is_told_by_whoever_holds_it(writer: LogWriter) -> None:
    writer.submit(b"a", 1, 0, holds=False)
    writer.submit(b"b", 1, 0, holds=True)
    assert serve(writer) == HELD
    assert writer.take_told() == 0
    assert writer.entries() == [b"a", b"b"]
    writer.tell()
    assert writer.take_told() == 2


def test_much_in_the_log_is_told_and_ends_it(writer: LogWriter) -> None:
    writer.submit(bytes(100), 1, 0, holds=False)
    assert serve(writer, much=100) == MUCH
    assert writer.take_told() == 1
    writer.begin_anew()
    assert (writer.used_bytes, writer.entries(), writer.last_ms) == (0, [], 0)


def test_a_log_with_something_in_it_ends_it_when_nothing_comes(writer: LogWriter) -> None:
    writer.append([b"a"], 1)
    assert serve(writer, idle_ns=0) == IDLE
    assert writer.entries() == [b"a"]


def test_where_there_is_no_room_nothing_is_written_and_all_goes_on_after(
    writer: LogWriter, path: Path
) -> None:
    writer.append([b"a"], 1)
    writer.submit(bytes(LIMIT - FIRST - HEAD.size - 4), 1, 2, holds=False)
    before = path.read_bytes()
    assert serve(writer) == NO_ROOM
    assert path.read_bytes() == before
    assert writer.take_told() == 0
    writer.begin_anew()
    writer.call()
    assert serve(writer) == CALLED
    assert (writer.take_told(), writer.number, path.stat().st_size) == (1, 2, LIMIT)


def test_a_batch_larger_than_the_log_is_taken_out(writer: LogWriter, path: Path) -> None:
    large = bytes(LIMIT)
    writer.submit(large, 1, 5, holds=False)
    writer.submit(b"next", BATCH, 6, holds=False)
    assert serve(writer) == NO_ROOM
    assert writer.take_batch() == ([large], 5)
    writer.tell()
    writer.call()
    assert serve(writer) == CALLED
    assert frames(path) == [(1, 6, [b"next"])]
    assert (writer.take_told(), writer.commits) == (2, 2)


def test_a_failed_write_is_raised_and_told_to_nobody(tmp_path: Path) -> None:
    handle = os.open(os.devnull, os.O_RDONLY)
    made = LogWriter(handle, b"magi", SEED, FIRST, LIMIT, 0)
    made.submit(b"a", 1, 0, holds=False)
    with pytest.raises(OSError, match="Bad file") as error:
        serve(made)
    assert error.value.errno == errno.EBADF
    other = LogWriter(handle, b"magi", SEED, FIRST, LIMIT, 0)
    with pytest.raises(OSError, match="Bad file"):
        other.append([b"a"], 0)
    for failed in (made, other):
        assert (failed.take_told(), failed.entries(), failed.number, failed.commits) == (0, [], 0, 0)
    os.close(handle)


def test_a_crowd_ends_the_pause_after_a_small_commit(writer: LogWriter) -> None:
    """A pause of an hour, which nobody could wait for."""
    pause_ns = 3_600 * 10**9

    def work() -> None:
        while not writer.take_call():
            writer.serve(pause_ns, 3, BATCH, LIMIT, LATER_NS)

    thread = threading.Thread(target=work)
    thread.start()
    writer.submit(b"alone", 1, 0, holds=False)
    assert select.select([writer], [], [], 30)[0]
    assert writer.take_told() == 1
    for changes in (1, 2):
        assert not is_readable(writer)
        writer.submit(b"together", changes, 0, holds=False)
    assert select.select([writer], [], [], 30)[0]
    assert (writer.take_told(), writer.commits) == (2, 2)
    writer.call()
    thread.join()


def test_two_threads_lose_nothing_and_keep_the_order(writer: LogWriter, path: Path) -> None:
    """One submits and counts what it is told; the other serves, and begins anew when there is much."""
    stored: list[bytes] = []

    def work() -> None:
        while not writer.take_call():
            if serve(writer, much=1_000) in {MUCH, NO_ROOM}:
                stored.extend(writer.entries())
                writer.begin_anew()
        stored.extend(writer.entries())

    thread = threading.Thread(target=work)
    thread.start()
    told = 0
    for at in range(20_000):
        writer.submit(b"%d" % at, 1 + at % 3, at, holds=False)
        told += writer.take_told()
        assert told <= at + 1
    writer.call()
    thread.join()
    assert stored == [b"%d" % at for at in range(20_000)]
    assert told + writer.take_told() == 20_000


def test_a_writer_that_could_not_be_made_closes_nothing() -> None:
    os.fstat(0)
    with pytest.raises(AssertionError):
        LogWriter(0, b"too long", SEED, FIRST, LIMIT, 0)
    os.fstat(0)


def test_a_writer_that_is_closed_lets_go_of_its_descriptor_once(writer: LogWriter) -> None:
    told = writer.fileno()
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(told)


def test_a_writer_that_is_dropped_lets_go_of_everything(path: Path) -> None:
    entry = b"an entry"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    made = LogWriter(handle, b"magi", SEED, FIRST, LIMIT, 0)
    told = made.fileno()
    made.append([entry], 0)
    made.submit(entry, 1, 0, holds=False)
    del made
    os.close(handle)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(told)

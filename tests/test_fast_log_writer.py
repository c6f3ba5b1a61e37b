"""The writer of the redo log: frames as the log reads them, in order, told once, and nothing told that is not written."""

import contextlib
import errno
import os
import select
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway._fast.log_writer import CALLED, HELD, IDLE, MUCH, NO_ROOM, LogWriter

FIRST, SEGMENT = 64, 4032
SEED = zlib.crc32(b"secret")
HEAD = struct.Struct("<4sIQQI")
LATER_NS = 60_000_000_000
PAUSE_NS = 3_600 * 10**9
"""A pause of an hour, which nobody could wait for."""
BATCH = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def writer(path: Path) -> Iterator[LogWriter]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    yield LogWriter(handle, b"magi", SEED, FIRST, SEGMENT, os.RWF_DSYNC)
    os.close(handle)


@contextlib.contextmanager
def served(
    writer: LogWriter,
    *,
    spacing_ns: int = 0,
    crowd: int = BATCH,
    much: int = 2 * SEGMENT,
    idle_ns: int = LATER_NS,
) -> Iterator[None]:
    """A thread that writes."""
    thread = threading.Thread(target=writer.serve, args=(spacing_ns, crowd, BATCH, much, idle_ns))
    thread.start()
    try:
        yield
    finally:
        writer.stop()
        thread.join()


def frames(path: Path, at: int = FIRST, count_max: int = 1 << 30) -> list[tuple[int, int, list[bytes]]]:
    """Number, time and entries of the frames from `at` on, read with zlib and struct."""
    content = path.read_bytes()
    found: list[tuple[int, int, list[bytes]]] = []
    while at + HEAD.size <= len(content) and len(found) < count_max:
        magic, length, number, at_ms, checksum = HEAD.unpack_from(content, at)
        if not length:
            break
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
        made = LogWriter(handle, b"magi", SEED, FIRST, SEGMENT, 0)
        made.go_on(number)
        assert made.append(entries, 77)
        assert frames(Path(f"/proc/self/fd/{handle}")) == [(number + 1, 77, entries)]
        assert made.used_bytes == os.fstat(handle).st_size - FIRST
        assert (made.number, made.seal(), made.sealed_ms) == (number + 1, entries, 77)
    finally:
        os.close(handle)


def test_what_is_submitted_is_written_before_the_call_ends_and_told_once(
    writer: LogWriter, path: Path
) -> None:
    for at in range(3):
        writer.submit(b"%d" % at, 1, at, holds=False)
    assert not is_readable(writer)
    writer.call()
    with served(writer):
        assert writer.wait() == CALLED
    assert frames(path) == [(1, 2, [b"0", b"1", b"2"])]
    assert (writer.take_call(), writer.take_call()) == (True, False)
    assert is_readable(writer)
    assert (writer.take_told(), writer.take_told(), writer.commits) == (3, 0, 1)
    assert writer.writes.count == 1
    assert writer.writes.max_ns > 0
    assert not is_readable(writer)


def test_each_call_is_taken_once_however_many_came(writer: LogWriter) -> None:
    writer.call()
    writer.call()
    assert writer.wait() == CALLED
    assert [writer.take_call() for _ in range(3)] == [True, True, False]


def test_a_call_waits_for_what_came_before_it_and_for_nothing_later(writer: LogWriter) -> None:
    """However many submit and call on and on: each is answered for what is held until then."""
    for _ in range(3):
        writer.submit(b"a", BATCH, 0, holds=True)
        writer.call()
    with served(writer):
        assert writer.wait() == HELD
        writer.tell()
        assert writer.wait() == CALLED
        assert (writer.take_call(), writer.take_call()) == (True, False)
        writer.submit(b"a", BATCH, 0, holds=False)
        assert writer.wait() == HELD
        writer.tell()
        assert writer.wait() == HELD
        writer.tell()
        assert writer.wait() == CALLED
    assert [writer.take_call() for _ in range(3)] == [True, True, False]


def test_a_call_after_all_is_stored_is_answered(writer: LogWriter) -> None:
    with served(writer):
        for _ in range(100):
            writer.submit(b"a", 1, 0, holds=False)
            writer.call()
            assert writer.wait() == CALLED
            assert writer.take_call()
            writer.call()
            assert writer.wait() == CALLED
            assert writer.take_call()
    assert writer.take_told() == 100


def test_a_batch_is_bounded_by_changes_and_has_one_entry_at_least(writer: LogWriter, path: Path) -> None:
    for changes in (BATCH + 5, 3, 5, 1):
        writer.submit(b"%d" % changes, changes, 0, holds=False)
    writer.call()
    with served(writer):
        assert writer.wait() == CALLED
    assert [entries for _, _, entries in frames(path)] == [[b"13"], [b"3", b"5"], [b"1"]]
    assert (writer.take_told(), writer.commits) == (4, 3)


def test_what_is_held_is_told_by_whoever_has_the_tables_and_nothing_is_stored_before(
    writer: LogWriter,
) -> None:
    writer.submit(b"a", 1, 0, holds=False)
    writer.submit(b"b", 1, 0, holds=True)
    with served(writer):
        assert writer.wait() == HELD
        writer.submit(b"c", 1, 0, holds=False)
        writer.call()
        assert writer.wait() == HELD
        assert (writer.take_told(), writer.commits) == (0, 1)
        assert writer.seal() == [b"a", b"b"]
        writer.release()
        writer.tell()
        assert writer.wait() == CALLED
    assert (writer.take_told(), writer.commits) == (3, 2)
    assert writer.seal() == [b"c"]


def test_much_in_the_log_is_told(writer: LogWriter) -> None:
    with served(writer, much=100):
        writer.submit(bytes(100), 1, 7, holds=False)
        assert writer.wait() == MUCH
        assert (writer.seal(), writer.sealed_ms, writer.sealed_number) == ([bytes(100)], 7, 1)
        assert writer.used_bytes > 100
        writer.release()
    assert (writer.used_bytes, writer.seal(), writer.sealed_ms, writer.sealed_number) == (0, [], 0, 1)


def test_a_log_with_something_in_it_tells_when_nothing_comes(writer: LogWriter) -> None:
    with served(writer, idle_ns=0):
        writer.submit(b"a", 1, 0, holds=False)
        assert writer.wait() == IDLE
        assert writer.seal() == [b"a"]


def test_what_is_sealed_stays_and_what_comes_goes_into_the_other_segment(
    writer: LogWriter, path: Path
) -> None:
    with served(writer):
        for name in (b"a", b"b"):
            writer.submit(name, 1, 0, holds=False)
            writer.call()
            assert writer.wait() == CALLED
            assert writer.seal() == [b"a"]
    assert frames(path)[0] == (1, 0, [b"a"])
    assert frames(path, FIRST + SEGMENT) == [(2, 0, [b"b"])]
    writer.release()
    assert (writer.seal(), writer.sealed_number) == ([b"b"], 2)


def test_where_there_is_no_room_nothing_is_written_and_all_goes_on_when_there_is(
    writer: LogWriter, path: Path
) -> None:
    full = bytes(SEGMENT - HEAD.size - 4)
    with served(writer):
        for _ in range(2):
            writer.submit(full, BATCH, 1, holds=False)
        assert writer.wait() == NO_ROOM
        assert path.stat().st_size == FIRST + SEGMENT
        assert writer.take_told() == 1
        assert writer.seal() == [full]
        # There is room in the other one.
        writer.call()
        assert writer.wait() == CALLED
        writer.submit(full, 1, 1, holds=False)
        assert writer.wait() == NO_ROOM
        writer.release()
        assert writer.seal() == [full]
        writer.call()
        assert writer.wait() == CALLED
    assert (writer.take_told(), writer.number, path.stat().st_size) == (2, 3, FIRST + 2 * SEGMENT)


def test_a_batch_larger_than_a_segment_is_taken_out(writer: LogWriter, path: Path) -> None:
    large = bytes(SEGMENT)
    writer.submit(large, 1, 5, holds=False)
    writer.submit(b"next", BATCH, 6, holds=False)
    writer.call()
    with served(writer):
        assert writer.wait() == NO_ROOM
        assert writer.take_batch() == ([large], 5)
        writer.tell()
        assert writer.wait() == CALLED
    assert frames(path) == [(1, 6, [b"next"])]
    assert (writer.take_told(), writer.commits) == (2, 2)


def test_a_failed_write_is_raised_and_told_to_nobody() -> None:
    handle = os.open(os.devnull, os.O_RDONLY)
    made = LogWriter(handle, b"magi", SEED, FIRST, SEGMENT, 0)
    made.submit(b"a", 1, 0, holds=False)
    made.call()
    with served(made):
        for ask in (made.wait, made.seal):
            with pytest.raises(OSError, match="Bad file") as error:
                ask()
            assert error.value.errno == errno.EBADF
    other = LogWriter(handle, b"magi", SEED, FIRST, SEGMENT, 0)
    with pytest.raises(OSError, match="Bad file"):
        other.append([b"a"], 0)
    assert other.seal() == []
    for failed in (made, other):
        assert (failed.take_told(), failed.number, failed.commits) == (0, 0, 0)
    os.close(handle)


def test_after_it_was_stopped_nothing_is_told(writer: LogWriter) -> None:
    writer.submit(b"a", 1, 0, holds=True)
    with served(writer):
        assert writer.wait() == HELD
        writer.stop()
        writer.tell()
    assert writer.take_told() == 0


def test_a_crowd_ends_the_pause_after_a_small_commit(writer: LogWriter) -> None:
    with served(writer, spacing_ns=PAUSE_NS, crowd=3):
        writer.submit(b"alone", 1, 0, holds=False)
        assert select.select([writer], [], [], 30)[0]
        assert writer.take_told() == 1
        for changes in (1, 2):
            assert not is_readable(writer)
            writer.submit(b"together", changes, 0, holds=False)
        assert select.select([writer], [], [], 30)[0]
        assert (writer.take_told(), writer.commits) == (2, 2)
        writer.submit(b"in the pause, when it is stopped", 1, 0, holds=False)


def test_three_threads_lose_nothing_and_keep_the_order(writer: LogWriter, path: Path) -> None:
    """One submits and counts what it is told, one writes, one seals and releases; it is called and called again.

    What is sealed is in its segment, from the beginning, without a hole and up to the number that is told.
    """
    stored: list[bytes] = []
    answers = sealed_number = segment = 0

    def take_sealed() -> None:
        nonlocal sealed_number, segment
        entries, before, sealed_number = writer.seal(), sealed_number, writer.sealed_number
        if entries:
            found = frames(path, FIRST + segment * SEGMENT, sealed_number - before)
            assert [number for number, _, _ in found] == list(range(before + 1, sealed_number + 1))
            assert [entry for _, _, of_frame in found for entry in of_frame] == entries
            segment = 1 - segment
        stored.extend(entries)
        writer.release()

    def have_the_tables() -> None:
        nonlocal answers
        while answers < 200:
            reason = writer.wait()
            while writer.take_call():
                answers += 1
            if reason == NO_ROOM and not writer.used_bytes:
                stored.extend(writer.take_batch()[0])
                writer.tell()
                continue
            take_sealed()
            if reason == HELD:
                writer.tell()

    def have_the_tables_or_stop() -> None:
        try:
            have_the_tables()
        finally:
            writer.stop()

    thread = threading.Thread(target=have_the_tables_or_stop)
    thread.start()
    entries = [b"%d" % at + bytes(SEGMENT if at % 997 == 0 else at % 100) for at in range(20_000)]
    told = 0
    with served(writer, much=1_000, idle_ns=1_000):
        for at, entry in enumerate(entries, 1):
            writer.submit(entry, 1 + at % 3, at, holds=at % 501 == 0)
            if at % 100 == 0:
                writer.call()
            told += writer.take_told()
            assert told <= at
        thread.join()
    take_sealed()
    assert stored == entries
    assert told + writer.take_told() == 20_000


def test_a_writer_that_could_not_be_made_closes_nothing() -> None:
    os.fstat(0)
    with pytest.raises(AssertionError):
        LogWriter(0, b"too long", SEED, FIRST, SEGMENT, 0)
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
    made = LogWriter(handle, b"magi", SEED, FIRST, SEGMENT, 0)
    told = made.fileno()
    made.append([entry], 0)
    made.submit(entry, 1, 0, holds=False)
    del made
    os.close(handle)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(told)

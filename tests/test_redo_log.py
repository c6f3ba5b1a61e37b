"""The redo log: what was committed is read back whatever a crash leaves of the last frame, and damage is not taken for one."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import WALL_MS, inbound, send, settled
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.errors import StoreCorruptError
from gateway.events import InboundClass, InboundRecord
from gateway.store import redo_log, reserve, room
from gateway.store.change_codec import encode, merge
from gateway.store.protocol import Change, Sync
from gateway.store.redo_log import FIRST, RedoLog
from gateway.store.sqlite_file import SqliteFile

SECRET = b"s" * 16
SECTOR = 512
SEGMENT = 3 * SECTOR
SMALL = FIRST + 2 * SEGMENT
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Nothing here depends on a disk, and thousands of logs would wait for it."""


@pytest.fixture(scope="module", autouse=True)
def small_log() -> Iterator[None]:
    """A log of a few sectors: it is soon full, and each of its bytes can be struck."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redo_log, "SEGMENT_BYTES", SEGMENT)
        yield


@pytest.fixture
def store_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory) / "store"


def opened(path: Path, applied: int = 0, *, syncs: bool = True, secret: bytes = SECRET) -> RedoLog:
    return RedoLog(path, "0123abcd", secret, applied, syncs=syncs)


def content_of(path: Path) -> bytearray:
    return bytearray(Path(f"{path}-redo").read_bytes())


def write_content(path: Path, content: bytes | bytearray) -> None:
    Path(f"{path}-redo").write_bytes(content)


def recovered(path: Path, applied: int = 0) -> tuple[list[bytes], int, int]:
    """The entries found, when the last was committed, and the number of the last frame."""
    log = opened(path, applied)
    entries, at_ms = log.recover()
    log.close()
    return entries, at_ms, log.number


# -- one frame


def test_a_new_log_is_empty_and_allocated(store_path: Path) -> None:
    log = opened(store_path)
    assert log.recover() == ([], 0)
    assert (log.number, log.used_bytes, log.path.stat().st_size) == (0, 0, SMALL)
    assert log.path.stat().st_mode & 0o077 == 0
    log.close()
    log.close()


def test_what_was_appended_is_found_in_order(store_path: Path) -> None:
    log = opened(store_path)
    assert log.try_append([b"a", b"", b"bc"], WALL_MS)
    assert log.try_append([b"\xf7rds" * 3], WALL_MS + 1)
    log.close()
    assert recovered(store_path) == ([b"a", b"", b"bc", b"\xf7rds" * 3], WALL_MS + 1, 2)


def test_what_does_not_fit_changes_nothing(store_path: Path) -> None:
    log = opened(store_path)
    assert log.try_append([b"a"], WALL_MS)
    used, before = log.used_bytes, content_of(store_path)
    largest = SEGMENT - 2 * used + 1
    assert not log.try_append([bytes(largest + 1)], WALL_MS)
    assert (log.number, log.used_bytes, content_of(store_path)) == (1, used, before)
    assert log.try_append([bytes(largest)], WALL_MS)
    assert (log.used_bytes, len(content_of(store_path))) == (SEGMENT, SMALL)
    log.close()


def test_frames_that_are_in_the_tables_are_not_found_again(store_path: Path) -> None:
    """A stop between the commit of a check-in and the first frame after it."""
    log = opened(store_path)
    for number in range(3):
        log.try_append([bytes([number])], WALL_MS)
    log.close()
    assert recovered(store_path, applied=3) == ([], 0, 3)


# -- the last frame torn, at any byte


def _filled_and_released(log: RedoLog, data: st.DataObject) -> None:
    """An earlier round, all of which is in the tables."""
    for _ in range(data.draw(st.integers(0, 3))):
        while log.try_append([bytes(data.draw(st.integers(0, 200)))], WALL_MS):
            pass
        log.seal()
        log.release()


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8), data=st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_whatever_is_on_disk_of_the_last_frame_the_others_are_found(
    sizes: list[int], data: st.DataObject
) -> None:
    """Any prefix of it, or any of its sectors, over zeros or over earlier frames; some in a sealed segment or none."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "store"
        log = opened(path)
        _filled_and_released(log, data)
        applied = log.number
        kept: list[bytes] = []
        before = content_of(path)
        for at, size in enumerate(sizes):
            before = content_of(path)
            entry = data.draw(st.binary(min_size=size, max_size=size))
            if data.draw(st.booleans()):
                assert log.seal().entries == kept[: len(log.seal().entries)]
            if not log.try_append([entry], WALL_MS + at):
                break
            kept.append(entry)
        log.close()
        torn, after = bytearray(before), content_of(path)
        changed = [at for at in range(SMALL) if before[at] != after[at]] or [SMALL - 1]
        begin, last = changed[0], changed[-1] + 1
        if data.draw(st.booleans()):
            cut = data.draw(st.integers(begin, last))
            torn[begin:cut] = after[begin:cut]
        else:
            for sector in range(begin // SECTOR, (last - 1) // SECTOR + 1):
                if data.draw(st.booleans()):
                    torn[sector * SECTOR : (sector + 1) * SECTOR] = after[
                        sector * SECTOR : (sector + 1) * SECTOR
                    ]
        write_content(path, torn)
        expected = kept if torn == after else kept[:-1]
        entries, _, number = recovered(path, applied)
        assert (entries, number) == (expected, applied + len(expected))
        assert recovered(path, applied)[0] == expected, "a second start finds the same"
        log = opened(path, number)  # checked in
        assert log.recover() == ([], 0)
        assert log.try_append([b"new"], WALL_MS)
        log.close()
        assert recovered(path, number)[0] == [b"new"]


def test_frames_are_found_in_whichever_segment_they_begin(store_path: Path) -> None:
    log = opened(store_path)
    for at in range(4):
        log.try_append([b"first %d" % at], WALL_MS)
        assert log.seal() == ([b"first %d" % at], 2 * at + 1, WALL_MS)
        log.try_append([b"then %d" % at], WALL_MS + 1)
        assert recovered(store_path, 2 * at) == ([b"first %d" % at, b"then %d" % at], WALL_MS + 1, 2 * at + 2)
        log.release()
        assert recovered(store_path, 2 * at + 1) == ([b"then %d" % at], WALL_MS + 1, 2 * at + 2)
        log.seal()
        log.release()
    log.close()


def test_frames_that_begin_in_the_second_segment_go_on_in_the_first(store_path: Path) -> None:
    log = opened(store_path)
    log.try_append([b"in the tables"], WALL_MS)
    log.seal()
    log.release()
    log.try_append([b"second"], WALL_MS)
    log.seal()
    log.try_append([b"first"], WALL_MS)
    log.close()
    assert recovered(store_path, 1) == ([b"second", b"first"], WALL_MS, 3)


def test_a_sealed_segment_stays_until_it_is_released(store_path: Path) -> None:
    log = opened(store_path)
    log.try_append([b"a"], WALL_MS)
    sealed = log.seal()
    log.try_append([b"b"], WALL_MS)
    assert log.seal() == sealed == ([b"a"], 1, WALL_MS)
    log.release()
    assert log.seal() == ([b"b"], 2, WALL_MS)
    log.release()
    assert (log.seal(), log.used_bytes) == (([], 2, 0), 0)
    log.close()


def test_a_log_of_the_first_version_is_read_and_goes_on_as_one_of_this(store_path: Path) -> None:
    """It has one segment, and ends with it."""
    _filled(store_path)
    content = content_of(store_path)
    assert content[:8] == b"wa-redo2"
    content[:8] = b"wa-redo1"
    write_content(store_path, content[: FIRST + SEGMENT])
    entries, at_ms, number = recovered(store_path)
    assert (entries, at_ms, number) == ([bytes([at]) * 40 for at in range(3)], WALL_MS, 3)
    assert content_of(store_path)[:8] == b"wa-redo2"
    assert len(content_of(store_path)) == SMALL


# -- damage


def _filled(path: Path) -> list[tuple[int, int]]:
    """A log of three frames; where each begins and ends."""
    log = opened(path)
    places = []
    for number in range(3):
        begin = FIRST + log.used_bytes
        log.try_append([bytes([number]) * 40], WALL_MS)
        places.append((begin, FIRST + log.used_bytes))
    log.close()
    return places


def _damage_each_byte(path: Path, begin: int, end: int) -> Iterator[None]:
    """One byte after the other is another one."""
    whole = content_of(path)
    for at in range(begin, end):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        write_content(path, damaged)
        yield


def _require_told(path: Path, frame: int) -> None:
    log = opened(path)
    with pytest.raises(StoreCorruptError, match=rf"is damaged: frame {frame} is not whole"):
        log.recover()
    log.close()


@pytest.mark.parametrize("frame", [0, 1])
def test_damage_before_a_whole_frame_is_told(store_path: Path, frame: int) -> None:
    """At each byte of it."""
    for _ in _damage_each_byte(store_path, *_filled(store_path)[frame]):
        _require_told(store_path, frame + 1)


def test_damage_to_the_end_of_a_sealed_segment_is_told(store_path: Path) -> None:
    """Its last frame is not the last one."""
    log = opened(store_path)
    log.try_append([b"a" * 40], WALL_MS)
    end = FIRST + log.used_bytes
    log.seal()
    log.try_append([b"b"], WALL_MS)
    log.close()
    for _ in _damage_each_byte(store_path, FIRST, end):
        _require_told(store_path, 1)


def test_damage_to_the_last_frame_is_a_torn_one(store_path: Path) -> None:
    for _ in _damage_each_byte(store_path, *_filled(store_path)[2]):
        assert recovered(store_path) == ([b"\0" * 40, b"\1" * 40], WALL_MS, 2)


def test_a_body_with_a_frame_in_it_is_no_frame(store_path: Path, tmp_path: Path) -> None:
    """One that was made by someone who knows the format, and not the secret."""
    forged = RedoLog(tmp_path / "forged", "0123abcd", b"guessed", 1_000)
    forged.try_append([b"x"], WALL_MS)
    frame = bytes(content_of(tmp_path / "forged")[FIRST : FIRST + forged.used_bytes])
    forged.close()
    log = opened(store_path)
    log.try_append([b"a"], WALL_MS)
    torn = FIRST + log.used_bytes
    log.try_append([frame], WALL_MS)
    log.close()
    content = content_of(store_path)
    content[torn] ^= 1
    write_content(store_path, content)
    assert recovered(store_path)[0] == [b"a"]


@pytest.mark.parametrize("change", ["another id", "no header"])
def test_the_log_of_another_store_is_never_written_over(store_path: Path, change: str) -> None:
    _filled(store_path)
    if change == "no header":
        content = content_of(store_path)
        content[:FIRST] = bytes(FIRST)
        write_content(store_path, content)
    before = content_of(store_path)
    with pytest.raises(StoreCorruptError, match="is not the log of this store"):
        RedoLog(store_path, "ffffffff" if change == "another id" else "0123abcd", SECRET, 0)
    assert content_of(store_path) == before


def test_an_older_store_beside_a_newer_log_is_told(store_path: Path) -> None:
    """Tables of a backup, which lack what was checked in since."""
    log = opened(store_path, applied=7)
    log.try_append([b"a"], WALL_MS)
    log.close()
    log = opened(store_path, applied=5)
    with pytest.raises(StoreCorruptError, match="frame 6 is not whole"):
        log.recover()
    log.close()


def test_a_header_that_was_not_written_to_the_end_is_written_anew(store_path: Path) -> None:
    opened(store_path).close()
    header = bytes(content_of(store_path)[:16])
    for length in range(17):
        write_content(store_path, header[:length] + bytes(SMALL - length))
        opened(store_path).close()
        assert content_of(store_path)[:16] == header
        write_content(store_path, header[:length])
        opened(store_path).close()
        assert content_of(store_path)[:16] == header


def test_a_log_that_is_gone_is_told_and_made_anew(store_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened(store_path).close()
        assert caplog.messages == []
        Path(f"{store_path}-redo").unlink()
        log = opened(store_path, applied=3)
    assert "had no log" in caplog.text
    log.try_append([b"a"], WALL_MS)
    log.close()
    assert recovered(store_path, 3) == ([b"a"], WALL_MS, 4)


# -- left to the kernel


def test_without_syncs_a_hole_is_no_damage_and_no_number_is_given_again(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut after which frame 2 is not on disk and 3 is. The new frame 2 would end where the old 3 begins."""
    log = opened(store_path, syncs=False)
    places = []
    for number in range(3):
        places.append(FIRST + log.used_bytes)
        log.try_append([bytes([number]) * 40], WALL_MS)
    log.close()
    content = content_of(store_path)
    content[places[1]] ^= 1
    write_content(store_path, content)
    log = opened(store_path)
    with caplog.at_level(logging.WARNING):
        assert log.recover() == ([b"\0" * 40], WALL_MS)
    assert "were not on disk" in caplog.text
    assert log.number == 3
    log.try_append([b"\4" * 40], WALL_MS)
    log.close()
    assert recovered(store_path, applied=3) == ([b"\4" * 40], WALL_MS, 4)


def test_a_store_left_to_the_kernel_goes_on_with_full_syncs(tmp_path: Path) -> None:
    for seq, sync in enumerate([Sync.OS, Sync.FULL, Sync.OS, Sync.FULL], 1):
        file = SqliteFile(tmp_path, sync)
        assert file.recover(WALL_MS).inbound_counts[InboundClass.MESSAGE] == seq - 1
        file.log([encode(merge([Change(inbound=[inbound(seq)])]))], WALL_MS)
        crash(file, tmp_path)


# -- the log and the tables together


def crash(file: SqliteFile, directory: Path) -> None:
    """Leave of an open store what a killed process leaves."""
    copy = directory.with_name(f"{directory.name}.copy")
    shutil.copytree(directory, copy)
    file._has_failed = True
    file.close()
    shutil.rmtree(directory)
    copy.rename(directory)


@given(data=st.data())
@hypothesis_settings(max_examples=25, deadline=None)
def test_every_commit_is_there_after_any_number_of_crashes(data: st.DataObject) -> None:
    """Beside a plain list: commits, check-ins, entries larger than the log, stops and kills, in any order."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        directory = Path(place) / "store"
        file, next_seq = SqliteFile(directory), 1
        waiting: list[InboundRecord] = []
        for _ in range(data.draw(st.integers(1, 25))):
            action = data.draw(
                st.sampled_from(["commit", "commit", "commit", "seal", "check in", "stop", "kill"])
            )
            if action == "commit":
                new = [
                    inbound(next_seq + at, body=bytes(data.draw(st.sampled_from([1, 300, 2_000]))))
                    for at in range(data.draw(st.integers(0, 3)))
                ]
                next_seq += len(new)
                done = (
                    data.draw(st.lists(st.sampled_from([*waiting, *new]), unique_by=id))
                    if waiting or new
                    else []
                )
                changes = [Change(inbound=new), Change(inbound_done=done)]
                file.log([encode(merge([change])) for change in changes], WALL_MS)
                waiting = [record for record in [*waiting, *new] if record not in done]
            elif action == "seal":
                file._seal()  # on its way into the tables, while commits go on
            elif action == "check in":
                file.check_in()
            else:
                if action == "kill":
                    crash(file, directory)
                file.close()
                file = SqliteFile(directory)
                found = file.recover(WALL_MS)
                assert found.next_seq == next_seq
                assert file.read_inbound(InboundClass.MESSAGE, 0, 1_000) == waiting
                assert not file.logged_bytes
        file.close()


def test_what_is_larger_than_a_segment_comes_after_all_that_the_log_has(tmp_path: Path) -> None:
    """One commit sealed, one in the open segment."""
    file = SqliteFile(tmp_path)
    file.log([encode(merge([Change(inbound=[inbound(1)])]))], WALL_MS)
    file._seal()
    file.log([encode(merge([Change(inbound=[inbound(2)])]))], WALL_MS)
    file.log([encode(merge([Change(inbound=[inbound(3, body=bytes(2_000))])]))], WALL_MS)
    assert [record.seq for record in file.read_inbound(InboundClass.MESSAGE, 0, 9)] == [1, 2, 3]
    crash(file, tmp_path)
    file = SqliteFile(tmp_path)
    assert [record.seq for record in file.read_inbound(InboundClass.MESSAGE, 0, 9)] == [1, 2, 3]
    file.close()


def test_what_is_committed_while_the_tables_are_written_is_not_taken_for_theirs(tmp_path: Path) -> None:
    """The process is killed when they have what was sealed; the next start brings the rest into them."""
    file = SqliteFile(tmp_path)
    file.log([encode(merge([Change(inbound=[inbound(1)])]))], WALL_MS)
    file._seal()
    file.log([encode(merge([Change(inbound=[inbound(2)])]))], WALL_MS)
    file.check_in()
    assert [record.seq for record in file.read_inbound(InboundClass.MESSAGE, 0, 9)] == [1]
    crash(file, tmp_path)
    file = SqliteFile(tmp_path)
    assert [record.seq for record in file.read_inbound(InboundClass.MESSAGE, 0, 9)] == [1, 2]
    file.close()


def test_what_contradicts_the_tables_sets_the_store_aside(tmp_path: Path) -> None:
    """A defect of ours, such as a number given twice: else each start would fail of it for ever."""
    file = SqliteFile(tmp_path)
    file.apply([Change(inbound=[inbound(1)])], WALL_MS)
    file.log([encode(merge([Change(inbound=[inbound(1)])]))], WALL_MS)
    crash(file, tmp_path)
    with pytest.raises(StoreCorruptError, match=r"contradicts the tables: .*UNIQUE.*was set aside"):
        SqliteFile(tmp_path)
    SqliteFile(tmp_path).close()


def test_a_value_sqlite_can_not_take_sets_the_store_aside(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    file.log([encode(merge([Change(settled=[settled(send(1), settled_ms=2**63)])]))], WALL_MS)
    crash(file, tmp_path)
    with pytest.raises(StoreCorruptError, match=r"contradicts the tables: .*too large.*was set aside"):
        SqliteFile(tmp_path)


def test_an_entry_that_is_none_sets_the_store_aside(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    file.log([b"\xc1"], WALL_MS)
    crash(file, tmp_path)
    with pytest.raises(StoreCorruptError, match=r"none of ours.*was set aside"):
        SqliteFile(tmp_path)


def test_the_reserve_is_given_up_on_a_full_disk_and_made_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "gateway.sqlite3-reserve"
    SqliteFile(tmp_path).close()
    assert kept.stat().st_size == reserve.SIZE_BYTES
    for free_bytes, is_kept in [
        (reserve.SIZE_BYTES, True),
        (reserve.SIZE_BYTES - 1, False),
        (reserve.SIZE_BYTES + room.RESERVE_BYTES + room.LOW_BYTES, False),
        (reserve.SIZE_BYTES + room.RESERVE_BYTES + room.LOW_BYTES + 1, True),
    ]:
        monkeypatch.setattr(reserve, "_free_bytes", lambda _, free_bytes=free_bytes: free_bytes)
        SqliteFile(tmp_path).close()
        assert kept.exists() is is_kept

"""A start costs the same however much waits: the counts are kept, exactly, and nothing that waits is looked through."""

import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from builders import WALL_MS, inbound, parked, send, settled
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from process import GatewayProcess

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord
from gateway.store.protocol import Change, MemoryLimits
from gateway.store.sqlite_file import SqliteFile

FORGET_NOTHING = MemoryLimits(0, 10**9, 0, 10**9)


def kept_counts(db: sqlite3.Connection) -> Counter[tuple[str, int, bytes]]:
    rows = db.execute("SELECT queue, cls, counts, rows FROM waiting").fetchall()
    return Counter({(queue, cls, counts): count for queue, cls, counts, count in rows if count})


def scanned_counts(db: sqlite3.Connection) -> Counter[tuple[str, int, bytes]]:
    """The same by looking at every row."""
    found = Counter(
        ("inbound", key >> 48, counts) for key, counts in db.execute("SELECT key, counts FROM inbound")
    )
    found.update(("send", key >> 48, b"") for (key,) in db.execute("SELECT key FROM send"))
    return found


@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_a_full_scan_whatever_is_done(data: st.DataObject) -> None:
    """Rows that are taken out twice, moved, started, parked and given back included."""
    messages: list[InboundRecord] = []
    sends: list[SendRecord] = []
    seqs = iter(range(1, 100_000))

    def draw_inbound() -> InboundRecord:
        kinds = data.draw(st.lists(st.sampled_from(list(Kind)[:7]), min_size=1, max_size=3))
        return inbound(next(seqs), data.draw(st.sampled_from(InboundClass)), kinds)

    def draw_send() -> SendRecord:
        record = send(next(seqs), data.draw(st.sampled_from(SendClass)))
        return msgspec.structs.replace(record, is_scheduled=data.draw(st.booleans()))

    with tempfile.TemporaryDirectory() as directory:
        file = SqliteFile(Path(directory))
        file._db.execute("PRAGMA synchronous=OFF")
        file.recover(WALL_MS)
        for _ in range(data.draw(st.integers(1, 12))):
            action = data.draw(
                st.sampled_from(["accept", "end", "park", "settle", "move", "start", "unpark", "forget"])
            )
            if action == "accept":
                messages += (new := [draw_inbound() for _ in range(data.draw(st.integers(0, 70)))])
                sends += (pushed := [draw_send() for _ in range(data.draw(st.integers(0, 20)))])
                file.apply([Change(inbound=new[::2], sends=pushed), Change(inbound=new[1::2])], WALL_MS)
            elif action == "end" and messages:
                file.apply([Change(inbound_done=data.draw(st.lists(st.sampled_from(messages))))], WALL_MS)
            elif action == "park" and messages:
                given_up = messages.pop(data.draw(st.integers(0, len(messages) - 1)))
                file.apply([Change(parked=[parked(given_up)])], WALL_MS)
            elif action == "unpark":
                numbers = file._db.execute("SELECT seq FROM parked").fetchall()
                again = draw_inbound()
                messages.append(again)
                file.apply([Change(unparked=[seq for (seq,) in numbers[:1]], inbound=[again])], WALL_MS)
            elif action == "settle" and sends:
                ended = sends.pop(data.draw(st.integers(0, len(sends) - 1)))
                outcome = data.draw(st.sampled_from(Outcome))
                file.apply([Change(settled=[settled(ended, outcome)])], WALL_MS)
            elif action == "move" and sends:
                moved = data.draw(st.sampled_from(sends))
                new_cls = data.draw(st.sampled_from(SendClass))
                if file.reclass_sends([moved.seq], moved.cls, new_cls, is_scheduled=moved.is_scheduled):
                    moved.cls = new_cls
            elif action == "start":
                due = [record for record in sends if record.is_scheduled][:3]
                file.start_sends(due)
                for record in due:
                    record.is_scheduled = False
            elif action == "forget":
                file.forget(FORGET_NOTHING)
                assert not file._db.execute("SELECT * FROM waiting WHERE rows = 0").fetchall()
            assert kept_counts(file._db) == scanned_counts(file._db)
        found = file.recover(WALL_MS)
        assert found.inbound_counts == {
            cls: sum(
                n for (queue, of, _), n in scanned_counts(file._db).items() if (queue, of) == ("inbound", cls)
            )
            for cls in InboundClass
        }
        file.close()


def test_a_start_executes_as_much_with_5000_waiting_as_with_5(tmp_path: Path) -> None:
    def steps_with(count: int) -> int:
        """Instructions of SQLite's machine that reading back takes, in hundreds."""
        file = SqliteFile(tmp_path / str(count))
        waiting = Change(
            inbound=[inbound(seq) for seq in range(1, count + 1)],
            sends=[send(seq) for seq in range(count + 1, 2 * count + 1)],
        )
        file.apply([waiting], WALL_MS)
        file.close()
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        file = SqliteFile(tmp_path / str(count))
        file._db.set_progress_handler(step, 100)
        found = file.recover(WALL_MS, 1000)
        file.close()
        assert found.inbound_counts[InboundClass.MESSAGE] == found.send_counts[SendClass.NORMAL] == count
        return steps

    few, many = steps_with(5), steps_with(5000)
    assert many <= few + 1
    assert few < 50


def fill_with_sends(directory: Path, count: int) -> None:
    """A store with so many sends waiting, made in the store itself: a push for each would take minutes."""
    file = SqliteFile(directory)
    db = file._db
    one = send(1, SendClass.BULK, body=b'{"to":"15550100","type":"text","text":{"body":"%s"}}' % (b"x" * 200))
    file.apply([Change(sends=[one])], WALL_MS)
    columns = [row[1] for row in db.execute("PRAGMA table_info(send)")][1:]
    db.execute("BEGIN")
    db.execute(
        f"INSERT INTO send SELECT s.key + n.value, {','.join('s.' + name for name in columns)} FROM send AS s,"
        " (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < ?) SELECT value FROM c) AS n",
        (count - 1,),
    )
    db.execute("REPLACE INTO meta VALUES ('seq', ?)", (count,))
    db.execute("INSERT INTO book VALUES (?, -1, ?)", (int(Kind.SEND), count))
    db.execute("COMMIT")
    file.close()


def peak_memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (peak_kib,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return peak_kib


@pytest.mark.slow
async def test_a_million_queued_sends_start_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_with_sends(tmp_path / "store", 1_000_000)
    gateway = GatewayProcess(tmp_path, NODE_URL="http://127.0.0.1:1")
    began = time.monotonic()
    async with gateway:
        took_s = time.monotonic() - began
        assert gateway._process is not None
        peak_kib = peak_memory_kib(gateway._process.pid)
        metrics = await gateway.metrics()
        await gateway.terminate()
    with capsys.disabled():
        print(f"\n1,000,000 queued sends: ready in {took_s:.2f} s, peak memory {peak_kib / 1024:.0f} MiB")  # noqa: T201
    assert metrics['gateway_waiting{kind="send"}'] == 1_000_000
    assert metrics["gateway_conservation_difference"] == 0
    assert peak_kib < 150 * 1024

"""What every store must do for sends beside their line: batches, WhatsApp's ids, scheduled ones and idempotency keys."""

from pathlib import Path

import msgspec
import pytest
from builders import WALL_MS, send, settled
from test_store_protocol import KEEP_ALL, Opener, opener

from gateway.events import Outcome, ReceiptMask, SendClass, SendRecord
from gateway.store.protocol import Change, StoredKey
from gateway.store.sqlite_file import SqliteFile

__all__ = ["opener"]
NORMAL, BULK = SendClass.NORMAL, SendClass.BULK


def scheduled(seq: int, at_ms: int, cls: SendClass = NORMAL, batch: str = "") -> SendRecord:
    """A send that waits for a time."""
    return msgspec.structs.replace(send(seq, cls), not_before_ms=at_ms, is_scheduled=True, batch=batch)


def of_batch(record: SendRecord, batch: str = "b1") -> SendRecord:
    return msgspec.structs.replace(record, batch=batch, expires_ms=WALL_MS + 9)


async def test_scheduled_sends_are_in_no_line_until_they_are_started(opener: Opener) -> None:
    store = await opener.open()
    records = [scheduled(1, WALL_MS + 30), scheduled(2, WALL_MS + 10), scheduled(3, WALL_MS + 20, BULK)]
    await store.submit(Change(sends=[*records, send(4)]))
    assert [record.seq for record in await store.read_sends(NORMAL, 0, 9)] == [4]
    found = await store.read_scheduled(NORMAL, 9)
    assert [(record.seq, record.not_before_ms, record.is_scheduled) for record in found] == [
        (2, WALL_MS + 10, True), (1, WALL_MS + 30, True),
    ]  # fmt: skip
    assert [record.seq for record in await store.read_scheduled(NORMAL, 1)] == [2]
    store = await opener.open()
    assert store.recovered.scheduled_counts[NORMAL] == 2
    assert store.recovered.scheduled_counts[BULK] == 1
    assert store.recovered.send_counts[NORMAL] == 1
    await store.start_sends(found[:1])
    line = await store.read_sends(NORMAL, 0, 9)
    assert [(record.seq, record.is_scheduled) for record in line] == [(2, False), (4, False)]
    assert [record.seq for record in await store.read_scheduled(NORMAL, 9)] == [1]
    statuses = [await store.find_send(store.send_id(seq)) for seq in (1, 2)]
    assert [status and status.state for status in statuses] == ["scheduled", "queued"]
    store = await opener.open()
    assert (store.recovered.scheduled_counts[NORMAL], store.recovered.send_counts[NORMAL]) == (1, 2)


async def test_a_scheduled_send_is_moved_and_ends_where_it_is(opener: Opener) -> None:
    store = await opener.open()
    first, second = scheduled(1, WALL_MS + 30), scheduled(2, WALL_MS + 30)
    await store.submit(Change(sends=[first, second]))
    assert await store.reclass_sends([1], NORMAL, BULK) == [], "it is in no line"
    (moved,) = await store.reclass_sends([1], NORMAL, BULK, is_scheduled=True)
    assert (moved.cls, moved.is_scheduled) == (BULK, True)
    await store.submit(
        Change(settled=[settled(moved, Outcome.CANCELLED), settled(second, Outcome.CANCELLED)])
    )
    store = await opener.open()
    assert set(store.recovered.scheduled_counts.values()) == {0}
    status = await store.find_send(store.send_id(1))
    assert status is not None
    assert (status.state, status.cls, status.not_before_ms) == ("cancelled", BULK, WALL_MS + 30)


async def test_a_batch_is_found_whole_and_page_by_page(opener: Opener) -> None:
    store = await opener.open()
    records = [of_batch(send(seq)) for seq in (1, 2, 3)] + [scheduled(4, WALL_MS + 5, BULK, "b1")]
    await store.submit(Change(sends=[*records, of_batch(send(5), "b2"), send(6)]))
    await store.submit(Change(settled=[settled(records[0]), settled(records[2], Outcome.EXPIRED)]))
    found = await store.find_batch("b1", 0, 9)
    assert found.counts == {"sent": 1, "queued": 1, "expired": 1, "scheduled": 1}
    assert [status.state for status in found.sends] == ["sent", "queued", "expired", "scheduled"]
    assert {status.batch for status in found.sends} == {"b1"}
    assert [status.expires_ms - WALL_MS for status in found.sends[:3]] == [9, 9, 9]
    page = await store.find_batch("b1", 1, 2)
    assert ([status.seq for status in page.sends], page.counts) == ([2, 3], found.counts)
    for unknown in ("", "b3", "b"):
        assert (await store.find_batch(unknown, 0, 9)).counts == {}


async def test_a_send_is_found_by_the_name_that_whatsapp_gave_it(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(sends=[send(1), send(2)]))
    await store.submit(Change(settled=[settled(send(1))]))
    found = await store.find_send_named("gBGG1")
    assert found is not None
    assert (found.id, found.state, found.seq) == (store.send_id(1), "sent", 1)
    assert await store.find_send_named("gBGG2") is None
    await store.submit(
        Change(settled=[msgspec.structs.replace(settled(send(2), Outcome.FAILED), node_id="")])
    )
    assert await store.find_send_named("") is None


async def test_keys_are_kept_over_a_restart_and_the_newest_of_a_name_counts(opener: Opener) -> None:
    store = await opener.open()
    used = [StoredKey(name, b"d" + name.encode(), b"a", WALL_MS + at) for at, name in enumerate("abc")]
    await store.submit(Change(sends=[send(1)], keys=used[:2]))
    await store.submit(Change(keys=[used[2]]))
    again = StoredKey("a", b"other", b"answer", WALL_MS + 9)
    await store.submit(Change(keys=[again]))
    store = await opener.open()
    found = await store.find_keys(["c", "a", "nobody's"])
    assert sorted(found, key=lambda one: one.key) == [again, used[2]]
    assert await store.find_keys([]) == []


@pytest.mark.parametrize(
    ("before_ms", "most", "left"),
    [(0, 3, "abc"), (0, 2, "bc"), (0, 0, ""), (WALL_MS + 1, 3, "bc"), (WALL_MS + 9, 3, "")],
)
async def test_old_keys_and_those_beyond_the_number_are_forgotten(
    opener: Opener, before_ms: int, most: int, left: str
) -> None:
    store = await opener.open()
    await store.submit(
        Change(keys=[StoredKey(name, b"", b"", WALL_MS + at) for at, name in enumerate("abc")])
    )
    await store.forget(msgspec.structs.replace(KEEP_ALL, keys_before_ms=before_ms, keys_max=most))
    assert sorted(used.key for used in await store.find_keys(list("abc"))) == list(left)


async def test_those_that_expire_first_are_told_first_wherever_they_wait(opener: Opener) -> None:
    store = await opener.open()
    lives_ms = {1: 30, 2: 0, 3: 10, 4: 20}
    sends = [
        msgspec.structs.replace(send(seq, BULK), expires_ms=WALL_MS + ms if ms else 0, mask=ReceiptMask.READ)
        for seq, ms in lives_ms.items()
    ]
    later = msgspec.structs.replace(scheduled(5, WALL_MS + 1), expires_ms=WALL_MS + 15)
    gone = msgspec.structs.replace(send(6), expires_ms=WALL_MS + 5)
    await store.submit(Change(sends=[*sends, later, gone]))
    await store.submit(Change(settled=[settled(gone)]))
    store = await opener.open()
    found = await store.read_expiring(9)
    assert [(status.seq, status.state, status.expires_ms - WALL_MS, status.mask) for status in found] == [
        (3, "queued", 10, ReceiptMask.READ),
        (5, "scheduled", 15, ReceiptMask.ALL),
        (4, "queued", 20, ReceiptMask.READ),
        (1, "queued", 30, ReceiptMask.READ),
    ]
    assert [status.seq for status in await store.read_expiring(2)] == [3, 5]


async def test_many_are_moved_at_once_and_only_those_that_wait_there(opener: Opener) -> None:
    store = await opener.open()
    seqs = range(1, 1_202)
    await store.submit(Change(sends=[send(seq, NORMAL if seq % 3 else BULK) for seq in seqs]))
    moved = await store.reclass_sends([*reversed(seqs)], NORMAL, SendClass.HIGH)
    assert [record.seq for record in moved] == [seq for seq in seqs if seq % 3]
    assert {record.cls for record in moved} == {SendClass.HIGH}
    store = await opener.open()
    counts = store.recovered.send_counts
    assert (counts[NORMAL], counts[BULK], counts[SendClass.HIGH]) == (0, 400, 801)


async def test_a_thousand_keys_are_looked_up_at_once(opener: Opener) -> None:
    store = await opener.open()
    names = [f"key {number}" for number in range(1_001)]
    await store.submit(Change(keys=[StoredKey(name, b"", b"", WALL_MS) for name in names]))
    assert {used.key for used in await store.find_keys(names)} == set(names)


def test_what_is_asked_of_sends_reads_no_more_rows_than_it_tells(tmp_path: Path) -> None:
    """By indexes: a million waiting sends must not make one question slow."""
    file = SqliteFile(tmp_path)
    seen: list[str] = []
    file._db.set_trace_callback(seen.append)
    file.read_scheduled(NORMAL, 5)
    file.read_expiring(5)
    file.find_batch("b1", 0, 5)
    file.find_send_named("wa1")
    file.find_send(file.send_id(1))
    file.find_keys(["a"])
    file._db.set_trace_callback(None)
    plans = [row[3] for sql in seen for row in file._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    file.close()
    assert len(plans) >= len(seen) == 8
    assert all(plan.startswith("SEARCH") for plan in plans), plans

"""What every store must do: the real one and the one of tests/builders.py pass the same suite."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from builders import WALL_MS, Disk, MemoryStore, inbound, parked, send, settled
from ill_log import break_log

from gateway.clock import FakeClock
from gateway.errors import StoreError
from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, Side
from gateway.store.protocol import (
    BookEntry,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    RecentSends,
)
from gateway.store.sqlite_store import SqliteStore

AnyStore = SqliteStore | MemoryStore
MESSAGE, FAILURE, RECEIPT = InboundClass
KEEP_ALL = MemoryLimits(seen_before_ms=0, seen_max=1000, sent_before_ms=0, parked_max=1000)


class Opener:
    """Opens a store of one make, again and again, on the same disk."""

    def __init__(self, make: str, directory: Path) -> None:
        self.make = make
        self.clock = FakeClock(wall_ms=WALL_MS)
        self._directory = directory
        self._disk = Disk()
        self._store: AnyStore | None = None

    async def open(self, recent_ms: int = 0) -> AnyStore:
        """Close what is open and open it again."""
        await self.close()
        if self.make == "sqlite":
            self._store = SqliteStore(self._directory, self.clock, lambda _: None, recent_ms=recent_ms)
        else:
            self._store = MemoryStore(self.clock, self._disk, recent_ms=recent_ms)
        return self._store

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()


@pytest.fixture(params=["sqlite", "memory"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    made = Opener(request.param, tmp_path)
    yield made
    await made.close()


async def test_what_was_stored_is_there_after_reopening(opener: Opener) -> None:
    store = await opener.open()
    records = [inbound(1, kinds=[Kind.MESSAGE] * 2), inbound(2, RECEIPT, [Kind.READ]), inbound(3, RECEIPT)]
    sends = [send(4, SendClass.BULK), send(5, SendClass.REPLY), send(6, SendClass.BULK)]
    entries = [BookEntry(Kind.MESSAGE, None, 2), BookEntry(Kind.SEND, Outcome.FAILED, 1)]
    await store.submit(Change(inbound=records, sends=sends, books=entries, fingerprints=b"12345678"))
    await store.submit(Change(books=entries, fingerprints=b"abcdefgh"))
    store = await opener.open()
    found = store.recovered
    assert found.next_seq == 7
    assert found.inbound_counts == {MESSAGE: 1, FAILURE: 0, RECEIPT: 2}
    assert found.inbound_kinds == {
        MESSAGE: {Kind.MESSAGE: 2},
        FAILURE: {},
        RECEIPT: {Kind.READ: 1, Kind.MESSAGE: 1},
    }
    assert found.send_counts == {
        SendClass.REPLY: 1, SendClass.HIGH: 0, SendClass.NORMAL: 0, SendClass.BULK: 2
    }  # fmt: skip
    assert found.fingerprints == b"12345678abcdefgh"
    assert {(entry.kind, entry.outcome): entry.count for entry in found.books} == {
        (Kind.MESSAGE, None): 4,
        (Kind.SEND, Outcome.FAILED): 2,
    }
    assert await store.read_inbound(MESSAGE, 0, 9) == records[:1]
    assert await store.read_inbound(RECEIPT, 0, 9) == records[1:]
    read = await store.read_sends(SendClass.BULK, 0, 9)
    assert [(record.seq, record.to, record.body, record.accepted_ms) for record in read] == [
        (record.seq, record.to, record.body, record.accepted_ms) for record in (sends[0], sends[2])
    ]
    assert [record.id for record in read] == [store.send_id(4), store.send_id(6)]


async def test_what_is_gathered_is_one_change_and_keeps_its_place(opener: Opener) -> None:
    """A checkpoint between two gatherings has what the first one made, and not what the second one makes."""
    store = await opener.open()
    items: list[bytes] = []
    told: list[str] = []

    def make() -> Change:
        taken = b"".join(items)
        items.clear()
        return Change(ledger_items=taken, size=2, on_commit=[lambda: told.append(f"stored {taken!r}")])

    store.gather(make)
    items += [b"a" * 16, b"b" * 16]
    stored = store.submit(Change(ledger_pages=[(0, b"page")]))
    assert items == [], "made before what is put after it"
    store.gather(make, can_wait=True)
    items.append(b"c" * 16)
    await stored
    await store.submit(Change())
    if isinstance(store, SqliteStore):
        assert store.changes == 6, "by their size"
    assert told == [f"stored {b'a' * 16 + b'b' * 16!r}", f"stored {b'c' * 16!r}"]
    found = (await opener.open()).recovered
    assert (found.ledger_pages, found.ledger_items) == ([(0, b"page")], b"c" * 16)


async def test_what_is_gathered_by_a_store_that_has_failed_is_told_so(opener: Opener) -> None:
    store = await opener.open()
    await store.close()
    if isinstance(store, MemoryStore):
        store.fail()
    told: list[StoreError] = []
    made: list[Change] = []

    def make() -> Change:
        made.append(Change(on_failure=[told.append]))
        return made[-1]

    store.gather(make)
    assert told == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (len(made), len(told)) == (1, 1)


async def test_an_empty_store_starts_at_one(opener: Opener) -> None:
    store = await opener.open()
    assert store.recovered.next_seq == 1
    assert [store.next_seq(), store.next_seq()] == [1, 2]
    assert store.recovered.fingerprints == b""
    assert store.recovered.books == []


async def test_the_last_note_of_a_name_is_kept_whatever_the_name(opener: Opener) -> None:
    store = await opener.open()
    assert store.recovered.notes == {}
    written = [{"a": b"1", "seq": b"2"}, {"a": b"3", "*": b""}]
    await asyncio.gather(*(store.submit(Change(notes=notes)) for notes in written))
    await store.submit(Change(notes={"secret": b"\x00\xff", "a": b"4"}, inbound=[inbound(1)]))
    secret = store.secret if isinstance(store, SqliteStore) else None
    store = await opener.open()
    assert store.recovered.notes == {"a": b"4", "seq": b"2", "*": b"", "secret": b"\x00\xff"}
    assert store.recovered.next_seq == 2
    assert secret == (store.secret if isinstance(store, SqliteStore) else None)


async def test_tells_who_was_written_to_lately(opener: Opener) -> None:
    """By the time they ended, not by that of their acceptance; and not what never left."""
    store = await opener.open()
    told = [
        ("b", 2, -400), ("a", 1, -100), ("a", 1, -1_001), ("c", 1, -1_000), ("b", 3, -900), ("later", 1, 1_000),
        ("long ago", 1, -2_000), ("never tried", 0, -10), ("far in the future", 1, 1_001),
    ]  # fmt: skip
    ends = []
    for seq, (to, attempts, at_ms) in enumerate(told, 1):
        record = send(seq, to=to)
        record.attempts = attempts
        ends.append(settled(record, settled_ms=WALL_MS + at_ms))
    await store.submit(Change(settled=ends))
    store = await opener.open(recent_ms=1_000)
    assert store.recovered.recent == [
        RecentSends(to, attempts, WALL_MS + at_ms)
        for to, attempts, at_ms in [("c", 1, -1_000), ("b", 5, -400), ("a", 1, -100), ("later", 1, 1_000)]
    ]
    store = await opener.open()
    assert store.recovered.recent == []


async def test_a_number_is_never_given_twice_even_when_all_rows_have_left(opener: Opener) -> None:
    store = await opener.open()
    record, ended = inbound(store.next_seq()), send(store.next_seq())
    await store.submit(Change(inbound=[record], sends=[ended]))
    await store.submit(Change(inbound_done=[record], settled=[settled(ended)]))
    await store.forget(MemoryLimits(WALL_MS + 1, 0, WALL_MS + 1, 0))
    store = await opener.open()
    assert sum(store.recovered.inbound_counts.values()) == 0
    assert store.next_seq() == 3


async def test_what_is_done_has_left(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(inbound=[inbound(seq) for seq in (1, 2, 3)]))
    await store.submit(Change(inbound_done=[inbound(1)], parked=[parked(inbound(3))]))
    assert [record.seq for record in await store.read_inbound(MESSAGE, 0, 9)] == [2]
    store = await opener.open()
    assert store.recovered.inbound_counts[MESSAGE] == 1


async def test_reads_go_on_after_a_number_and_stop_at_the_limit(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(inbound=[inbound(seq) for seq in range(1, 8)]))
    assert [record.seq for record in await store.read_inbound(MESSAGE, 2, 3)] == [3, 4, 5]
    assert await store.read_inbound(MESSAGE, 7, 3) == []


async def test_what_waits_is_found_by_its_place(opener: Opener) -> None:
    store = await opener.open()
    records = [inbound(seq, RECEIPT if seq == 3 else MESSAGE) for seq in range(1, 8)]
    later = msgspec.structs.replace(send(13, SendClass.BULK), not_before_ms=WALL_MS + 1, is_scheduled=True)
    sends = [send(11, SendClass.BULK), send(12, SendClass.REPLY), later]
    await store.submit(Change(inbound=records, sends=sends))
    await store.submit(Change(inbound_done=[records[4]]))
    asked = [(MESSAGE, 6), (RECEIPT, 3), (MESSAGE, 5), (RECEIPT, 2), (MESSAGE, 4)]
    assert await store.find_inbound(asked) == [records[2], records[3], records[5]]
    found = await store.find_sends([(record.cls, record.seq) for record in sends])
    assert [(record.seq, record.cls, record.body) for record in found] == [
        (11, SendClass.BULK, sends[0].body),
        (12, SendClass.REPLY, sends[1].body),
    ]


async def test_classes_do_not_bleed_into_each_other(opener: Opener) -> None:
    store = await opener.open()
    classes = list(InboundClass) * 3
    await store.submit(Change(inbound=[inbound(at + 1, cls) for at, cls in enumerate(classes)]))
    await store.submit(Change(sends=[send(20 + cls, cls) for cls in SendClass]))
    for cls in InboundClass:
        assert [record.seq for record in await store.read_inbound(cls, 0, 99)] == [
            at + 1 for at, of_cls in enumerate(classes) if of_cls is cls
        ]
    for send_cls in SendClass:
        assert [record.seq for record in await store.read_sends(send_cls, 0, 99)] == [20 + send_cls]


async def test_calls_run_in_order_before_who_waits_and_only_once_it_is_stored(opener: Opener) -> None:
    store = await opener.open()
    happened: list[str] = []

    async def submit(name: str) -> None:
        change = Change(
            inbound=[inbound(store.next_seq())], on_commit=[lambda: happened.append(f"stored {name}")]
        )
        await store.submit(change)
        happened.append(f"told {name}")

    await asyncio.gather(submit("a"), submit("b"))
    order = happened.index
    assert sorted(happened) == ["stored a", "stored b", "told a", "told b"]
    assert order("stored a") < order("stored b")
    assert order("stored a") < order("told a")
    assert order("stored b") < order("told b")


async def test_a_read_sees_what_was_submitted_before_it(opener: Opener) -> None:
    store = await opener.open()
    future = store.submit(Change(inbound=[inbound(1)]))
    assert [record.seq for record in await store.read_inbound(MESSAGE, 0, 9)] == [1]
    assert future.done()


async def test_closing_commits_what_was_submitted(opener: Opener) -> None:
    store = await opener.open()
    futures = [store.submit(Change(inbound=[inbound(seq)])) for seq in range(1, 20)]
    await store.close()
    await asyncio.gather(*futures)
    store = await opener.open()
    assert store.recovered.inbound_counts[MESSAGE] == 19


async def test_tells_what_became_of_a_send(opener: Opener) -> None:
    store = await opener.open()
    ended = send(2, SendClass.HIGH)
    ended.attempts, ended.is_uncertain = 3, True
    await store.submit(Change(sends=[send(1, to="4915550100222"), ended]))
    await store.submit(Change(settled=[settled(ended, Outcome.DELIVERED, settled_ms=WALL_MS + 5)]))
    queued = await store.find_send(store.send_id(1))
    assert queued is not None
    assert (queued.state, queued.to, queued.cls, queued.settled_ms) == (
        "queued", "4915550100222", SendClass.NORMAL, None,
    )  # fmt: skip
    sent = await store.find_send(store.send_id(2))
    assert sent is not None
    assert (sent.state, sent.cls, sent.attempts, sent.is_uncertain, sent.node_id, sent.settled_ms) == (
        "sent", SendClass.HIGH, 3, True, "gBGG1", WALL_MS + 5,
    )  # fmt: skip
    assert (sent.id, sent.accepted_ms) == (store.send_id(2), WALL_MS)


@pytest.mark.parametrize(
    "made_of",
    [
        lambda good: "",
        lambda good: "gw-0",
        lambda good: good.replace("-1", "-3"),
        lambda good: good.replace("-1", "-01"),
        lambda good: good.replace("-1", "-1 "),
        lambda good: good.replace("-1", "--1"),
        lambda good: good.replace("-1", "-²"),
        lambda good: good.replace("gw-", "gw-f"),
        lambda good: good.replace("-1", "-" + "9" * 40),
        lambda good: good.replace("-1", f"-{(2 << 48) + 1}"),
    ],
)
async def test_an_id_that_was_never_given_is_not_found(opener: Opener, made_of: Callable[[str], str]) -> None:
    store = await opener.open()
    await store.submit(Change(sends=[send(1)]))
    assert await store.find_send(store.send_id(1)) is not None
    assert await store.find_send(made_of(store.send_id(1))) is None


async def test_forgets_fingerprints_by_age_and_by_number(opener: Opener) -> None:
    store = await opener.open()
    for at in range(6):
        await store.submit(Change(fingerprints=bytes([at]) * 8))
        await store.read_inbound(MESSAGE, 0, 1)  # or they become one row, as old as the last of them
        opener.clock.advance_ns(1_000_000)
    await store.forget(MemoryLimits(WALL_MS + 2, 1000, 0, 1000))
    store = await opener.open()
    assert store.recovered.fingerprints == b"".join(bytes([at]) * 8 for at in (2, 3, 4, 5))
    await store.forget(MemoryLimits(0, 3, 0, 1000))
    store = await opener.open()
    assert store.recovered.fingerprints == b"".join(bytes([at]) * 8 for at in (3, 4, 5))
    await store.submit(Change(fingerprints=b"next one"))
    store = await opener.open()
    assert store.recovered.fingerprints.endswith(b"next one")


async def test_forgets_finished_sends_by_age_and_waiting_ones_never(opener: Opener) -> None:
    store = await opener.open()
    old, new, waiting = send(1), send(2), send(3)
    await store.submit(Change(sends=[old, new, waiting]))
    await store.submit(
        Change(settled=[settled(old, settled_ms=WALL_MS), settled(new, settled_ms=WALL_MS + 1)])
    )
    assert not await store.forget(MemoryLimits(0, 1000, WALL_MS + 1, 1000))
    found = [await store.find_send(store.send_id(seq)) for seq in (1, 2, 3)]
    assert [status and status.state for status in found] == [None, "sent", "queued"]


async def test_forgetting_nothing_keeps_all(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(inbound=[inbound(1)], fingerprints=b"12345678"))
    assert not await store.forget(KEEP_ALL)
    store = await opener.open()
    assert store.recovered.fingerprints == b"12345678"
    assert store.recovered.inbound_counts[MESSAGE] == 1


async def test_used_bytes_grow_with_what_is_stored(opener: Opener) -> None:
    store = await opener.open()
    before = store.used_bytes()
    await store.submit(Change(inbound=[inbound(1, body=bytes(100_000))]))
    # Whole pages are counted: the first row may go into one that is in use already.
    assert before + 90_000 <= store.used_bytes() <= before + 120_000


async def _read_one(store: AnyStore) -> list[InboundRecord]:
    return await store.read_inbound(MESSAGE, 0, 1)


async def _submit_one(store: AnyStore) -> None:
    await store.submit(Change(inbound=[inbound(2)]))


@pytest.mark.parametrize("call", [_read_one, _submit_one])
async def test_a_store_that_failed_takes_nothing_more(
    tmp_path: Path, call: Callable[[AnyStore], Awaitable[object]]
) -> None:
    failures: list[StoreError] = []
    sqlite = SqliteStore(tmp_path, FakeClock(), failures.append)
    break_log(sqlite._file)
    memory = MemoryStore(on_failure=failures.append)
    with pytest.raises(StoreError):
        await sqlite.submit(Change(inbound=[inbound(1, body=bytes(100_000))]))
    lost = memory.submit(Change(inbound=[inbound(1)]))
    memory.fail()
    with pytest.raises(StoreError):
        await lost
    assert len(failures) == 2
    for store in (sqlite, memory):
        with pytest.raises(StoreError):
            await call(store)
    assert len(failures) == 2
    await sqlite.close()


async def test_a_send_that_is_given_another_class_has_it_after_reopening(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(sends=[send(1, SendClass.BULK), send(2, SendClass.BULK)]))
    (moved,) = await store.reclass_sends([1], SendClass.BULK, SendClass.HIGH)
    assert (moved.seq, moved.cls, moved.body) == (1, SendClass.HIGH, send(1).body)
    assert await store.reclass_sends([1], SendClass.BULK, SendClass.REPLY) == [], "it is not there any more"
    await opener.close()
    store = await opener.open()
    assert [record.seq for record in await store.read_sends(SendClass.HIGH, 0, 9)] == [1]
    assert [record.seq for record in await store.read_sends(SendClass.BULK, 0, 9)] == [2]
    status = await store.find_send(store.send_id(1))
    assert status is not None
    assert status.cls is SendClass.HIGH


# -- dead letters


async def test_a_send_that_failed_becomes_a_dead_letter_and_one_that_went_does_not(opener: Opener) -> None:
    store = await opener.open()
    sends = [msgspec.structs.replace(send(seq), id=store.send_id(seq)) for seq in (1, 2, 3)]
    await store.submit(Change(sends=sends))
    outcomes = (Outcome.FAILED, Outcome.DELIVERED, Outcome.EXPIRED)
    await store.submit(
        Change(settled=[settled(one, outcome) for one, outcome in zip(sends, outcomes, strict=True)])
    )
    for _ in range(2):
        (letter,) = await store.read_parked(ParkedQuery(), 0, 9)
        assert (letter.side, letter.record, letter.contact) == (Side.OUTBOUND, sends[0], sends[0].to)
        assert store.parked_counts() == {Side.OUTBOUND: ParkedCount(1, WALL_MS)}
        store = await opener.open()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (ParkedQuery(), [1, 2, 3, 4]),
        (ParkedQuery(side=Side.INBOUND), [1, 2, 3]),
        (ParkedQuery(side=Side.OUTBOUND), [4]),
        (ParkedQuery(seq=2), [2]),
        (ParkedQuery(contact="49"), [3]),
        (ParkedQuery(contact="4"), []),
        (ParkedQuery(reason="http 42"), [2]),
        (ParkedQuery(reason="%"), []),
        (ParkedQuery(parked_from_ms=WALL_MS + 2), [2, 3]),
        (ParkedQuery(parked_before_ms=WALL_MS + 2), [1, 4]),
        (ParkedQuery(upto_seq=2), [1, 2]),
        (ParkedQuery(side=Side.INBOUND, parked_before_ms=WALL_MS + 3), [1, 2]),
    ],
)
async def test_dead_letters_are_found_by_all_that_is_asked_for(
    query: ParkedQuery, expected: list[int], opener: Opener
) -> None:
    store = await opener.open()
    letters = [
        Parked(inbound(1), "HTTP 400", b"", WALL_MS + 1),
        Parked(inbound(2), "HTTP 422", b"", WALL_MS + 2),
        Parked(inbound(3, lane="49"), "HTTP 400", b"", WALL_MS + 3),
    ]
    await store.submit(Change(parked=letters, settled=[settled(send(4), Outcome.FAILED, WALL_MS)]))
    found = await store.read_parked(query, 0, 9)
    assert [letter.record.seq for letter in found] == expected
    found = await store.read_parked(query, 1, 2)
    assert [letter.record.seq for letter in found] == [seq for seq in expected if seq > 1][:2]


async def test_a_dead_letter_leaves_in_the_change_that_accepts_it_anew(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(parked=[parked(inbound(1)), parked(inbound(2))]))
    await store.submit(Change(unparked=[1], inbound=[inbound(3)]))
    store = await opener.open()
    assert [letter.record.seq for letter in await store.read_parked(ParkedQuery(), 0, 9)] == [2]
    assert [record.seq for record in await store.read_inbound(MESSAGE, 0, 9)] == [3]
    assert store.parked_counts() == {Side.INBOUND: ParkedCount(1, WALL_MS)}


async def test_dead_letters_that_leave_to_make_room_are_counted(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(parked=[parked(inbound(seq)) for seq in range(1, 6)]))
    await store.forget(msgspec.structs.replace(KEEP_ALL, parked_max=2))
    assert store.parked_counts()[Side.INBOUND].count == 2
    assert store.parked_dropped() == 3
    assert [letter.record.seq for letter in await store.read_parked(ParkedQuery(), 0, 9)] == [4, 5]


# -- the receipt ledger: what is logged, and the pages that take the place of the log


def _item(number: int) -> bytes:
    return number.to_bytes(16, "little")


async def test_ledger_items_come_back_in_the_order_of_their_changes(opener: Opener) -> None:
    store = await opener.open()
    assert (store.recovered.ledger_items, store.recovered.ledger_pages) == (b"", [])
    await asyncio.gather(
        *(store.submit(Change(ledger_items=_item(2 * n) + _item(2 * n + 1))) for n in range(50))
    )
    store = await opener.open()
    await store.submit(Change(inbound=[inbound(1)], ledger_items=_item(100)))
    store = await opener.open()
    assert store.recovered.ledger_items == b"".join(map(_item, range(101)))


async def test_a_checkpoint_has_what_came_before_it_also_within_one_commit(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(ledger_items=_item(1)))
    changes = [
        Change(ledger_items=_item(2)),
        Change(ledger_pages=[(0, b"first"), (7, b"seventh")]),
        Change(ledger_items=_item(3)),
    ]
    await asyncio.gather(*map(store.submit, changes))
    store = await opener.open()
    assert store.recovered.ledger_items == _item(3)
    assert store.recovered.ledger_pages == [(0, b"first"), (7, b"seventh")]


async def test_a_checkpoint_without_pages_clears_the_log_and_keeps_the_pages(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(ledger_pages=[(3, b"third")]))
    await store.submit(Change(ledger_items=_item(1)))
    await store.submit(Change(ledger_pages=[]))
    store = await opener.open()
    assert store.recovered.ledger_items == b""
    assert store.recovered.ledger_pages == [(3, b"third")]


async def test_a_checkpoint_that_resets_leaves_its_own_pages_only(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(ledger_pages=[(number, b"old") for number in range(100)]))
    await store.submit(Change(ledger_pages=[(50, b"new"), (200, b"new")], ledger_resets=True))
    store = await opener.open()
    assert store.recovered.ledger_pages == [(50, b"new"), (200, b"new")]


@pytest.mark.parametrize("seed", range(5))
async def test_the_ledger_on_disk_is_that_of_a_plain_model_whenever_it_is_reopened(
    opener: Opener, seed: int
) -> None:
    rng = random.Random(seed)
    store = await opener.open()
    items, pages = b"", dict[int, bytes]()
    for number in range(60):
        change = Change(ledger_items=_item(number)) if rng.random() < 0.8 else Change()
        if rng.random() < 0.3:
            change.ledger_resets = rng.random() < 0.3
            change.ledger_pages = [
                (at, b"%d/%d" % (at, number)) for at in rng.sample(range(20), rng.randint(0, 5))
            ]
            items, pages = b"", {**({} if change.ledger_resets else pages), **dict(change.ledger_pages)}
        items += change.ledger_items  # what a checkpoint brings along comes after it
        await store.submit(change)
        if rng.random() < 0.2:
            store = await opener.open()
            assert store.recovered.ledger_items == items
            assert store.recovered.ledger_pages == sorted(pages.items())


async def test_a_checkpoint_that_fails_leaves_pages_and_log_as_they_were(opener: Opener) -> None:
    store = await opener.open()
    await store.submit(Change(ledger_pages=[(0, b"old"), (1, b"old")]))
    await store.submit(Change(ledger_items=_item(1)))
    pages = [(number, bytes(4_016)) for number in range(200)]
    if isinstance(store, SqliteStore):
        break_log(store._file)
        lost = store.submit(Change(ledger_pages=pages, ledger_resets=True, ledger_items=_item(2)))
    else:
        lost = store.submit(Change(ledger_pages=pages, ledger_resets=True, ledger_items=_item(2)))
        store.fail()
    with pytest.raises(StoreError):
        await lost
    store = await opener.open()
    assert store.recovered.ledger_pages == [(0, b"old"), (1, b"old")]
    assert store.recovered.ledger_items == _item(1)

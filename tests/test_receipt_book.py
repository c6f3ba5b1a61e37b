"""The ledger by WhatsApp's ids: what it tells, for how long, and that the disk has the same at every moment."""

import pytest
from builders import WALL_MS, Disk
from hypothesis import given
from hypothesis import strategies as st

from gateway._fast.ledger import ReceiptLedger
from gateway.dialects.receipts import Tally
from gateway.dialects.webhook import Event
from gateway.events import InboundClass, Kind, ReceiptMask
from gateway.inbound.receipt_book import Phones, ReceiptBook
from gateway.store.protocol import Change

SECRET = bytes(range(16))
HOUR_MS = 3_600_000
NOW_S = WALL_MS // 1000
NOTHING = Phones(0, None, None)


def book(capacity: int = 100) -> ReceiptBook:
    return ReceiptBook(ReceiptLedger(capacity), SECRET, HOUR_MS)


def event(kind: Kind, message_id: str = "m1") -> Event:
    return Event(kind, InboundClass.RECEIPT, "key", "491", (0, 0, "statuses", 0), message_id=message_id)


def test_a_message_without_receipts_is_not_known() -> None:
    assert book().look("m1", WALL_MS) is None
    assert book().mask_of("m1") == ReceiptMask.ALL
    assert book().tally("m1") is None


def test_what_came_is_told_by_phones_and_times() -> None:
    subject = book()
    subject.note([event(Kind.SENT), event(Kind.DELIVERED)], WALL_MS)
    subject.note([event(Kind.DELIVERED), event(Kind.READ)], WALL_MS + 5_000)
    known = subject.look("m1", WALL_MS + 5_000)
    assert known is not None
    assert (known.id, known.status, known.sent_s) == ("m1", "read", NOW_S)
    assert known.delivered == Phones(2, NOW_S, NOW_S + 5)
    assert known.read == Phones(1, NOW_S + 5, NOW_S + 5)
    assert known.failed == 0
    assert subject.tally("m1") == Tally(None, 2, 1, NOW_S, NOW_S + 5)


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ([Kind.SENT], "sent"),
        ([Kind.FAILED], "failed"),
        ([Kind.SENT, Kind.FAILED], "failed"),
        ([Kind.FAILED, Kind.DELIVERED], "delivered"),
        ([Kind.READ], "read"),
        ([Kind.READ, Kind.SENT, Kind.DELIVERED], "read"),
    ],
)
def test_the_status_is_the_highest_and_failed_where_nobody_has_it(kinds: list[Kind], status: str) -> None:
    subject = book()
    subject.note(map(event, kinds), WALL_MS)
    known = subject.look("m1", WALL_MS)
    assert known is not None
    assert known.status == status
    assert known.failed == kinds.count(Kind.FAILED)


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.ERROR, Kind.OTHER])
def test_what_is_no_receipt_leaves_no_trace(kind: Kind) -> None:
    subject = book()
    assert subject.note([event(kind), event(Kind.READ, "")], WALL_MS) == b""
    assert len(subject.ledger) == 0


def test_it_is_told_for_as_long_as_it_is_kept_and_not_a_second_longer() -> None:
    subject = book()
    subject.note([event(Kind.SENT)], WALL_MS)
    subject.note([event(Kind.READ)], WALL_MS + 60_000)
    last_ms = WALL_MS + 60_000
    assert subject.look("m1", last_ms + HOUR_MS) is not None
    assert subject.look("m1", last_ms + HOUR_MS + 1_000) is None


def test_a_mask_alone_is_a_message_that_nothing_was_heard_of() -> None:
    subject = book()
    subject.want("m1", ReceiptMask.FAILED)
    assert subject.mask_of("m1") == ReceiptMask.FAILED
    known = subject.look("m1", WALL_MS)
    assert known is not None
    assert (known.status, known.sent_s, known.delivered, known.read) == ("unknown", None, NOTHING, NOTHING)


def test_ids_that_no_encoding_takes_are_ids() -> None:
    subject = book()
    subject.note([event(Kind.READ, "\udcff")], WALL_MS)
    known = subject.look("\udcff", WALL_MS)
    assert known is not None
    assert known.status == "read"


class Twin:
    """A book, and the disk that all its changes go to."""

    def __init__(self) -> None:
        self.book = book()
        self.disk = Disk()

    def restart(self, capacity: int = 100) -> None:
        self.book = book(capacity)
        self.book.restore(self.disk.recover())

    def write(self, change: Change | None) -> None:
        if change is not None:
            self.disk.write(change, WALL_MS)


ids = st.integers(0, 12).map("m{}".format)
steps = st.one_of(
    st.tuples(st.just("note"), ids, st.sampled_from([Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.FAILED])),
    st.tuples(st.just("want"), ids, st.sampled_from(ReceiptMask)),
    st.tuples(st.sampled_from(["checkpoint", "restart", "an hour later"])),
)


@given(story=st.lists(steps, max_size=60))
def test_after_every_step_the_disk_has_what_memory_has(story: list[tuple[object, ...]]) -> None:
    twin = Twin()
    for at, step in enumerate(story):
        match step:
            case "note", str(message_id), Kind() as kind:
                items = twin.book.note([event(kind, message_id)], WALL_MS + 1_000 * at)
                twin.write(Change(ledger_items=items))
            case "want", str(message_id), ReceiptMask() as mask:
                twin.write(Change(ledger_items=twin.book.want(message_id, mask)))
            case ("checkpoint",):
                twin.write(twin.book.checkpoint())
            case ("an hour later",):
                twin.book.forget(WALL_MS + 2 * HOUR_MS)
                twin.write(twin.book.checkpoint())
            case _:
                twin.restart()
        again = book()
        again.restore(twin.disk.recover())
        for number in range(13):
            name = f"m{number}"
            assert again.look(name, WALL_MS) == twin.book.look(name, WALL_MS)
            assert again.mask_of(name) == twin.book.mask_of(name)


def test_what_is_all_too_old_to_be_told_is_let_go_on_disk_too() -> None:
    twin = Twin()
    twin.write(Change(ledger_items=twin.book.note([event(Kind.READ)], WALL_MS)))
    twin.write(twin.book.checkpoint())
    for passed_ms, kept in ((HOUR_MS, 1), (HOUR_MS + 1, 0)):
        twin.book.forget(WALL_MS + passed_ms)
        assert len(twin.book.ledger) == kept
    twin.write(twin.book.checkpoint())
    assert (twin.disk.ledger_pages, twin.disk.ledger_items) == ({}, b"")
    twin.write(Change(ledger_items=twin.book.note([event(Kind.READ, "m3")], WALL_MS + 2 * HOUR_MS)))
    twin.restart()
    assert twin.book.look("m1", WALL_MS) is None
    assert twin.book.look("m3", WALL_MS) is not None


def test_what_a_sender_wants_is_kept_however_quiet_it_is() -> None:
    twin = Twin()
    twin.write(Change(ledger_items=twin.book.want("m1", ReceiptMask.NONE)))
    twin.book.forget(WALL_MS)
    twin.book.forget(WALL_MS + 100 * HOUR_MS)
    assert twin.book.mask_of("m1") == ReceiptMask.NONE


def test_what_a_start_finds_is_kept_for_as_long_again() -> None:
    twin = Twin()
    twin.write(Change(ledger_items=twin.book.note([event(Kind.READ)], WALL_MS)))
    twin.restart()
    for passed_ms, kept in ((9 * HOUR_MS, 1), (10 * HOUR_MS, 1), (10 * HOUR_MS + 1, 0)):
        twin.book.forget(WALL_MS + passed_ms)
        assert len(twin.book.ledger) == kept


def test_a_checkpoint_takes_the_place_of_the_log_and_there_is_none_without_one() -> None:
    twin = Twin()
    assert twin.book.checkpoint() is None
    twin.write(Change(ledger_items=twin.book.note([event(Kind.READ)], WALL_MS)))
    twin.restart()
    twin.write(twin.book.checkpoint())
    assert twin.disk.ledger_items == b""
    assert twin.book.checkpoint() is None
    twin.restart()
    assert twin.book.checkpoint() is None
    assert twin.book.look("m1", WALL_MS) is not None


def test_a_book_of_another_size_begins_anew_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    twin = Twin()
    twin.book = book(capacity=500)
    many = [event(Kind.READ, f"m{number}") for number in range(500)]
    twin.write(Change(ledger_items=twin.book.note(many, WALL_MS)))
    twin.write(twin.book.checkpoint())
    assert len(twin.disk.ledger_pages) > 1
    twin.restart(capacity=50)
    assert [record.getMessage() for record in caplog.records] == ["the receipt ledger begins anew"]
    assert twin.book.look("m1", WALL_MS) is None
    twin.write(Change(ledger_items=twin.book.note([event(Kind.SENT, "m2")], WALL_MS)))
    twin.write(twin.book.checkpoint())
    twin.restart(capacity=50)
    assert twin.book.look("m2", WALL_MS) is not None
    assert len(caplog.records) == 1


def test_a_message_that_made_room_is_not_known_any_more() -> None:
    subject = book(capacity=2)
    for number in range(3):
        subject.note([event(Kind.READ, f"m{number}")], WALL_MS)
    assert subject.look("m0", WALL_MS) is None
    assert subject.tally("m0") is None
    assert subject.look("m2", WALL_MS) is not None

"""The ledger tells exactly what came of its last messages, and a checkpoint with the log since is the ledger."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.ledger import LOG_ITEM, LedgerModel

from gateway._fast import ledger
from gateway._fast.ledger import (
    DELIVERED,
    FAILED,
    MASK_ALL,
    MASK_FAILED,
    MASK_NONE,
    MASK_READ,
    READ,
    SENT,
    ReceiptLedger,
    Receipts,
    pack_mask,
    pack_record,
)
from gateway.events import Kind

FIELDS = (
    *("status", "mask", "sent_s", "failed"),
    *("delivered", "delivered_first_s", "delivered_last_s"),
    *("read", "read_first_s", "read_last_s"),
)
PAGE_HEADER = struct.Struct("<QII")
ENTRY = struct.Struct("<Q7IHBB")
"""Fingerprint; count, first and last of delivered and of read; sent, failed, mask, spare."""
NEWEST_S = 2**32 - 1

levels = st.sampled_from([SENT, DELIVERED, READ, FAILED])
times_s = st.one_of(st.integers(1, 5), st.sampled_from([1_800_000_000, NEWEST_S]))
masks = st.integers(MASK_ALL, MASK_READ)


def fields(receipts: Receipts | None) -> dict[str, int] | None:
    return receipts and {name: getattr(receipts, name) for name in FIELDS}


def known(held: ReceiptLedger, fingerprint: int) -> Receipts:
    """What is known of a message that is there."""
    receipts = held.look(fingerprint)
    assert receipts is not None
    return receipts


def filled(capacity: int, *fingerprints: int) -> ReceiptLedger:
    made = ReceiptLedger(capacity)
    for fingerprint in fingerprints:
        made.record(fingerprint, SENT, 1)
    return made


def restored(capacity: int, pages: list[tuple[int, bytes]]) -> ReceiptLedger:
    made = ReceiptLedger(capacity)
    for number, page in pages:
        made.restore_page(number, page)
    made.finish_restore()
    return made


def page_of(
    *entries: tuple[int, ...], capacity: int = 3, number: int = 0, created: int | None = None
) -> bytes:
    """A page as the format has it; `created` is the number of entries unless told otherwise."""
    header = PAGE_HEADER.pack(len(entries) if created is None else created, capacity, number)
    return (header + b"".join(ENTRY.pack(*entry) for entry in entries)).ljust(4016, b"\0")


def test_the_levels_are_the_kinds_of_events() -> None:
    assert (SENT, DELIVERED, READ, FAILED) == (Kind.SENT, Kind.DELIVERED, Kind.READ, Kind.FAILED)


def test_the_masks_are_what_the_store_holds() -> None:
    masks = [getattr(ledger, f"MASK_{name}") for name in ("ALL", "NONE", "FAILED", "DELIVERED", "READ")]
    assert masks == [0, 1, 2, 3, 4]


def test_a_group_message_is_counts_and_first_and_last_times() -> None:
    held = ReceiptLedger(10)
    held.record(5, SENT, 100)
    for at_s in (104, 102, 109):
        held.record(5, DELIVERED, at_s)
    held.record(5, READ, 107)
    assert fields(held.look(5)) == {
        "status": READ,
        "mask": MASK_ALL,
        "sent_s": 100,
        "failed": 0,
        "delivered": 3,
        "delivered_first_s": 102,
        "delivered_last_s": 109,
        "read": 1,
        "read_first_s": 107,
        "read_last_s": 107,
    }


def test_nothing_is_known_of_other_messages() -> None:
    held = filled(10, 5)
    assert held.look(6) is None
    assert held.mask(6) == MASK_ALL
    assert len(held) == 1


def test_a_failure_leaves_the_status_as_it_was() -> None:
    held = ReceiptLedger(10)
    held.record(5, FAILED, 9)
    assert (known(held, 5).status, known(held, 5).failed) == (0, 1)
    held.record(5, SENT, 1)
    held.record(5, FAILED, 9)
    assert (known(held, 5).status, known(held, 5).failed) == (SENT, 2)


@given(receipts=st.lists(st.tuples(levels, times_s), max_size=12), order=st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_order_of_the_same_receipts_gives_the_same_entry(
    receipts: list[tuple[int, int]], order: random.Random
) -> None:
    shuffled = list(receipts)
    order.shuffle(shuffled)
    one, other = ReceiptLedger(1), ReceiptLedger(1)
    for level, at_s in receipts:
        one.record(7, level, at_s)
    for level, at_s in shuffled:
        other.record(7, level, at_s)
    assert one.take_dirty_pages() == other.take_dirty_pages()


def test_a_mask_makes_an_entry_that_says_nothing_else() -> None:
    held = ReceiptLedger(10)
    held.set_mask(5, MASK_NONE)
    assert held.mask(5) == known(held, 5).mask == MASK_NONE
    assert known(held, 5).status == 0
    held.record(5, READ, 3)
    held.set_mask(5, MASK_FAILED)
    assert held.mask(5) == MASK_FAILED
    assert known(held, 5).read == 1


def test_the_message_known_longest_leaves_first() -> None:
    held = filled(3, 1, 2, 3, 1, 4)
    assert [held.look(n) is None for n in (1, 2, 3, 4)] == [True, False, False, False]
    assert (len(held), held.evicted) == (3, 1)


def test_a_message_that_comes_back_starts_anew() -> None:
    held = filled(1, 1, 2, 1)
    held.record(1, DELIVERED, 5)
    assert known(held, 1).delivered == 1
    assert (len(held), held.evicted) == (1, 2)


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_every_64_bit_value_is_a_fingerprint(value: int) -> None:
    held = ReceiptLedger(1)
    assert held.look(value) is None
    held.record(value, SENT, 1)
    assert known(held, value).sent_s == 1
    held.record(7, SENT, 1)
    assert held.look(value) is None


def test_counts_stop_at_their_maximum() -> None:
    most = 2**32 - 1
    held = restored(3, [(0, page_of((7, most, 1, 2, most - 1, 1, 2, 0, 65_534, 0, 0)))])
    for _ in range(2):
        for level in (DELIVERED, READ, FAILED):
            held.record(7, level, 9)
    receipts = known(held, 7)
    assert (receipts.delivered, receipts.read, receipts.failed) == (most, most, 65_535)
    assert receipts.delivered_last_s == 9


def test_memory_is_56_bytes_a_message_at_most() -> None:
    for capacity in (100_000, 2**17, 2**17 + 1):
        assert 48 * capacity <= ReceiptLedger(capacity).memory_bytes <= 57 * capacity


def test_a_log_does_again_what_was_done() -> None:
    log = pack_mask(5, MASK_READ) + pack_record(5, DELIVERED, 8) + pack_record(2**64 - 1, FAILED, NEWEST_S)
    held = ReceiptLedger(3)
    assert held.apply_log(log) == 3
    assert held.apply_log(b"") == 0
    assert (known(held, 5).mask, known(held, 5).delivered_first_s) == (MASK_READ, 8)
    assert known(held, 2**64 - 1).failed == 1


def test_a_log_item_is_as_the_format_has_it() -> None:
    assert pack_record(0x0102030405060708, READ, 0x0A0B0C0D) == LOG_ITEM.pack(
        0x0102030405060708, 0x0A0B0C0D, READ, 0, 0
    )
    assert pack_mask(9, MASK_READ) == LOG_ITEM.pack(9, 0, 0, MASK_READ, 0)


@pytest.mark.parametrize(
    "item",
    [
        pack_record(1, SENT, 1)[:-1],
        LOG_ITEM.pack(1, 1, FAILED + 1, 0, 0),
        LOG_ITEM.pack(1, 0, SENT, 0, 0),
        LOG_ITEM.pack(1, 1, SENT, 1, 0),
        LOG_ITEM.pack(1, 1, SENT, 0, 1),
        LOG_ITEM.pack(1, 0, 0, MASK_READ + 1, 0),
        LOG_ITEM.pack(1, 1, 0, 0, 0),
        LOG_ITEM.pack(1, 0, 0, 0, 1),
    ],
)
def test_a_damaged_log_is_refused_whole(item: bytes) -> None:
    held = ReceiptLedger(3)
    with pytest.raises(ValueError, match=r"item 1 is none|data is 31 bytes, must be a multiple of 16"):
        held.apply_log(pack_record(1, SENT, 1) + item)
    assert len(held) == 0


def test_a_page_is_as_the_format_has_it() -> None:
    held = ReceiptLedger(3)
    held.record(7, SENT, 1)
    held.record(7, DELIVERED, 2)
    held.record(7, DELIVERED, 4)
    held.record(8, READ, 3)
    held.record(8, FAILED, 3)
    held.set_mask(8, MASK_READ)
    entries = (7, 2, 2, 4, 0, 0, 0, 1, 0, 0, 0), (8, 0, 0, 0, 1, 3, 3, 0, 1, MASK_READ, 0)
    assert held.take_dirty_pages() == [(0, page_of(*entries))]


def test_only_what_changed_is_taken() -> None:
    held = filled(250, *range(250))
    assert held.dirty_pages == 3
    assert [number for number, _ in held.take_dirty_pages()] == [0, 1, 2]
    assert (held.dirty_pages, held.take_dirty_pages()) == (0, [])
    held.set_mask(0, MASK_READ)
    held.record(99, SENT, 1)
    held.record(249, SENT, 1)
    held.look(150)
    assert held.dirty_pages == 2
    assert [number for number, _ in held.take_dirty_pages()] == [0, 2]
    held.record(250, SENT, 1)
    assert [number for number, _ in held.take_dirty_pages()] == [0]


def test_a_restored_ledger_has_no_dirty_page() -> None:
    held = restored(250, filled(250, *range(300)).take_dirty_pages())
    assert held.dirty_pages == 0
    assert (len(held), held.evicted) == (250, 50)


@pytest.mark.parametrize("step", [-1, 1])
def test_pages_come_back_in_any_order(step: int) -> None:
    """The ring stands where the newest page has it, wherever among the pages that comes."""
    held = filled(250, *range(250))
    pages = dict(held.take_dirty_pages())
    held.apply_log(b"".join(pack_record(n, SENT, 1) for n in range(250, 300)))
    pages.update(held.take_dirty_pages())
    held = restored(250, list(pages.items())[::step])
    held.record(300, SENT, 1)
    assert [n for n in range(301) if held.look(n) is None] == list(range(51))


def test_a_restore_without_pages_is_a_new_ledger() -> None:
    held = restored(3, [])
    held.record(1, SENT, 1)
    assert len(held) == 1


def test_nothing_changes_between_the_pages_of_a_restore() -> None:
    held = ReceiptLedger(3)
    held.restore_page(0, page_of((7, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)))
    with pytest.raises(RuntimeError, match="restore is not finished"):
        held.record(1, SENT, 1)
    with pytest.raises(RuntimeError, match="restore is not finished"):
        held.set_mask(1, MASK_READ)
    with pytest.raises(RuntimeError, match="restore is not finished"):
        held.apply_log(pack_record(1, SENT, 1))
    with pytest.raises(RuntimeError, match="restore is not finished"):
        held.take_dirty_pages()
    assert (held.look(7), held.mask(7), len(held)) == (None, 0, 0)
    held.finish_restore()
    assert known(held, 7).sent_s == 1


def test_a_used_ledger_is_not_restored_over() -> None:
    held = filled(3, 1)
    with pytest.raises(RuntimeError, match="this one has entries"):
        held.restore_page(0, page_of())
    held.finish_restore()
    assert known(held, 1).sent_s == 1


@pytest.mark.parametrize(
    ("number", "page", "says"),
    [
        (-1, page_of(), r"number is -1, must be 0\.\.0"),
        (1, page_of(), r"number is 1, must be 0\.\.0"),
        (0, page_of()[:-1], "page 0 is 4015 bytes, must be 4016"),
        (0, page_of() + b"\0", "page 0 is 4017 bytes, must be 4016"),
        (0, page_of(number=1), "page 0 says that it is page 1"),
        (0, page_of(capacity=4), "page 0 is of a ledger for 4, not for 3"),
        (0, page_of(created=2**62 + 1), "4611686018427387905 entries were made"),
        (0, page_of((7, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0)), "no entry, at 0"),
        (0, page_of((7, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)), "no entry, at 0"),
        (0, page_of((7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)), "no entry, at 0"),
        (0, page_of((7, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0)), "no entry, at 0"),
        (0, page_of((7, 0, 0, 0, 1, 2, 1, 0, 0, 0, 0)), "no entry, at 0"),
        (0, page_of((7, *[0] * 8, MASK_READ + 1, 0)), "no entry, at 0"),
        (0, page_of((7, *[0] * 10), (8, *[0] * 9, 1)), "no entry, at 1"),
    ],
)
def test_a_damaged_page_is_refused(number: int, page: bytes, says: str) -> None:
    held = ReceiptLedger(3)
    with pytest.raises(ValueError, match=says):
        held.restore_page(number, page)
    held.record(1, SENT, 1)
    assert len(held) == 1


FULL = filled(250, *range(300)).take_dirty_pages()
EARLY = filled(250, *range(120)).take_dirty_pages()


@pytest.mark.parametrize(
    ("capacity", "pages", "says"),
    [
        (250, FULL[:2], "page 2 is missing: there were 250 entries"),
        (250, [EARLY[1]], "page 0 is missing: there were 120 entries"),
        (250, [*EARLY, (2, PAGE_HEADER.pack(120, 250, 2).ljust(4016, b"\0"))], "page 2 is too many"),
        (3, [(0, page_of((7, *[0] * 10), (7, *[0] * 10)))], "entries 0 and 1 are of the same message"),
        (3, [(0, page_of((7, *[0] * 10), (8, *[0] * 10), created=1))], "entry 1 is there, but there were 1"),
        (3, [(0, page_of(*[(n, *[0] * 10) for n in range(4)]))], "entry 3 is there, but there were 3"),
        (3, [(0, page_of(created=2))], "entries 0 and 1 are of the same message"),
    ],
)
def test_pages_that_are_no_ledger_leave_an_empty_one(
    capacity: int, pages: list[tuple[int, bytes]], says: str
) -> None:
    held = ReceiptLedger(capacity)
    for number, page in pages:
        held.restore_page(number, page)
    with pytest.raises(ValueError, match=says):
        held.finish_restore()
    assert (len(held), held.evicted, held.take_dirty_pages()) == (0, 0, [])
    for number, page in FULL if capacity == 250 else [(0, page_of((0, *[0] * 10)))]:
        held.restore_page(number, page)
    held.finish_restore()
    assert len(held) in (250, 1)


def test_a_page_is_restored_once() -> None:
    held = ReceiptLedger(3)
    held.restore_page(0, page_of())
    with pytest.raises(ValueError, match="page 0 is restored already"):
        held.restore_page(0, page_of())


@pytest.mark.parametrize("capacity", [0, -1, 2**26 + 1])
def test_the_door_refuses_a_capacity_out_of_range(capacity: int) -> None:
    with pytest.raises(ValueError, match=rf"capacity is {capacity}, must be 1\.\.67108864"):
        ReceiptLedger(capacity)


@pytest.mark.parametrize(
    ("level", "at_s", "says"),
    [
        (0, 1, r"level is 0, must be 1\.\.4"),
        (5, 1, r"level is 5, must be 1\.\.4"),
        (SENT, 0, r"at_s is 0, must be 1\.\.4294967295"),
        (SENT, 2**32, r"at_s is 4294967296, must be 1\.\.4294967295"),
    ],
)
def test_the_door_refuses_what_is_no_receipt(level: int, at_s: int, says: str) -> None:
    held = ReceiptLedger(1)
    with pytest.raises(ValueError, match=says):
        held.record(1, level, at_s)
    with pytest.raises(ValueError, match=says):
        pack_record(1, level, at_s)
    assert len(held) == 0


@pytest.mark.parametrize("mask", [-1, 5])
def test_the_door_refuses_what_is_no_mask(mask: int) -> None:
    held = ReceiptLedger(1)
    with pytest.raises(ValueError, match=rf"mask is {mask}, must be 0\.\.4"):
        held.set_mask(1, mask)
    with pytest.raises(ValueError, match=rf"mask is {mask}, must be 0\.\.4"):
        pack_mask(1, mask)
    assert len(held) == 0


@pytest.mark.parametrize("value", [-1, 2**64])
def test_refuses_what_is_no_64_bit_value(value: int) -> None:
    held = ReceiptLedger(1)
    with pytest.raises(OverflowError):
        held.record(value, SENT, 1)
    with pytest.raises(OverflowError):
        held.set_mask(value, MASK_READ)
    with pytest.raises(OverflowError):
        held.look(value)
    with pytest.raises(OverflowError):
        held.mask(value)


def test_none_is_refused_not_followed() -> None:
    held = ReceiptLedger(1)
    with pytest.raises(TypeError):
        held.record(None, SENT, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        held.apply_log(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        held.restore_page(0, None)  # type: ignore[arg-type]


# Few home slots, at both ends of the index of every capacity below, so that runs collide, merge and wrap around.
CROWDED = [(base + 1024 * n) % 2**64 for n in range(40) for base in (-2, -1, 0, 1)]
fingerprints = st.one_of(st.sampled_from(CROWDED[:12]), st.sampled_from(CROWDED))


class LedgerBesideModel(RuleBasedStateMachine):
    """`pages` and `log` are what a store would hold: the last checkpoint, and everything since."""

    @initialize(capacity=st.sampled_from([1, 2, 3, 7, 12, 99, 100, 101, 150]))
    def make(self, capacity: int) -> None:
        self.native = ReceiptLedger(capacity)
        self.model = LedgerModel(capacity)
        self.pages: dict[int, bytes] = {}
        self.log = b""

    @rule(fingerprint=fingerprints, level=levels, at_s=times_s)
    def record(self, fingerprint: int, level: int, at_s: int) -> None:
        self.native.record(fingerprint, level, at_s)
        self.model.record(fingerprint, level, at_s)
        self.log += pack_record(fingerprint, level, at_s)

    @rule(fingerprint=fingerprints, mask=masks)
    def set_mask(self, fingerprint: int, mask: int) -> None:
        self.native.set_mask(fingerprint, mask)
        self.model.set_mask(fingerprint, mask)
        self.log += pack_mask(fingerprint, mask)

    @rule(begin=st.integers(0, 159), count=st.integers(0, 160), level=levels, at_s=times_s)
    def apply_log(self, begin: int, count: int, level: int, at_s: int) -> None:
        burst = (CROWDED * 2)[begin : begin + count]
        data = b"".join(pack_record(fingerprint, level, at_s) for fingerprint in burst)
        assert self.native.apply_log(data) == self.model.apply_log(data) == count
        self.log += data

    @rule()
    def checkpoint(self) -> None:
        dirty = self.native.dirty_pages
        pages = self.native.take_dirty_pages()
        assert len(pages) == dirty
        self.pages.update(pages)
        self.log = b""

    @rule()
    def clear(self) -> None:
        self.native.clear()
        self.model = LedgerModel(self.native.capacity)
        self.pages, self.log = {}, b""
        assert (self.native.dirty_pages, self.native.take_dirty_pages()) == (0, [])

    @rule(order=st.sampled_from([-1, 1]))
    def restart(self, order: int) -> None:
        self.native = restored(self.native.capacity, list(self.pages.items())[::order])
        assert self.native.apply_log(self.log) == len(self.log) // 16

    @invariant()
    def entries_agree(self) -> None:
        assert (len(self.native), self.native.evicted) == (len(self.model), self.model.evicted)
        for fingerprint in CROWDED:
            expected = self.model.look(fingerprint)
            assert fields(self.native.look(fingerprint)) == expected
            assert self.native.mask(fingerprint) == (expected or {"mask": MASK_ALL})["mask"]
        assert self.native.has_masks() == any(heard.mask != MASK_ALL for heard in self.model.held.values())


TestLedgerBesideModel = LedgerBesideModel.TestCase
TestLedgerBesideModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

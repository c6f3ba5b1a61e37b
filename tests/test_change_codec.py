"""What changes do as an entry of the log: back as it was, and many as one leave the rows that they leave one by one."""

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from builders import WALL_MS, inbound, parked, send, settled
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_scenario import rows_of

from gateway.events import InboundClass, InboundRecord, Kind, Outcome, SendClass, SendRecord
from gateway.store.change_codec import Entry, decode, encode, merge
from gateway.store.protocol import BookEntry, Change, Parked, Settled, StoredKey
from gateway.store.sqlite_file import SqliteFile

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Nothing here depends on a disk."""


_NAMES = st.text(st.characters(codec="utf-8"), max_size=5)
_BYTES = st.binary(max_size=20)
_NUMBERS = st.integers(0, 2**63 - 1)
_INBOUND = st.builds(
    InboundRecord, _NUMBERS, st.sampled_from(InboundClass), _NAMES, _BYTES, _BYTES, _NUMBERS, _NUMBERS, st.booleans()
)  # fmt: skip
_SENDS = st.builds(
    SendRecord, _NUMBERS, _NAMES, st.sampled_from(SendClass), _NAMES, st.booleans(), _BYTES, _NUMBERS, _NUMBERS, _NAMES,
    _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, st.booleans(), st.booleans(),
)  # fmt: skip
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "inbound": st.lists(_INBOUND, max_size=3),
    "done": st.lists(_NUMBERS, max_size=3),
    "fingerprints": _BYTES,
    "books": st.lists(st.tuples(_NUMBERS, st.integers(-1, 9), _NUMBERS), max_size=3),
    "ledger_items": _BYTES,
    "ledger_pages": st.none() | st.dictionaries(_NUMBERS, _BYTES, max_size=3),
    "ledger_resets": st.booleans(),
    "parked": st.lists(st.builds(Parked, _INBOUND | _SENDS, _NAMES, _BYTES, _NUMBERS), max_size=3),
    "unparked": st.lists(_NUMBERS, max_size=3),
    "sends": st.lists(_SENDS, max_size=3),
    "sends_tried": st.lists(_SENDS, max_size=3),
    "settled": st.lists(
        st.builds(Settled, _SENDS, st.sampled_from(Outcome), _NAMES, _NAMES, _NUMBERS), max_size=3
    ),
    "keys": st.lists(st.builds(StoredKey, _NAMES, _BYTES, _BYTES, _NUMBERS), max_size=3),
    "notes": st.dictionaries(_NAMES, _BYTES, max_size=3),
}


@given(entry=st.builds(Entry, **_FIELDS))
def test_an_entry_is_decoded_as_it_was(entry: Entry) -> None:
    assert set(_FIELDS) == set(Entry.__struct_fields__)
    assert decode(encode(entry)) == entry


def test_what_a_later_version_adds_at_the_end_is_passed_over() -> None:
    raw = msgspec.msgpack.decode(encode(merge([Change(inbound=[inbound(1)])])))
    raw[0][0].append("new")
    assert decode(msgspec.msgpack.encode([*raw, "new"])).inbound == [inbound(1)]


# -- many changes as one


class Story:
    """Changes of all kinds, each possible after those before it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._seq = 0
        self.inbound: list[InboundRecord] = []
        self.sends: list[SendRecord] = []
        self.dead: list[int] = []

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _some(self, items: list[Any]) -> list[Any]:
        chosen = self._rng.sample(items, self._rng.randint(0, min(3, len(items))))
        for item in chosen:
            items.remove(item)
        return chosen

    def change(self) -> Change:
        """A change that does some of everything."""
        rng, change = self._rng, Change()
        for _ in range(rng.randint(0, 3)):
            cls, kinds = rng.choice([*InboundClass]), rng.choices([*Kind][:7], k=rng.randint(1, 3))
            change.inbound.append(inbound(self._next(), cls, kinds))
            new = send(self._next(), rng.choice([*SendClass]))
            new.batch = rng.choice(["", "b"])
            new.is_scheduled = rng.random() < 0.3
            change.sends.append(new)
        self.inbound += change.inbound
        self.sends += change.sends
        change.inbound_done = self._some(self.inbound)
        change.parked = [parked(record) for record in self._some(self.inbound)]
        ended = [settled(record, rng.choice([*Outcome])) for record in self._some(self.sends)]
        change.settled = ended
        change.unparked = self._some(self.dead)
        self.dead += [item.record.seq for item in change.parked]
        self.dead += [item.record.seq for item in ended if item.outcome is Outcome.FAILED]
        for record in rng.sample(self.sends, min(2, len(self.sends))):
            record.attempts += 1
            change.sends_tried.append(msgspec.structs.replace(record, is_uncertain=rng.random() < 0.5))
        change.fingerprints = rng.randbytes(8 * rng.randint(0, 3))
        change.books = [
            BookEntry(rng.choice([*Kind]), rng.choice([None, *Outcome]), rng.randint(1, 9))
            for _ in range(rng.randint(0, 3))
        ]
        change.ledger_items = rng.randbytes(rng.choice([0, 16]))
        if rng.random() < 0.3:
            change.ledger_pages = [(rng.randrange(4), rng.randbytes(4)) for _ in range(rng.randint(0, 3))]
            change.ledger_resets = rng.random() < 0.3
        change.keys = [
            StoredKey(rng.choice("abc"), rng.randbytes(2), b"", WALL_MS) for _ in range(rng.randint(0, 2))
        ]
        change.notes = {rng.choice("xyz"): rng.randbytes(2) for _ in range(rng.randint(0, 2))}
        return change


def one_by_one(file: SqliteFile, changes: list[bytes]) -> None:
    for change in changes:
        file.log([change], WALL_MS)
        file.check_in()


def in_one_check_in(file: SqliteFile, changes: list[bytes]) -> None:
    for change in changes:
        file.log([change], WALL_MS)
    file.check_in()


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.booleans(), min_size=12, max_size=12))
@hypothesis_settings(max_examples=40, deadline=None)
def test_changes_merged_leave_the_rows_that_they_leave_one_by_one(seed: int, cuts: list[bool]) -> None:
    """Merged into one entry, several entries in one check-in, and each alone."""
    story = Story(random.Random(seed))
    changes: list[Change] = []
    single: list[bytes] = []
    groups: list[list[bytes]] = [[]]
    merged: list[bytes] = []
    for cut in cuts:
        changes.append(story.change())
        single.append(encode(merge(changes[-1:])))
        groups[-1].append(single[-1])
        if cut:
            merged.append(encode(merge(changes)))
            changes.clear()
            groups.append([])
    merged.append(encode(merge(changes)))
    found = []
    write: Callable[[SqliteFile, list[bytes]], None]
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        for name, write, given_groups in (
            ("one by one", one_by_one, [single]),
            ("in one check-in", in_one_check_in, [single]),
            ("a check-in for each group", in_one_check_in, groups),
            ("merged, one by one", one_by_one, [merged]),
            ("merged, in one check-in", in_one_check_in, [merged]),
        ):
            file = SqliteFile(Path(place) / name)
            for group in given_groups:
                write(file, group)
            found.append((name, rows_of(file._db)))
            file.close()
    for name, rows in found[1:]:
        assert rows == found[0][1], name

"""The books balance at every moment: accepted = ended + waiting, per kind."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast.books import BookTotals
from gateway.events import Kind, Outcome
from gateway.store.books import Books, accepted_entries, outcome_entries
from gateway.store.protocol import BookEntry


def test_new_books_are_empty_and_balance() -> None:
    books = Books()
    assert all(books.expected_waiting(kind) == 0 for kind in Kind)
    assert books.difference({}) == 0


def test_what_is_accepted_waits_until_it_ends() -> None:
    books = Books()
    books.apply(accepted_entries([(Kind.MESSAGE, 3), (Kind.READ, 2)]))
    assert books.expected_waiting(Kind.MESSAGE) == 3
    books.apply(outcome_entries([(Kind.MESSAGE, 1)], Outcome.DELIVERED))
    books.apply(outcome_entries([(Kind.MESSAGE, 1), (Kind.READ, 2)], Outcome.SHED))
    assert books.expected_waiting(Kind.MESSAGE) == 1
    assert books.expected_waiting(Kind.READ) == 0
    assert books.accepted[Kind.MESSAGE] == 3
    assert books.outcomes[Kind.MESSAGE, Outcome.DELIVERED] == 1
    assert books.outcomes[Kind.READ, Outcome.SHED] == 2


def test_starts_from_what_the_store_has() -> None:
    books = Books([BookEntry(Kind.SEND, None, 9), BookEntry(Kind.SEND, Outcome.FAILED, 4)])
    assert books.expected_waiting(Kind.SEND) == 5


def test_an_item_lost_and_one_too_many_do_not_hide_each_other() -> None:
    books = Books(accepted_entries([(Kind.MESSAGE, 1)]))
    assert books.difference({Kind.MESSAGE: 1}) == 0
    assert books.difference({Kind.READ: 1}) == 2
    assert books.difference({Kind.MESSAGE: 0}) == 1


_ENTRIES = st.lists(
    st.builds(BookEntry, st.sampled_from(Kind), st.none() | st.sampled_from(Outcome), st.integers(0, 5))
)


@settings(max_examples=100, deadline=None)
@given(entries=_ENTRIES, cut=st.integers(0, 20))
def test_totals_do_not_depend_on_how_entries_are_grouped(entries: list[BookEntry], cut: int) -> None:
    books = Books(entries[:cut])
    books.apply(entries[cut:])
    totals: Counter[tuple[Kind, Outcome | None]] = Counter()
    for entry in entries:
        totals[entry.kind, entry.outcome] += entry.count
    for kind in Kind:
        assert books.accepted[kind] == totals[kind, None]
        waiting = totals[kind, None] - sum(totals[kind, outcome] for outcome in Outcome)
        assert books.expected_waiting(kind) == waiting


@pytest.mark.parametrize(("kind", "outcome"), [(8, None), (-1, None), (8, 0), (-1, 0), (0, 5), (0, -1)])
def test_what_has_no_place_in_the_books_is_refused(kind: int, outcome: int | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        BookTotals().enter(kind, outcome, 1)

"""The ladder: its order, its thresholds, its hysteresis, policies and dry runs."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.overload.ladder import (
    HOLD_NS,
    LEAVE_SHARE,
    THRESHOLDS,
    Ladder,
    Policies,
    ReceiptClass,
    Rung,
    Treatment,
)

LOOK_NS = 100 * NS_PER_MS
DRY = ("batch", "fold", "digest", "shed", "refuse")

figures = st.floats(0, 1)
policies = st.builds(
    Policies,
    **dict.fromkeys(
        ("sent", "delivered", "read", "group"),
        st.sampled_from(["forward", "batch", "fold", "digest", "drop"]),
    ),
    digests=st.booleans(),
)


def at(figure: float, asked: Policies | None = None, dry_run: frozenset[str] = frozenset()) -> Ladder:
    ladder = Ladder(asked or Policies(), 0, dry_run)
    ladder.update(figure, 0)
    return ladder


def test_thresholds_rise_with_the_rungs_and_stand_on_a_cubic_curve() -> None:
    assert list(THRESHOLDS) == sorted(Rung)
    assert all(low < high for low, high in itertools.pairwise(THRESHOLDS.values()))
    shed = [THRESHOLDS[Rung(Rung.SHED_GROUP_READ + cls)] for cls in ReceiptClass]
    assert shed == pytest.approx([0.95 - 0.45 * (1 - at_ / 5) ** 3 for at_ in range(5)])


@given(figure=figures, asked=policies, dry_run=st.frozensets(st.sampled_from(DRY)))
def test_order_of_giving_way_is_never_inverted(
    figure: float, asked: Policies, dry_run: frozenset[str]
) -> None:
    ladder = at(figure, asked, dry_run)
    for low, high in itertools.pairwise(ReceiptClass):
        if ladder.would(high) is Treatment.DROP and not ladder.is_dropped_by_policy(high):
            assert ladder.would(low) is Treatment.DROP
        is_pressed = ladder.treatment(high) is Treatment.DROP and not ladder.is_dropped_by_policy(high)
        if is_pressed:
            assert ladder.treatment(low) is Treatment.DROP


@given(low=figures, high=figures, asked=policies)
def test_more_pressure_never_treats_a_class_better(low: float, high: float, asked: Policies) -> None:
    low, high = sorted((low, high))
    for cls in ReceiptClass:
        assert at(low, asked).treatment(cls) <= at(high, asked).treatment(cls)


@given(figure=figures, asked=policies)
def test_a_policy_is_the_least_that_is_done(figure: float, asked: Policies) -> None:
    for cls in ReceiptClass:
        assert at(figure, asked).treatment(cls) >= asked.least(cls)
        assert at(0.0, asked).treatment(cls) == asked.least(cls)


@given(looks=st.lists(figures, max_size=200))
def test_up_at_once_and_down_one_step_a_second(looks: list[float]) -> None:
    ladder = Ladder(Policies(), 0)
    low_for_ns = 0
    for step, figure in enumerate(looks, start=1):
        before = ladder.rung
        ladder.update(figure, step * LOOK_NS)
        asked_for = max(rung for rung in Rung if figure >= THRESHOLDS[rung])
        if asked_for > before:
            assert ladder.rung is asked_for
            low_for_ns = 0
            continue
        low_for_ns = low_for_ns + LOOK_NS if figure < THRESHOLDS[before] * LEAVE_SHARE else 0
        if low_for_ns >= HOLD_NS:
            assert ladder.rung == before - 1
            low_for_ns = 0
        else:
            assert ladder.rung is before


def test_every_rung_is_left_when_the_pressure_is_gone() -> None:
    ladder = at(1.0)
    assert ladder.refuses
    rungs = []
    for second in range(1, 20):
        ladder.update(0.0, second * NS_PER_S)
        rungs.append(ladder.rung)
    assert rungs[:9] == sorted(set(Rung) - {Rung.REFUSE}, reverse=True)
    assert ladder.is_at_rest


def test_a_pressure_about_a_threshold_does_not_flap() -> None:
    ladder = at(THRESHOLDS[Rung.SHED_GROUP_READ])
    changes = sum(
        ladder.update(THRESHOLDS[Rung.SHED_GROUP_READ] * (0.75 if step % 2 else 1.0), step * NS_PER_S)
        for step in range(1, 100)
    )
    assert changes == 0


def test_only_groups_are_digested_by_pressure_and_not_against_the_wish() -> None:
    assert at(0.3).treatment(ReceiptClass.GROUP_READ) is Treatment.DIGEST
    assert at(0.3).treatment(ReceiptClass.READ) is Treatment.FOLD
    assert at(0.3, Policies(digests=False)).treatment(ReceiptClass.GROUP_READ) is Treatment.FOLD
    assert at(0.0, Policies(read="digest")).treatment(ReceiptClass.READ) is Treatment.DIGEST


def test_a_digest_has_no_count_of_sent_so_that_is_folded() -> None:
    assert at(0.0, Policies(sent="digest")).treatment(ReceiptClass.SENT) is Treatment.FOLD
    assert at(0.0, Policies(sent="drop")).treatment(ReceiptClass.SENT) is Treatment.DROP


@given(figure=figures, digests=st.booleans(), dry_run=st.frozensets(st.sampled_from(DRY)))
def test_a_dry_run_digests_nothing_that_pressure_would_not(
    figure: float, digests: bool, dry_run: frozenset[str]
) -> None:
    """Where shedding ran dry, single chats were told as counts, and groups against the operator's wish."""
    ladder = at(figure, Policies(digests=digests), dry_run)
    for cls in ReceiptClass:
        if not (cls.is_group and digests):
            assert ladder.treatment(cls) is not Treatment.DIGEST


def test_receipts_are_put_together_at_rest_only_where_a_policy_says_so() -> None:
    assert not at(0.99).batches_at_rest
    assert not at(0.0, Policies(sent="drop")).batches_at_rest
    assert at(0.0, Policies(sent="fold")).batches_at_rest


@given(figure=figures, dry_run=st.frozensets(st.sampled_from(DRY)))
def test_a_dry_run_does_nothing_that_it_names_and_all_that_it_does_not(
    figure: float, dry_run: frozenset[str]
) -> None:
    dry, wet = at(figure, dry_run=dry_run), at(figure)
    names = {
        Treatment.BATCH: "batch",
        Treatment.FOLD: "fold",
        Treatment.DIGEST: "digest",
        Treatment.DROP: "shed",
    }
    for cls in ReceiptClass:
        assert dry.would(cls) == wet.treatment(cls)
        assert dry.treatment(cls) <= wet.treatment(cls)
        assert names.get(dry.treatment(cls)) not in dry_run
        if names.get(wet.treatment(cls)) not in dry_run:
            assert dry.treatment(cls) == wet.treatment(cls)
    assert dry.would_refuse == wet.refuses
    assert dry.refuses == (wet.refuses and "refuse" not in dry_run)


def test_the_page_for_operators_has_these_thresholds() -> None:
    page = (Path(__file__).parent.parent / "docs" / "overload.md").read_text()
    for rung in Rung:
        row = next(line for line in page.splitlines() if line.startswith(f"| {rung} | `{rung.label}` |"))
        assert float(row.split("|")[3]) == pytest.approx(THRESHOLDS[rung], abs=0.0005)

"""Seeds of the whole inbound side under pressure: nothing kept is lost, receipts give way in order, all counts add up.

The real parts, built as the gateway builds them, on a store in memory and in virtual time (`overload_world.py`), beside
a node and a backend drawn from the seed (`overload_plan.py`); `overload_check.py` holds the promises against what came.
"""

import functools
from collections.abc import Callable

import pytest
from overload_check import Checker
from overload_plan import Plan, draw
from overload_replay import found_in
from overload_story import Story
from overload_world import play
from seeds import all_cores, fail_with

from gateway.overload.ladder import Rung

IN_THE_SUITE = range(100)
IN_CI = range(100, 2100)


@functools.cache
def story_of(seed: int) -> Story:
    return play(draw(seed))


def test_a_hundred_seeds_keep_every_promise() -> None:
    fail_with([found_in(seed, story_of(seed)) for seed in IN_THE_SUITE])


@pytest.mark.parametrize("reason", ["off", "mask", "policy", "overload", "folded", "digested", "age"])
def test_the_seeds_drop_receipts_for_each_reason_often_enough(reason: str) -> None:
    """Else the check of it would be asleep."""
    assert sum(any(of == reason for _, of in story_of(seed).dropped) for seed in IN_THE_SUITE) >= 10


@pytest.mark.parametrize(
    ("least", "has"),
    [
        (10, lambda _plan, story: any(post.digests and post.is_taken for post in story.posts)),
        (10, lambda _plan, story: any(len(post.keys) > 5 and post.is_taken for post in story.posts)),
        (10, lambda _plan, story: story.parked),
        (20, lambda _plan, story: story.duplicates),
        (10, lambda _plan, story: any(attempt.status == 503 for attempt in story.attempts)),
        (10, lambda _plan, story: max(look.rung for look in story.looks) is Rung.REFUSE),
        (10, lambda plan, _story: plan.has_kills),
        (5, lambda plan, _story: any(restart.is_graceful for restart in plan.restarts)),
        (5, lambda _plan, story: any(post.ended_ns is None for post in story.posts)),
        (10, lambda _plan, story: any(story.would_have.values())),
        (5, lambda _plan, story: story.evicted),
    ],
    ids=[
        "digests", "batches", "parked", "duplicates", "503", "refuse", "kills", "drains", "killed requests",
        "dry runs", "evictions",
    ],
)  # fmt: skip
def test_the_seeds_have_each_trouble_often_enough(least: int, has: Callable[[Plan, Story], object]) -> None:
    assert sum(bool(has(draw(seed), story_of(seed))) for seed in IN_THE_SUITE) >= least


def test_every_rung_is_reached_and_shows_in_the_probes() -> None:
    rungs = {look.rung for seed in IN_THE_SUITE for look in story_of(seed).looks}
    assert rungs == set(Rung)


def test_the_same_seed_plays_the_same_run() -> None:
    for seed in range(5):
        assert play(draw(seed)) == story_of(seed)


def test_a_receipt_that_vanishes_is_found() -> None:
    """The checker is no use if it finds nothing."""
    story = play(draw(0))
    posts = [post for post in story.posts if post.destination == "event"]
    lost = next(key for post in posts for key in post.keys if post.is_taken)
    for post in posts:
        post.keys = [key for key in post.keys if key != lost]
    assert Checker(draw(0), story).violations()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_seeds_keep_every_promise() -> None:
    with all_cores() as pool:
        fail_with(pool.map(found_in, IN_CI, chunksize=50))

"""Seeds of the whole gateway in virtual time: nothing accepted is lost, nothing known to be sent is sent again, all add up.

The real parts as `Gateway` builds and runs them, on SQLite's own file (`whole_edges.py`, `whole_life.py`), beside a node,
a backend, pushers and an operator drawn from the seed (`whole_plan.py`, played by `whole_world.py`), with crashes,
restarts, disks that fail and clocks that jump; `whole_check.py` holds the promises against what was seen outside.
"""

import functools
from collections.abc import Callable

import pytest
from seeds import all_cores, fail_with
from whole_check import Checker
from whole_plan import draw
from whole_replay import found_in
from whole_story import Story
from whole_world import play

IN_THE_SUITE = range(30)
IN_CI = range(100, 1300)


@functools.cache
def story_of(seed: int) -> Story:
    return play(draw(seed))


def test_thirty_seeds_keep_every_promise() -> None:
    fail_with([found_in(seed, story_of(seed)) for seed in IN_THE_SUITE], shown_max=3)


@pytest.mark.parametrize(
    ("least", "count"),
    [
        (300, lambda story: sum(send["state"] == "sent" for send in story.sends)),
        (20, lambda story: sum(send["state"] == "failed" for send in story.sends)),
        (20, lambda story: sum(send["state"] == "expired" for send in story.sends)),
        (5, lambda story: sum(send["state"] == "cancelled" for send in story.sends)),
        (10, lambda story: sum(send["not_before_ms"] is not None for send in story.sends)),
        (20, lambda story: sum(request.is_open for request in story.requests)),
        (2, lambda story: sum(request.ended_ns is None for request in story.requests)),
        (100, lambda story: sum(request.tag.startswith("r") for request in story.requests)),
        (20, lambda story: sum(bool(post.told) and post.is_taken for post in story.posts)),
        (10, lambda story: sum(life.how == "kill" for life in story.lives)),
        (5, lambda story: sum(life.how in ("stop", "drain") for life in story.lives)),
        (3, lambda story: sum(life.how == "disk" for life in story.lives)),
        (10, lambda story: sum(offer.status == 503 for offer in story.offers)),
        (10, lambda story: sum(call.what == "other" and call.status == 409 for call in story.calls)),
        (5, lambda story: len(story.retried)),
        (5, lambda story: sum("wall clock" in line for line in story.lines)),
    ],
    ids=[
        "sent", "failed", "expired", "cancelled", "scheduled", "unknown outcomes", "killed requests", "replies",
        "told", "kills", "drains", "failed disks", "503", "409", "retried letters", "clock jumps",
    ],
)  # fmt: skip
def test_the_seeds_have_each_thing_often_enough(least: int, count: Callable[[Story], int]) -> None:
    """Else the check of it would be asleep."""
    assert sum(count(story_of(seed)) for seed in IN_THE_SUITE) >= least


def test_the_same_seed_plays_the_same_run() -> None:
    for seed in range(3):
        assert play(draw(seed)).lines == story_of(seed).lines


def test_a_send_that_goes_twice_is_found() -> None:
    """The checker is no use if it finds nothing."""
    story = play(draw(0))
    twice = next(request for request in story.requests if request.is_known)
    story.requests.append(twice)
    assert Checker(draw(0), story).violations()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_seeds_keep_every_promise() -> None:
    with all_cores() as pool:
        fail_with(pool.map(found_in, IN_CI, chunksize=20), shown_max=3)

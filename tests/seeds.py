"""What the tests that play many seeds share: all cores, and a failure that can be read."""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest


def all_cores() -> ProcessPoolExecutor:
    """A pool with a process a core, none of which has inherited a loop or a thread."""
    return ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn"))


def fail_with(failures: Iterable[str | None], shown_max: int = 10) -> None:
    """Fail with the first of these, if there is any."""
    found = [failure for failure in failures if failure]
    if found:
        pytest.fail(f"{len(found)} seeds failed:\n" + "\n".join(found[:shown_max]), pytrace=False)

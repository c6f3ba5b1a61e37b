"""Play one seed of tests/test_whole_seeds.py and say what it breaks: `PYTHONPATH=. python tests/whole_replay.py SEED [LINES]`."""

import sys

from whole_check import Checker
from whole_plan import draw
from whole_story import Story
from whole_world import play

LINES = 60
"""Of the story's end, shown with a failure."""


def found_in(seed: int, story: Story | None = None, lines: int = LINES) -> str:
    """What a seed breaks, the end of its story and the command that replays it; empty when all holds."""
    plan = draw(seed)
    try:
        story = story or play(plan)
        found = Checker(plan, story).violations()
    except (AssertionError, LookupError, ExceptionGroup) as error:
        found = [f"it failed: {error!r}"]
    if not found:
        return ""
    told = story.lines[-lines:] if story is not None else []
    return "\n  ".join(
        [plan.describe(), *told, *found, f"replay: PYTHONPATH=. python tests/whole_replay.py {seed}"]
    )


if __name__ == "__main__":
    number = int(sys.argv[1])
    shown = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    sys.stdout.write(f"{found_in(number, lines=shown) or draw(number).describe() + ': all holds'}\n")

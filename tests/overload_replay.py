"""Play one seed of tests/test_overload_seeds.py and say what it breaks: `python tests/overload_replay.py SEED`."""

import sys

from overload_check import Checker
from overload_plan import draw
from overload_story import Story
from overload_world import play


def found_in(seed: int, story: Story | None = None) -> str:
    """What a seed breaks and the command that replays it; empty when all holds."""
    plan = draw(seed)
    try:
        found = Checker(plan, story or play(plan)).violations()
    except (AssertionError, LookupError) as error:
        found = [f"it failed: {error!r}"]
    if not found:
        return ""
    return "\n  ".join([plan.describe(), *found, f"replay: python tests/overload_replay.py {seed}"])


if __name__ == "__main__":
    number = int(sys.argv[1])
    sys.stdout.write(f"{found_in(number) or draw(number).describe() + ': all holds'}\n")

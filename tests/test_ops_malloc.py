"""What is freed goes back to the system, in a process of its own: it is the C library's setting."""

import subprocess
import sys

STORY = """
from pathlib import Path
from gateway.ops.memory import LARGE_BYTES, set_large_apart

def anonymous_kb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

set_large_apart()
del [b"x" * (8 << 20)][:]
before = anonymous_kb()
blocks = [b"x" * (8 * LARGE_BYTES) for _ in range(20)]
last = b"x" * (LARGE_BYTES - 1000)  # above them, so the heap can't shrink
held = anonymous_kb()
del blocks
print(held - before, anonymous_kb() - before)
"""


def test_large_blocks_are_given_back_when_they_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, check=True)
    held, kept = map(int, done.stdout.split())
    assert held >= 20_000
    assert kept < 1_000

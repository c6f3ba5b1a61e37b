"""faulty_disk.c, built for preloading."""

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("faulty_disk.c")


def build(directory: Path) -> Path:
    """The library, in `directory`; by the compiler that builds the gateway itself."""
    made = directory / "faulty_disk.so"
    compiler = os.environ.get("CC", "gcc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(made), str(SOURCE), "-ldl"],
        check=True,
    )
    return made

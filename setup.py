"""Cython extensions and their directives; everything else is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# A debug build checks bounds and overflow and keeps assertions: `WA_GATEWAY_DEBUG=1 make build`.
debug = os.environ.get("WA_GATEWAY_DEBUG") == "1"

directives = {
    "language_level": 3,
    "binding": True,
    "boundscheck": debug,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": debug,
    "overflowcheck": debug,
    "embedsignature": False,
    "auto_pickle": False,
    "autotestdict": False,
    "warn.undeclared": True,
    "warn.unused": True,
}

extensions = [
    Extension(
        f"gateway._fast.{path.stem}",
        [path.as_posix()],
        # -O3 paid 25 % over -O2 on mixed code; frame pointers let perf and py-spy walk the stack. Without contraction
        # floats come out as Python's on every machine: on ARM a * b + c would be rounded once instead of twice.
        extra_compile_args=[
            "-O3",
            "-g",
            "-fno-omit-frame-pointer",
            "-ffp-contract=off",
            "-Wall",
            "-Wno-unused-function",
        ],
    )
    for path in sorted(Path("gateway/_fast").glob("*.pyx"))
]

setup(ext_modules=cythonize(extensions, compiler_directives=directives, annotate=debug))

"""Imports point down only, and parts on one level do not know each other.

Lazy imports, imports for the type checker and Cython's `cimport` count like any other.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parents[1] / "gateway"

LEVELS: Final = (
    {"_fast"},
    {"clock", "errors", "events"},
    {"config", "dialects"},
    {"budget", "overload", "store", "http"},
    {"inbound", "outbound", "node", "ops"},
    {"app"},
    {"sim"},  # below cli: `wa-gateway demo` is in it
    {"cli"},
    {"__main__"},
)
"""Parts of the package from the ground up; the package itself, with its version, lies below them all."""

ROOT: Final = "gateway"
_LEVEL: Final = {part: level for level, parts in enumerate(LEVELS) for part in parts} | {ROOT: -1}

_CYTHON_IMPORT: Final = re.compile(
    r"^\s*(?:from\s+(?P<base>[\w.]+)\s+)?c?import\s+(?P<names>\(?[\w., \t*]+)", re.MULTILINE
)


def violations(package: Path) -> list[str]:
    """A sentence for each import that points up or sideways."""
    found = []
    for path in sorted(package.rglob("*")):
        if path.suffix not in {".py", ".pyi", ".pyx", ".pxd"}:
            continue
        module = (ROOT, *path.relative_to(package).with_suffix("").parts)
        importer = _part(module if len(module) > 1 and module[1] != "__init__" else (ROOT,))
        for target in sorted({_part(name) for name in _imports(path, module) if name[0] == ROOT}):
            where = path.relative_to(package.parent)
            unknown = [part for part in (importer, target) if part not in _LEVEL]
            if unknown:
                found.append(f"{where}: {unknown[0]} has no level; give it one in LEVELS")
            elif target != importer and _LEVEL[target] >= _LEVEL[importer]:
                found.append(f"{where}: {importer} imports {target}, which is not below it")
    return found


def _part(name: tuple[str, ...]) -> str:
    return name[1] if len(name) > 1 else ROOT


def _imports(path: Path, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names that the file imports, those of `from x import y` with the y."""
    text = path.read_text(encoding="utf-8")
    pairs = (
        _python_imports(text)
        if path.suffix.startswith(".py") and path.suffix != ".pyx"
        else _cython_imports(text)
    )
    for base, name in pairs:
        dots = len(base) - len(base.lstrip("."))
        package = module[: len(module) - dots] if dots else ()
        full = (*package, *(part for part in base.lstrip(".").split(".") if part), *name.split("."))
        # `from gateway import __version__` is about the package, not about a part of it.
        is_of_root = len(full) == 2 and full[0] == ROOT and full[1].startswith("__") and full[1] not in _LEVEL
        yield (ROOT,) if is_of_root else full


def _python_imports(text: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (("", alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=dots):
                yield from (("." * dots + (base or ""), alias.name) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield "", name


def _cython_imports(text: str) -> Iterator[tuple[str, str]]:
    for match in _CYTHON_IMPORT.finditer(text):
        for name in match["names"].strip("( \t").split(","):
            if name.strip():
                yield match["base"] or "", name.split()[0]


def test_imports_point_down_only() -> None:
    assert violations(PACKAGE) == []


def test_every_part_has_a_level_and_every_level_its_parts() -> None:
    parts = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} <= set(_LEVEL)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("clock.py", "import gateway.app", "clock imports app"),
        ("clock.py", "from gateway import errors", "clock imports errors"),
        ("__init__.py", "from gateway.clock import Clock", "gateway imports clock"),
        ("inbound/receive.py", "from gateway.outbound.queue import Queue", "inbound imports outbound"),
        ("inbound/__init__.py", "from ..outbound import queue", "inbound imports outbound"),
        ("store/a.py", "def f():\n    from gateway.node import login", "store imports node"),
        ("store/a.py", "if TYPE_CHECKING:\n    import gateway.app as app", "store imports app"),
        ("store/a.py", "importlib.import_module('gateway.sim.demo')", "store imports sim"),
        ("sim/demo.py", "from gateway.cli import main", "sim imports cli"),
        ("_fast/ring.pyx", "from gateway.store.file cimport File", "_fast imports store"),
        ("_fast/ring.pxd", "cimport gateway.budget.window as w, cython", "_fast imports budget"),
        (
            "_fast/ring.pyx",
            "def f():\n    from ..config import (load,\n        read)",
            "_fast imports config",
        ),
        ("_fast/ring.pyi", "from gateway.events import Kind", "_fast imports events"),
        ("strange.py", "import gateway.clock", "strange has no level"),
        ("app.py", "import gateway.strange", "strange has no level"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_found(
    tmp_path: Path, file: str, text: str, said: str
) -> None:
    path = tmp_path / "gateway" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    [only] = violations(tmp_path / "gateway")
    assert only.startswith(f"gateway/{file}: {said}")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("clock.py", "import time\nfrom gateway import __version__"),
        ("app.py", "from gateway import inbound, outbound\nfrom gateway.config import load"),
        ("inbound/receive.py", "from gateway.inbound.admit import Admit\nfrom .admit import Admit"),
        ("inbound/receive.py", "# import gateway.app\nnote = 'from gateway.app import run'"),
        ("_fast/ring.pyx", "from libc.stdint cimport int64_t\nfrom gateway._fast.window cimport Window"),
        ("__main__.py", "from gateway.cli import main"),
    ],
)
def test_an_import_that_points_down_or_out_is_fine(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / "gateway" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert violations(tmp_path / "gateway") == []

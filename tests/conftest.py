"""What all tests share: the production event loop, and the bodies of tests/data."""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

PAYLOADS = Path(__file__).parent / "data" / "payloads"
WAIT_LIMIT = 90.0  # seconds an asynchronous test may take


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Asynchronous tests run on the loop we ship."""
    return {"uvloop": uvloop.new_event_loop}


def manifest() -> list[dict[str, Any]]:
    """What each body of tests/data/payloads is, and what it holds."""
    files: list[dict[str, Any]] = json.loads((PAYLOADS / "_manifest.json").read_bytes())["files"]
    return files


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every asynchronous test a limit inside its loop.

    The outer limit ends the whole run; this one fails the one test that waits for something which never
    comes, and its traceback names the line.
    """
    for item in items:
        test = getattr(item, "obj", None)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(test):
            marker = item.get_closest_marker("timeout")
            whole = marker.args[0] if marker else WAIT_LIMIT / 0.8
            item.obj = _limited(test, 0.8 * whole)


def _limited(test: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def limited(*args: Any, **named: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(*args, **named)

    return limited

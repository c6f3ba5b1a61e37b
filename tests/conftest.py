"""What all tests share: the production event loop, and the bodies of tests/data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

PAYLOADS = Path(__file__).parent / "data" / "payloads"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Asynchronous tests run on the loop we ship."""
    return {"uvloop": uvloop.new_event_loop}


def manifest() -> list[dict[str, Any]]:
    """What each body of tests/data/payloads is, and what it holds."""
    files: list[dict[str, Any]] = json.loads((PAYLOADS / "_manifest.json").read_bytes())["files"]
    return files

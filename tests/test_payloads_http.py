"""Every body of tests/data goes through the real endpoint and comes out as the manifest says."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import PAYLOADS, manifest
from harness import RecordingBackend, running_gateway

WEBHOOKS = [file for file in manifest() if file["kind"] != "api"]
UNRECOGNISED = {"contacts", "other"}
"""Kinds of well-formed bodies that no API page describes."""


def items(bodies: list[bytes], array: str) -> list[Any]:
    """All items of an array in bodies of either dialect."""
    found: list[Any] = []
    for body in bodies:
        top = json.loads(body)
        values = [top] if "entry" not in top else []
        values += [
            change.get("value", {}) for entry in top.get("entry", []) for change in entry.get("changes", [])
        ]
        found += [item for value in values if isinstance(value, dict) for item in value.get(array, [])]
    return found


@pytest.mark.parametrize("file", WEBHOOKS, ids=lambda file: file["file"].removesuffix(".json"))
async def test_body_comes_out_as_the_manifest_says(file: dict[str, Any], tmp_path: Path) -> None:
    body = (PAYLOADS / file["file"]).read_bytes()
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        status = await gateway.webhook(body)
        metrics = await gateway.settle()
    came_out = backend.messages + backend.events
    if not file["parses"]:
        assert status == 400
        assert came_out == []
        assert metrics["gateway_webhooks_not_json_total"] == 1
        return
    assert status == 200
    accepted = sum(v for name, v in metrics.items() if name.startswith("gateway_accepted_total"))
    duplicates = sum(v for name, v in metrics.items() if name.startswith("gateway_duplicates_total"))
    assert metrics["gateway_conservation_difference"] == 0
    if file["kind"] == "empty":
        assert came_out == []
        assert accepted == 0
        return
    if file.get("counts"):
        check_items(file, body, backend, duplicates)
    if file["kind"] in UNRECOGNISED:
        assert metrics["gateway_webhooks_unrecognised_total"] == 1
    if not (backend.messages and backend.events) and not duplicates:
        # One destination: byte for byte, whatever is in it.
        assert came_out == [body]
    assert accepted >= 1


def check_items(file: dict[str, Any], body: bytes, backend: RecordingBackend, duplicates: float) -> None:
    """Messages reach the message webhook, statuses and errors the event webhook, every item as it was."""
    counts = Counter(file["counts"])
    messages, statuses, errors = (items([body], array) for array in ("messages", "statuses", "errors"))
    assert (len(messages), len(statuses), len(errors)) == (
        counts["messages"],
        counts["statuses"],
        counts["errors"],
    ), "the manifest counts what the body has"
    assert len(items(backend.messages, "messages")) == len(messages) - duplicates
    assert [item for item in messages if item not in items(backend.messages, "messages")] == []
    assert items(backend.events, "statuses") == statuses
    assert items(backend.events, "errors") == errors
    if not sum(counts.values()):
        assert backend.messages == [body], "what is not of the three kinds goes with the messages"
        assert backend.events == []


async def test_all_bodies_in_a_row_leave_the_books_balanced(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        for file in WEBHOOKS:
            status = await gateway.webhook((PAYLOADS / file["file"]).read_bytes())
            assert status == (200 if file["parses"] else 400), file["file"]
        metrics = await gateway.settle()
    assert metrics["gateway_conservation_difference"] == 0
    refused = sum(not file["parses"] for file in WEBHOOKS)
    assert metrics["gateway_webhooks_not_json_total"] == refused
    assert metrics["gateway_webhooks_total"] == len(WEBHOOKS)


@pytest.mark.parametrize("name", ["onprem_mixed_all.json", "cloud_multi_entry_mixed.json"])
async def test_mixed_body_is_split_and_keeps_unknown_fields(name: str, tmp_path: Path) -> None:
    source = json.loads((PAYLOADS / name).read_bytes())
    source["x_future"] = {"a": [1, 2.50, 12345678901234567890]}
    backend = RecordingBackend()
    async with backend.serving(), running_gateway(tmp_path, backend.port) as gateway:
        assert await gateway.webhook(json.dumps(source).encode()) == 200
        await gateway.settle()
    assert len(backend.messages) == 1
    assert len(backend.events) == 1
    for body in (*backend.messages, *backend.events):
        assert json.loads(body)["x_future"] == source["x_future"]
    assert items(backend.messages, "statuses") == items(backend.events, "messages") == []

"""A whole gateway at a simulated node that loses answers, resets connections and hangs: at most once, or at least once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import push_body
from harness import Harness, RecordingBackend, running_gateway

from gateway.sim.node import SimNode
from gateway.sim.receipts import ReceiptModel

SENDS = 60
NO_RECEIPTS = ReceiptModel(delivered_ratio=0.0, read_ratio=0.0)


async def push_all(gateway: Harness) -> dict[str, str]:
    """Push as many of each policy, each to a recipient of its own; our ids, by the text."""
    ids: dict[str, str] = {}
    for number in range(SENDS):
        for policy in ("park", "resend"):
            text = f"{policy}-{number}"
            body = push_body(to=f"1555{len(ids):07}", text={"body": text})
            code, answer = await gateway.push(body, **{"X-Gateway-Uncertain": policy})
            assert code == 202, answer
            ids[text] = json.loads(answer)["messages"][0]["id"]
    return ids


def failed(backend: RecordingBackend) -> dict[str, dict[str, Any]]:
    """What the event webhook was told of our own ids."""
    items = [item for body in backend.events for item in json.loads(body)["statuses"]]
    ours = [item for item in items if "gateway" in item]
    assert len({item["id"] for item in ours}) == len(ours), "told twice"
    return {item["id"]: item["gateway"] for item in ours}


@pytest.mark.timeout(120)
async def test_parked_sends_go_at_most_once_and_others_at_least_once(tmp_path: Path) -> None:
    backend = RecordingBackend()
    async with backend.serving(), SimNode(tps=1000, seed=5, receipts=NO_RECEIPTS) as node:
        node.faults.is_rate_limited = False
        node.faults.lost_answer_ratio = 0.1
        node.faults.hang_ratio = 0.03
        node.faults.reset_ratio = 0.03
        node.faults.error_ratio = 0.05
        variables = {
            "NODE_URL": node.url,
            "NODE_PASSWORD": "secret-of-the-sim",
            "NODE_TIMEOUT": "300ms",
            "TPS": "1000",
            "SEND_ATTEMPTS": "100",
        }
        async with running_gateway(tmp_path, backend.port, **variables) as gateway:
            ids = await push_all(gateway)
            metrics = await gateway.settle()
            entries = list(node.journal.sends)
    told = failed(backend)
    at_node = Counter(entry.text for entry in entries)
    answered = {entry.text for entry in entries if entry.is_answered}
    parked = {text for text in ids if text.startswith("park")}
    assert max(at_node[text] for text in parked) == 1
    assert set(ids) - parked <= answered, "all others went, and were answered in the end"
    assert max(at_node[text] for text in set(ids) - parked) > 1, "the faults were no faults"
    # Whoever pushed one that must not go twice knows: it went, or it may have.
    assert {ids[text] for text in parked - answered} == set(told)
    assert {item["outcome"] for item in told.values()} == {"failed"}
    assert all(item["reason"].startswith("uncertain: ") for item in told.values())
    assert metrics['gateway_outcome_total{kind="send",outcome="failed"}'] == len(told) > 0
    assert metrics['gateway_accepted_total{kind="failed"}'] == len(told)
    assert metrics["gateway_conservation_difference"] == 0

"""`GATEWAY_STORE_SYNC` in the whole gateway: what it says at the start, and what a kill leaves."""

from pathlib import Path

import aiohttp
import pytest
from builders import message, onprem_body
from process import GatewayProcess


@pytest.mark.parametrize(
    ("sync", "said", "kept"),
    [
        ("full", "", 1),
        ("os", "survives no power cut", 1),
        ("off", "survives no end of the process", 0),
    ],
)
async def test_what_was_acked_survives_a_kill_as_far_as_is_said(
    tmp_path: Path, sync: str, said: str, kept: int
) -> None:
    gateway = GatewayProcess(tmp_path, STORE_SYNC=sync)
    async with gateway:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{gateway.ingest}/webhook", data=onprem_body([message("m1")])) as answer,
        ):
            assert answer.status == 200
        metrics = await gateway.metrics()
        assert metrics['gateway_waiting{kind="message"}'] == 1
        assert metrics["gateway_store_commits_total"] >= 1
        timed = metrics["gateway_store_commit_seconds_count"]
        # The thread counts what it has written, the loop what it has been told of.
        assert timed >= (metrics["gateway_store_commits_total"] if sync != "off" else 0)
        assert sync != "off" or not timed
        assert metrics["gateway_store_log_bytes"] >= 0
        assert metrics["gateway_store_check_ins_total"] >= 0
        await gateway.kill()
    warnings = [line for line in gateway.log_path.read_text().splitlines() if "STORE_SYNC" in line]
    assert len(warnings) == bool(said)
    assert all(said in line and "warning" in line.lower() for line in warnings)
    assert (tmp_path / "store").exists() == bool(kept)
    async with gateway:
        assert (await gateway.metrics())['gateway_waiting{kind="message"}'] == kept
        assert await gateway.terminate() == 0

"""Sends that must not go twice and a slow disk: marked after their moment, they ask the budget again, and never count as gone."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import send_rig
from builders import turns
from send_rig import SENT, SendRig

from gateway.clock import NS_PER_MS, FakeClock
from gateway.events import OnUncertain, SendClass, SendRecord
from gateway.outbound.changes import Changes
from gateway.outbound.send import LATE_NS
from gateway.outbound.withdrawals import Withdrawals
from gateway.store.protocol import Change
from gateway.store.sqlite_store import SqliteStore

PARK = OnUncertain.PARK


def slow_disk(rig: SendRig, delay_ns: int, then: Callable[[], None] = lambda: None) -> list[SendRecord]:
    """Each mark takes `delay_ns`, and `then` happens meanwhile. The marks, as they come."""
    marks: list[SendRecord] = []
    submit = rig.store.submit

    def late(change: Change) -> asyncio.Future[None]:
        stored = submit(change)
        if change.sends_tried and change.sends_tried[0].is_uncertain:
            marks.extend(change.sends_tried)
            rig.clock.advance_ns(delay_ns)
            then()
        return stored

    rig.store.submit = late  # type: ignore[method-assign]
    return marks


@pytest.mark.parametrize(("delay_ns", "grants"), [(LATE_NS, 1), (LATE_NS + 1, 2)])
async def test_one_that_was_late_is_granted_again_and_marked_once(delay_ns: int, grants: int) -> None:
    rig = SendRig(SENT)
    granted = 0
    take = rig.pacer.front.take

    def counted(cls: SendClass, now_ns: int) -> SendRecord:
        nonlocal granted
        granted += 1
        return take(cls, now_ns)

    rig.pacer.front.take = counted  # type: ignore[method-assign]
    marks = slow_disk(rig, delay_ns)
    record = await rig.accept(on_uncertain=PARK)
    work = asyncio.create_task(rig.sender.work())
    while rig.queue.total():
        await turns()
    assert (granted, len(marks), rig.node.calls.count("send")) == (grants, 1, 1)
    assert rig.store.disk.sent[record.seq].outcome.label == "delivered"
    rig.pacer.drain()
    await work


@pytest.mark.parametrize("is_moved", [False, True])
async def test_one_that_waits_at_a_stop_has_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_moved: bool
) -> None:
    monkeypatch.setattr(send_rig, "MemoryStore", lambda clock, _disk: SqliteStore(tmp_path, clock, print))
    rig = SendRig(SENT)
    slow_disk(rig, 10 * NS_PER_MS, rig.pacer.suspend)
    record = await rig.accept(on_uncertain=PARK)
    work = asyncio.create_task(rig.sender.work())
    while not rig.sender._marked:
        await asyncio.sleep(0.001)
    if is_moved:
        withdrawals = Withdrawals(rig.queue, rig.clock)
        changes = Changes(rig.store, rig.queue, None, None, None, withdrawals, asyncio.Lock())  # type: ignore[arg-type]
        assert await changes._move([record.seq], record.cls, SendClass.HIGH)
    rig.pacer.drain()
    await work
    await rig.store.close()
    store = SqliteStore(tmp_path, FakeClock(), print)
    cls = SendClass.HIGH if is_moved else record.cls
    (kept,) = await store.read_sends(cls, 0, 9)
    assert (kept.attempts, kept.is_uncertain) == (0, False)
    assert rig.node.calls == []
    await store.close()

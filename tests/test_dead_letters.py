"""Moving dead letters, page by page, on a store in memory."""

from typing import Any, cast

import pytest
from builders import MemoryStore, inbound, inbound_backlog

from gateway.app import dead_letters
from gateway.app.dead_letters import DeadLetters
from gateway.clock import FakeClock
from gateway.events import InboundClass, InboundRecord
from gateway.outbound.accept import Acceptor
from gateway.store.books import Books
from gateway.store.protocol import Change, Parked, ParkedQuery


class Rig:
    """Five dead letters, moved two at a time; whoever takes them anew gives them up at once, if `fails_again`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails_again: bool) -> None:
        monkeypatch.setattr(dead_letters, "PAGE", 2)
        clock = FakeClock()
        self.store = MemoryStore(clock)
        self.pushed: list[InboundRecord] = []
        self._fails_again = fails_again
        backlog = inbound_backlog(self.store, clock)
        backlog.push = self._push  # type: ignore[method-assign]
        no_sends = cast("Acceptor", None)
        backlogs = dict.fromkeys(InboundClass, backlog)
        self.letters = DeadLetters(self.store, backlogs, no_sends, Books(), clock)

    async def park(self) -> None:
        records = [inbound(self.store.next_seq(), received_ms=7) for _ in range(5)]
        await self.store.submit(Change(inbound=records))
        await self.store.submit(Change(parked=[Parked(record, "HTTP 400", b"", 0) for record in records]))

    def _push(self, record: InboundRecord) -> None:
        self.pushed.append(record)
        if self._fails_again:
            disk: Any = self.store.disk
            disk.parked[record.seq] = Parked(disk.inbound.pop(record.seq), "HTTP 400", b"", 0)


async def test_each_is_tried_once_although_it_is_given_up_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch, fails_again=True)
    await rig.park()
    moved = await rig.letters.retry(ParkedQuery(), 100)
    assert list(moved) == [1, 2, 3, 4, 5]
    assert sorted(rig.store.disk.parked) == sorted(moved.values())


async def test_they_are_new_records_at_the_end_in_order_and_accepted_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch, fails_again=False)
    await rig.park()
    moved = await rig.letters.retry(ParkedQuery(), 100)
    assert [record.seq for record in rig.pushed] == list(moved.values())
    assert list(moved.values()) == sorted(moved.values())
    assert min(moved.values()) > 5
    now_ms = FakeClock().wall_ms()
    assert {record.received_ms for record in rig.pushed} == {now_ms}
    assert rig.store.disk.parked == {}


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_no_more_than_the_limit_are_moved_or_deleted(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(monkeypatch, fails_again=False)
    await rig.park()
    assert list(await rig.letters.retry(ParkedQuery(), limit)) == list(range(1, limit + 1))
    assert await rig.letters.discard(ParkedQuery(), limit) == min(limit, 5 - limit)
    assert sorted(rig.store.disk.parked) == [1, 2, 3, 4, 5][2 * limit :]

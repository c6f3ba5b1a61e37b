"""A courier and who works beside it: who is next at the gate, who else gets a turn of the loop, and what holds up others."""

import asyncio
import gc
import random
from collections import Counter
from typing import Any

from builders import inbound, onprem_body, status
from destination_side import Side, records, well
from virtual_time import run_virtual, virtual_loop

from gateway._fast.courier import Errand
from gateway._fast.ledger import ReceiptLedger
from gateway._fast.sieve import ReceiptSieve
from gateway.app.bridges import Nowhere
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.inbound.compose import Parcel
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.forward import TURN_NS, Forwarder
from gateway.inbound.picks import NOTHING, Pick, Singles
from gateway.store.books import Books

SECRET = bytes(16)


class Sieved(Singles):
    """Usual receipts go by themselves; the others are looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sieve = ReceiptSieve(ReceiptLedger(10), SECRET, 0, lambda: True, lambda _seq: False)


def receipts(count: int, first: int) -> list[InboundRecord]:
    """Usual ones."""
    return [
        inbound(seq, InboundClass.RECEIPT, [Kind.DELIVERED], onprem_body(statuses=[status(f"gBGG{seq}")]))
        for seq in range(first, first + count)
    ]


def test_others_get_their_turn_while_one_record_after_the_other_is_held() -> None:
    async def main() -> None:
        turns, held_at = 0, []

        class Held(Sieved):
            def pick_of(self, record: InboundRecord, is_retry: bool) -> Pick:
                held_at.append(turns)
                virtual_loop().virtual.now_ns += 2 * TURN_NS
                return NOTHING

        async def other() -> None:
            nonlocal turns
            while len(held_at) < 10:
                turns += 1
                await asyncio.sleep(0)

        side = Side(well, picks=Held)
        others = asyncio.create_task(other())
        await side.accept(records(10))
        await others
        assert max(Counter(held_at).values()) <= 2
        await side.stop()

    run_virtual(main())


def test_one_that_does_not_go_by_itself_is_looked_at_although_nothing_else_comes() -> None:
    async def main() -> None:
        side = Side(well, picks=Sieved)
        for record in [*records(1), *receipts(1, 2), *records(1, 3)]:
            await asyncio.sleep(1)
            await side.accept([record])
            await side.empty()
        assert len(side.backend.came_ns) == 3
        await side.stop()

    run_virtual(main())


def test_what_waits_at_the_gate_goes_before_what_starts_by_itself() -> None:
    """Two requests of one pick: the second waits for its place, and not for the queue to be empty."""
    came: list[bytes] = []

    async def answer(body: bytes) -> BackendAnswer:
        came.append(body)
        return await well(body)

    class InTwo(Sieved):
        def pick_of(self, record: InboundRecord, is_retry: bool) -> Pick:
            another = self._backlog.take()
            assert another is not None
            return Pick([Parcel([each], each.body) for each in (record, another)], is_retry)

    async def main() -> None:
        side = Side(answer, 1, picks=InTwo)
        usual = receipts(20, 2)
        await side.accept([*usual, *records(1)])
        await side.empty()
        assert came == [usual[0].body, b"1", *(record.body for record in usual[1:])]
        await side.stop()

    run_virtual(main())


def test_an_errand_that_is_over_holds_nothing_that_holds_it() -> None:
    """Or each record that goes nowhere would be left to the garbage collector."""

    async def main() -> None:
        side = Side(well)
        side.forwarder.backlog.starter = None
        clock = virtual_loop()
        nowhere = Forwarder(
            "nowhere", Nowhere(), side.queue, side.gate, side.picks, 500, 1_000, side.store, Books(), clock,
            random.Random(1),
        )  # fmt: skip
        side.forwarder.drain()
        work = asyncio.create_task(nowhere.work())
        await side.accept(records(3))
        await side.empty()
        assert [thing for thing in gc.get_objects() if type(thing) is Errand] == []
        nowhere.drain()
        await work
        await side.stop()

    gc.collect()
    gc.disable()
    try:
        run_virtual(main())
    finally:
        gc.enable()

"""What can be changed of sends that wait, one or a batch: their class, and whether they are wanted at all.

Until the pacer hands it out a send can be changed, wherever it waits: in line, aside, on disk or for its time.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import orjson

from gateway.errors import StoreError
from gateway.events import SendClass, SendRecord
from gateway.outbound.answers import PushAnswer, Refusals, Refused
from gateway.outbound.batches import BATCH_MAX
from gateway.outbound.endings import Endings
from gateway.outbound.options import read_class
from gateway.outbound.queries import Queries
from gateway.outbound.queue import SendQueue
from gateway.outbound.withdrawals import SCHEDULED, SLICE, Withdrawals
from gateway.store.protocol import SendStatus, Store

_CANCELLED: Final = "cancelled"


class Changes:
    """Changes sends for those who are authorised."""

    def __init__(
        self,
        store: Store,
        queue: SendQueue,
        endings: Endings,
        queries: Queries,
        refusals: Refusals,
        withdrawals: Withdrawals,
        changing: asyncio.Lock,
    ) -> None:
        """`changing` is held meanwhile: so the place that the store tells is the one where a send waits."""
        self._store = store
        self._queue = queue
        self._endings = endings
        self._queries = queries
        self._refusals = refusals
        self._withdrawals = withdrawals
        self._changing = changing

    # -- not wanted any more

    async def cancel(self, send_id: str) -> PushAnswer:
        """End a send that waits. 409 for one that is under way at the node or has ended in another way."""
        try:
            refused = await self._cancel(send_id)
            return await self._queries.find(send_id) if refused is None else self._refusals.answer(refused)
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))

    async def _cancel(self, send_id: str) -> Refused | None:
        async with self._changing:
            status = await self._queries.locate(send_id)
            if status is None or status.state == _CANCELLED:
                return None
            if not status.is_waiting:
                return self._refusals.too_late(f"the send is {status.state}")
            records = self._withdrawals.take_back([status])
            if not records:
                return self._refusals.too_late("the send is under way")
            await self._endings.cancel(records)
            return None

    async def cancel_batch(self, batch_id: str) -> PushAnswer:
        """End all sends of a batch that wait, and tell how many; others are left as they are."""
        try:
            return await self._cancel_batch(batch_id)
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))

    async def _cancel_batch(self, batch_id: str) -> PushAnswer:
        async with self._changing:
            found = await self._store.find_batch(batch_id, 0, BATCH_MAX)
            if not found.counts:
                return self._no_batch(batch_id)
            waiting = [status for status in found.sends if status.is_waiting]
            cancelled = 0
            stored: list[asyncio.Future[None]] = []
            for at in range(0, len(waiting), SLICE):
                # Handed to the store in the same step: whoever cancels us now leaves none of them in between.
                if ended := self._withdrawals.take_back(waiting[at : at + SLICE]):
                    stored.append(self._endings.cancel(ended))
                cancelled += len(ended)
                await asyncio.sleep(0)
            await asyncio.gather(*stored)
        counts = {
            _CANCELLED: cancelled,
            "under_way": len(waiting) - cancelled,
            "ended_before": len(found.sends) - len(waiting),
        }
        return PushAnswer(200, orjson.dumps({"batch_id": batch_id, **counts}))

    # -- another class

    async def reclass(self, send_id: str, priority: str | None) -> PushAnswer:
        """Give a waiting send another class. It survives retries and restarts.

        409 for one that is under way at the node or has ended, 429 when the new class has no room for it.
        """
        new = read_class(priority)
        if isinstance(new, str):
            return self._refusals.answer(self._refusals.invalid(new))
        try:
            async with self._changing:
                status = await self._queries.locate(send_id)
                refused = None if status is None else await self._reclass(status, new)
            return await self._queries.find(send_id) if refused is None else self._refusals.answer(refused)
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))

    async def reclass_batch(self, batch_id: str, priority: str | None) -> PushAnswer:
        """Give all sends of a batch that wait another class, and tell how many have it now."""
        new = read_class(priority)
        if isinstance(new, str):
            return self._refusals.answer(self._refusals.invalid(new))
        counts = {"changed": 0, "under_way": 0, "no_room": 0, "ended_before": 0}
        after_seq = 0
        try:
            while True:
                async with self._changing:
                    found = await self._store.find_batch(batch_id, after_seq, SLICE)
                    if not found.counts:
                        return self._no_batch(batch_id)
                    await self._reclass_page(found.sends, new, counts)
                if len(found.sends) < SLICE:
                    break
                after_seq = found.sends[-1].seq
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))
        return PushAnswer(200, orjson.dumps({"batch_id": batch_id, **counts}))

    async def _reclass_page(
        self, statuses: Sequence[SendStatus], new: SendClass, counts: dict[str, int]
    ) -> None:
        waiting = [status for status in statuses if status.is_waiting]
        counts["ended_before"] += len(statuses) - len(waiting)
        counts["changed"] += sum(status.cls is new for status in waiting)
        for cls in set(SendClass) - {new}:
            of_class = [status for status in waiting if status.cls is cls]
            scheduled = [status.seq for status in of_class if status.state == SCHEDULED]
            counts["changed"] += len(await self._move_scheduled(scheduled, cls, new))
            in_line = [status.seq for status in of_class if status.state != SCHEDULED]
            fitting = in_line[: self._queue.moves.room(new)]
            counts["no_room"] += len(in_line) - len(fitting)
            changed = len(await self._move(fitting, cls, new))
            counts["changed"] += changed
            counts["under_way"] += len(fitting) - changed

    async def _reclass(self, status: SendStatus, new: SendClass) -> Refused | None:
        if not status.is_waiting:
            return self._refusals.too_late(f"the send is {status.state}")
        if status.cls is new:
            return None
        if status.state == SCHEDULED:
            await self._move_scheduled([status.seq], status.cls, new)
            return None
        if not self._queue.moves.room(new):
            return self._refusals.busy("full", f"as many {new.label} sends as fit are in memory")
        moved = await self._move([status.seq], status.cls, new)
        return None if moved else self._refusals.too_late("the send is under way")

    async def _move(self, seqs: Sequence[int], old: SendClass, new: SendClass) -> list[SendRecord]:
        """Those that were moved; the others are under way."""
        withdrawn = self._withdrawals.lift(seqs, old)
        if not withdrawn:
            return []
        moved = await self._store.reclass_sends([*withdrawn], old, new)
        missing = withdrawn.keys() - {record.seq for record in moved}
        assert not missing, f"sends {missing} waited in class {old.label} and are not on disk there"
        for record in moved:
            before = withdrawn[record.seq]
            if before is not None:
                before.cls = new
            self._queue.moves.reinstate(record if before is None else before)
        return moved

    async def _move_scheduled(self, seqs: Sequence[int], old: SendClass, new: SendClass) -> list[SendRecord]:
        if not seqs:
            return []
        moved = await self._store.reclass_sends(seqs, old, new, is_scheduled=True)
        assert len(moved) == len(seqs), (
            f"of sends {seqs} some were scheduled in {old.label} and are not on disk there"
        )
        for record in moved:
            self._queue.unschedule(msgspec.structs.replace(record, cls=old))
            self._queue.schedule(record)
        return moved

    def _no_batch(self, batch_id: str) -> PushAnswer:
        return self._refusals.answer(self._refusals.not_found(f"no batch {batch_id!r}"))

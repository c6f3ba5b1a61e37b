"""What can be changed of sends that wait, one or a batch: their class, and whether they are wanted at all.

Until the pacer hands it out a send can be changed, wherever it waits: in line, aside, on disk or for its time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import orjson

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.events import SendClass, SendRecord
from gateway.outbound.answers import PushAnswer, Refusals, Refused
from gateway.outbound.batches import BATCH_MAX
from gateway.outbound.endings import Endings
from gateway.outbound.options import read_class
from gateway.outbound.queries import Queries
from gateway.outbound.queue import SendQueue
from gateway.store.protocol import SendStatus, Store

WITHDRAW_SLICE: Final = 8
"""Sends withdrawn before the loop has its turn again: each walks over its class, 1 ms at most."""

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
        clock: Clock,
        changing: asyncio.Lock,
    ) -> None:
        """`changing` is held meanwhile: so the place that the store tells is the one where a send waits."""
        self._store = store
        self._queue = queue
        self._endings = endings
        self._queries = queries
        self._refusals = refusals
        self._clock = clock
        self._changing = changing
        self.release: Callable[[int, int], None] = lambda _seq, _now_ns: None
        """Called before a send is withdrawn: whoever has it in hand and has not begun gives it back."""
        self.forget: Callable[[int], None] = lambda _seq: None
        """Called when a send is withdrawn for good: nothing is to be kept for it."""

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
            record = self._withdraw(status)
            if record is None:
                return self._refusals.too_late("the send is under way")
            await self._endings.cancel([record])
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
            for at in range(0, len(waiting), WITHDRAW_SLICE):
                records = [self._withdraw(status) for status in waiting[at : at + WITHDRAW_SLICE]]
                ended = [record for record in records if record is not None]
                # Handed to the store in the same step: whoever cancels us now leaves none of them in between.
                if ended:
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

    def _withdraw(self, status: SendStatus) -> SendRecord | None:
        """Take a send out for good; None: somebody works on it."""
        is_scheduled = status.state == "scheduled"
        record: SendRecord | None = None
        if not is_scheduled:
            self.release(status.seq, self._clock.now_ns())
            try:
                record = self._queue.withdraw(status.seq, status.cls)
            except KeyError:
                return None
        self.forget(status.seq)
        if record is not None:
            return record
        # On disk only: what its end is told of is known without the body.
        return SendRecord(
            status.seq,
            status.id,
            status.cls,
            status.to,
            bool(status.is_group),
            b"",
            status.accepted_ms,
            batch=status.batch,
            not_before_ms=status.not_before_ms,
            expires_ms=status.expires_ms,
            attempts=status.attempts,
            is_uncertain=status.is_uncertain,
            is_scheduled=is_scheduled,
        )

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
        """Give all sends of a batch that wait another class, one after the other, and tell how many have it now."""
        new = read_class(priority)
        if isinstance(new, str):
            return self._refusals.answer(self._refusals.invalid(new))
        counts = {"changed": 0, "under_way": 0, "no_room": 0, "ended_before": 0}
        try:
            found = await self._store.find_batch(batch_id, 0, BATCH_MAX)
            if not found.counts:
                return self._no_batch(batch_id)
            for one in found.sends:
                async with self._changing:
                    status = await self._store.find_send(one.id) if one.is_waiting else None
                    refused = None if status is None else await self._reclass(status, new)
                if status is None or not status.is_waiting:
                    counts["ended_before"] += 1
                elif refused is None:
                    counts["changed"] += 1
                else:
                    counts["no_room" if refused.reason == "full" else "under_way"] += 1
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))
        return PushAnswer(200, orjson.dumps({"batch_id": batch_id, **counts}))

    async def _reclass(self, status: SendStatus, new: SendClass) -> Refused | None:
        if not status.is_waiting:
            return self._refusals.too_late(f"the send is {status.state}")
        if status.cls is new:
            return None
        if status.state == "scheduled":
            await self._move_scheduled(status, new)
            return None
        if not self._queue.has_room_to_move(new):
            return self._refusals.busy("full", f"as many {new.label} sends as fit are in memory")
        return None if await self._move(status, new) else self._refusals.too_late("the send is under way")

    async def _move(self, status: SendStatus, new: SendClass) -> bool:
        seq = status.seq
        self.release(seq, self._clock.now_ns())
        try:
            withdrawn = self._queue.withdraw(seq, status.cls)
        except KeyError:
            return False
        moved = await self._store.reclass_send(seq, status.cls, new)
        assert moved is not None, f"{status.id} waited in class {status.cls.label} and is not on disk there"
        if withdrawn is not None:
            moved.attempts = withdrawn.attempts
            moved.is_uncertain = withdrawn.is_uncertain
        self._queue.reinstate(moved)
        return True

    async def _move_scheduled(self, status: SendStatus, new: SendClass) -> None:
        moved = await self._store.reclass_send(status.seq, status.cls, new, is_scheduled=True)
        assert moved is not None, (
            f"{status.id} was scheduled in class {status.cls.label} and is not on disk there"
        )
        self._queue.unschedule(msgspec.structs.replace(moved, cls=status.cls))
        self._queue.schedule(moved)

    def _no_batch(self, batch_id: str) -> PushAnswer:
        return self._refusals.answer(self._refusals.not_found(f"no batch {batch_id!r}"))

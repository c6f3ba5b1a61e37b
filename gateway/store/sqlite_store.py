"""Group commit: one thread writes, the loop waits, and a whole batch shares one fsync.

Timerless: the thread takes all that has been submitted while it was busy, commits it at once, and wakes
the loop once. Alone, an item commits at the disk's own speed; under load batches grow by themselves.

A failed commit is never retried on the same handle (after a failed fsync nobody knows what is on disk):
everything in the batch and everything after it fails with StoreError, and the process must end. That holds for a full
disk too, though SQLite rolls that back: what the parts have in memory by then is not undone. A damaged file is set aside
when it has been closed, so that the next start does not meet it again.
"""

import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.clock import NS_PER_MS, Clock
from gateway.errors import StoreCorruptError, StoreError
from gateway.events import InboundClass, InboundRecord, SendClass, SendRecord, Side
from gateway.store.protocol import (
    BatchStatus,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    Recovered,
    SendStatus,
    StoredKey,
)
from gateway.store.sqlite_file import SqliteFile

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH_MAX: Final = 512
"""Changes in one commit: bounds what one commit can hold up, and is far beyond where batching pays."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long the loop keeps the GIL while the writer wants it; the default, 5 ms, would be added to each ack."""


class _Write:
    __slots__ = ("change", "future")

    def __init__(self, change: Change, future: asyncio.Future[None]) -> None:
        self.change = change
        self.future = future


class _Read:
    __slots__ = ("call", "future")

    def __init__(self, call: Callable[[SqliteFile], Any], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.future = future


class SqliteStore:
    """The store on one machine. Make it and call it on the loop."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        on_failure: Callable[[StoreError], None],
        *,
        recent_ms: int = 0,
    ) -> None:
        """Open the store in `directory` and start its thread; `on_failure` is called once, on the loop.

        What it recovers tells who was written to in the last `recent_ms`.
        Raises StoreBusyError and StoreError as SqliteFile does.
        """
        self._file = SqliteFile(directory)
        self.secret = self._file.secret
        self.recovered: Recovered = self._recover(clock.wall_ms(), recent_ms)
        self._clock = clock
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._next_seq = self.recovered.next_seq
        self._used_bytes = self._file.used_bytes()
        self._failure: StoreError | None = None
        self._is_closed = False
        self.commits = 0
        self.changes = 0
        self.waiting_changes = 0
        self._waiting_since_ns = 0
        self._jobs: queue.SimpleQueue[_Write | _Read | None] = queue.SimpleQueue()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def _recover(self, now_ms: int, recent_ms: int) -> Recovered:
        try:
            return self._file.recover(now_ms, recent_ms)
        except StoreError as error:
            self._file.close()
            if isinstance(error, StoreCorruptError):
                raise self._file.set_aside(error) from error
            raise

    # -- on the loop

    def next_seq(self) -> int:
        seq = self._next_seq
        self._next_seq = seq + 1
        return seq

    def send_id(self, seq: int) -> str:
        """The id given to the send with this sequence number."""
        return self._file.send_id(seq)

    def submit(self, change: Change) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        if self._failure is not None or self._is_closed:
            future.set_exception(self._failure or StoreError("the store is closed"))
            return future
        if not self.waiting_changes:
            self._waiting_since_ns = self._clock.now_ns()
        self.waiting_changes += 1
        self._jobs.put(_Write(change, future))
        return future

    async def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        return await self._read(lambda file: file.read_inbound(cls, after_seq, limit))

    async def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        return await self._read(lambda file: file.read_sends(cls, after_seq, limit))

    async def find_send(self, send_id: str) -> SendStatus | None:
        return await self._read(lambda file: file.find_send(send_id))

    async def find_send_named(self, node_id: str) -> SendStatus | None:
        return await self._read(lambda file: file.find_send_named(node_id))

    async def find_batch(self, batch: str, after_seq: int, limit: int) -> BatchStatus:
        return await self._read(lambda file: file.find_batch(batch, after_seq, limit))

    async def reclass_send(
        self, seq: int, old: SendClass, new: SendClass, *, is_scheduled: bool = False
    ) -> SendRecord | None:
        return await self._read(lambda file: file.reclass_send(seq, old, new, is_scheduled=is_scheduled))

    async def read_scheduled(self, cls: SendClass, limit: int) -> list[SendRecord]:
        return await self._read(lambda file: file.read_scheduled(cls, limit))

    async def start_sends(self, records: Sequence[SendRecord]) -> None:
        await self._read(lambda file: file.start_sends(records))

    async def find_keys(self, keys: Sequence[str]) -> list[StoredKey]:
        return await self._read(lambda file: file.find_keys(keys))

    async def read_parked(self, query: ParkedQuery, after_seq: int, limit: int) -> list[Parked]:
        return await self._read(lambda file: file.read_parked(query, after_seq, limit))

    def parked_counts(self) -> Mapping[Side, ParkedCount]:
        return self._file.parked_counts

    def parked_dropped(self) -> int:
        return self._file.parked_dropped

    async def forget(self, limits: MemoryLimits) -> bool:
        return await self._read(lambda file: file.forget(limits))

    def _read(self, call: Callable[[SqliteFile], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        if self._failure is not None or self._is_closed:
            future.set_exception(self._failure or StoreError("the store is closed"))
        else:
            self._jobs.put(_Read(call, future))
        return future

    def used_bytes(self) -> int:
        return self._used_bytes

    def oldest_wait_ms(self) -> float:
        """How long a change has been waiting for its commit, at least; 0 when none waits."""
        if not self.waiting_changes:
            return 0.0
        return (self._clock.now_ns() - self._waiting_since_ns) / NS_PER_MS

    @property
    def failure(self) -> StoreError | None:
        """Why the store takes nothing more; None while it does."""
        return self._failure

    async def close(self) -> None:
        """Commit what was submitted, then close the file. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _committed(self, writes: list[_Write], used_bytes: int) -> None:
        self._used_bytes = used_bytes
        self.commits += 1
        self.changes += len(writes)
        try:
            for write in writes:
                for call in write.change.on_commit:
                    call()
        except Exception as error:
            # What is on disk and what is in memory have come apart: end, and read the truth back.
            log.exception("a part failed to take note of a commit")
            self._failed([*writes], StoreError(f"a part failed to take note of a commit: {error!r}"))
            return
        self.waiting_changes -= len(writes)
        # Of those that are left the oldest came after the last batch was taken, which was no later than this.
        self._waiting_since_ns = self._clock.now_ns()
        for write in writes:
            _resolve(write.future, None)

    def _failed(self, jobs: list[_Write | _Read], error: StoreError) -> None:
        self.waiting_changes -= sum(isinstance(job, _Write) for job in jobs)
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)
        if self._failure is None:
            self._failure = error
            log.critical("store failed, nothing more is accepted: %s", error)
            self._on_failure(error)

    # -- on the store's thread

    def _run(self) -> None:
        failure: StoreError | None = None
        is_open = True
        while is_open:
            jobs: list[_Write | _Read] = []
            job = self._jobs.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) >= BATCH_MAX:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            is_open = job is not None
            if failure is None:
                failure = self._perform(jobs)
            else:
                self._wake(self._failed, jobs, failure)
        self._file.close()
        if isinstance(failure, StoreCorruptError):
            log.critical("%s", self._file.set_aside(failure))

    def _perform(self, jobs: list[_Write | _Read]) -> StoreError | None:
        """Commit the writes, then do the reads, which see them. The error, if the store failed."""
        writes = [job for job in jobs if isinstance(job, _Write)]
        if writes:
            try:
                self._file.apply([write.change for write in writes], self._clock.wall_ms())
                used_bytes = self._file.used_bytes()
            except Exception as error:  # noqa: BLE001 - a thread that dies in silence leaves everyone waiting
                failure = self._file.failure("could not write", error)
                self._wake(self._failed, jobs, failure)
                return failure
            self._wake(self._committed, writes, used_bytes)
        for at, job in enumerate(jobs):
            if isinstance(job, _Read):
                try:
                    result = job.call(self._file)
                except Exception as error:  # noqa: BLE001 - as above
                    failure = self._file.failure("could not be read", error)
                    unread: list[_Write | _Read] = [job for job in jobs[at:] if isinstance(job, _Read)]
                    self._wake(self._failed, unread, failure)
                    return failure
                self._wake(_resolve, job.future, result)
        return None

    def _wake(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and what is on disk stays there.
            log.warning("the store finished a batch after the loop was closed")


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)

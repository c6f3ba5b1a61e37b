"""Group commit: one thread writes, the loop waits, and a whole batch shares one fsync.

A commit is one frame of the redo log; the tables get what it says later, many commits at once, or before anything is read.
What is put while the loop looks at all that has come is one entry of it, in the form that it has then.

Timerless for all that somebody waits for: the thread takes what has been submitted while it was busy, commits it at once, and
wakes the loop once. Alone, an item commits at the disk's own speed; under load batches grow by themselves.

A failed commit is never retried on the same handle (after a failed fsync nobody knows what is on disk):
everything in the batch and everything after it fails with StoreError, and the process must end. That holds for a full
disk too, though SQLite rolls that back: what the parts have in memory by then is not undone. A damaged file is set aside
when it has been closed, so that the next start does not meet it again.
"""

import asyncio
import logging
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.errors import StoreCorruptError, StoreError
from gateway.events import InboundClass, InboundRecord, SendClass, SendRecord, Side
from gateway.store.change_codec import encode, merge
from gateway.store.protocol import (
    BatchStatus,
    Change,
    MemoryLimits,
    Parked,
    ParkedCount,
    ParkedQuery,
    Place,
    Recovered,
    SendStatus,
    StoredKey,
    Sync,
    awaited,
)
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_parked import touches

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH_MAX: Final = 512
"""Changes in one commit: bounds what one commit can hold up, and is far beyond where batching pays."""

COMPANY_S: Final = 0.005
"""What need not be on disk at once waits so long for the commit of something that must."""

SPACING_NS: Final = NS_PER_MS
"""Between two small commits. One costs as much as three events (a wake-up of the thread, a sync, a wake-up of the loop), and
a thousand events a second come one by one: so the first of a few goes at once, and the next ones go together."""

CROWD: Final = 8
"""Changes in a commit that is not small: whoever brings so many at once waits for their answers, and no others come."""

CHECK_IN_BYTES: Final = 1 << 18
"""In the log: more is brought into the tables. A quarter of a second of a storm of receipts, in 5 to 10 ms, for which acks
wait; 1 MiB took four times that."""

CHECK_IN_S: Final = 0.5
"""Without a commit, until what the log has is brought into the tables: what a start after a crash would do else."""

_SURVIVES_NO: Final = {
    Sync.OS: "power cut and no crash of the machine",
    Sync.OFF: "end of the process: all of it is kept in memory alone",
}

SWITCH_INTERVAL_S: Final = 0.0005
"""How long the loop keeps the GIL while the writer wants it; the default, 5 ms, would be added to each ack."""


class _Write:
    """Changes that were put together, and what they do."""

    __slots__ = ("changes", "encoded", "touches_parked")

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes
        # As they are now: the records in them go on living.
        entry = merge(changes)
        self.encoded = encode(entry)
        self.touches_parked = touches(entry)


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
        sync: Sync = Sync.FULL,
    ) -> None:
        """Open the store in `directory` and start its thread; `on_failure` is called once, on the loop.

        What it recovers tells who was written to in the last `recent_ms`; `sync` is what "stored" means.
        Raises StoreBusyError and StoreError as SqliteFile does.
        """
        if sync is not Sync.FULL:
            log.warning("STORE_SYNC=%s: what is acked survives no %s", sync.value, _SURVIVES_NO[sync])
        self._file = SqliteFile(directory, sync)
        self.secret = self._file.secret
        self.recovered: Recovered = self._recover(clock.wall_ms(), recent_ms)
        self._clock = clock
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._next_seq = self.recovered.next_seq
        self._used_bytes = self._file.used_bytes()
        self._failure: StoreError | None = None
        self._defect: StoreError | None = None
        """The same as its thread knows it, which is earlier."""
        self._next_commit_ns = 0
        """Not before this, after a small one."""
        self._is_closed = False
        self.commits = 0
        self.changes = 0
        self.waiting_changes = 0
        self._gathered: list[Change] = []
        """Put since the thread was given work, which it is soon or at the end of the timer."""
        self._is_handed_soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since_ns = 0
        self._is_volatile = sync is Sync.OFF
        self._kept: list[_Write] = []
        """Where nothing is to survive: stored, and not with the thread yet."""
        self._kept_bytes = 0
        self._kept_timer: asyncio.TimerHandle | None = None
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

    def put(self, change: Change, *, can_wait: bool = False) -> None:
        if self._failure is not None or self._is_closed:
            self._loop.call_soon(_tell_failure, change, self._failure or StoreError("the store is closed"))
            return
        if not self.waiting_changes:
            self._waiting_since_ns = self._clock.now_ns()
        self.waiting_changes += 1
        self._gathered.append(change)
        if len(self._gathered) >= BATCH_MAX:
            self._hand_over()
        elif can_wait and not self._is_handed_soon:
            if self._timer is None:
                self._timer = self._loop.call_later(COMPANY_S, self._hand_over)
        elif not self._is_handed_soon:
            self._is_handed_soon = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """To the thread, what was put while the loop looked at all that had come: what comes together shares a commit."""
        self._is_handed_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            try:
                write = _Write(gathered)
            except Exception as error:  # noqa: BLE001 - whoever waits for it must not wait for ever
                self._end(self._file.failure("could not write", error), gathered, [])
                return
            if self._is_volatile:
                self._keep(write)
            else:
                self._jobs.put(write)

    def _keep(self, write: _Write) -> None:
        """What is to survive nothing is stored as soon as it is put; the thread is woken for many at once."""
        self._kept.append(write)
        self._kept_bytes += len(write.encoded)
        if self._kept_timer is None:
            self._kept_timer = self._loop.call_later(CHECK_IN_S, self._hand_over_kept)
        self._committed([write], self._used_bytes + len(write.encoded))
        write.changes = []  # they have been told
        if self._kept_bytes >= CHECK_IN_BYTES or write.touches_parked:
            self._hand_over_kept()

    def _hand_over_kept(self) -> None:
        if self._kept_timer is not None:
            self._kept_timer.cancel()
            self._kept_timer = None
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for write in kept:
            self._jobs.put(write)

    def submit(self, change: Change) -> asyncio.Future[None]:
        stored = awaited(change)
        self.put(change)
        return stored

    async def read_inbound(self, cls: InboundClass, after_seq: int, limit: int) -> list[InboundRecord]:
        return await self._read(lambda file: file.read_inbound(cls, after_seq, limit))

    async def read_sends(self, cls: SendClass, after_seq: int, limit: int) -> list[SendRecord]:
        return await self._read(lambda file: file.read_sends(cls, after_seq, limit))

    async def find_inbound(self, places: Sequence[Place]) -> list[InboundRecord]:
        return await self._read(lambda file: file.find_inbound(places))

    async def find_sends(self, places: Sequence[Place]) -> list[SendRecord]:
        return await self._read(lambda file: file.find_sends(places))

    async def find_send(self, send_id: str) -> SendStatus | None:
        return await self._read(lambda file: file.find_send(send_id))

    async def find_send_named(self, node_id: str) -> SendStatus | None:
        return await self._read(lambda file: file.find_send_named(node_id))

    async def find_batch(self, batch: str, after_seq: int, limit: int) -> BatchStatus:
        return await self._read(lambda file: file.find_batch(batch, after_seq, limit))

    async def reclass_sends(
        self, seqs: Sequence[int], old: SendClass, new: SendClass, *, is_scheduled: bool = False
    ) -> list[SendRecord]:
        return await self._read(lambda file: file.reclass_sends(seqs, old, new, is_scheduled=is_scheduled))

    async def read_expiring(self, limit: int) -> list[SendStatus]:
        return await self._read(lambda file: file.read_expiring(limit))

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
            self._hand_over()
            self._hand_over_kept()
            self._jobs.put(_Read(call, future))
        return future

    def used_bytes(self) -> int:
        return self._used_bytes

    def log_bytes(self) -> int:
        """What is committed and not in the tables yet."""
        return self._file.logged_bytes

    def check_ins(self) -> int:
        """How often what the log had was brought into the tables."""
        return self._file.check_ins

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
        self._hand_over()
        self._hand_over_kept()
        self._is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _committed(self, writes: list[_Write], used_bytes: int) -> None:
        self._used_bytes = used_bytes
        changes = [change for write in writes for change in write.changes]
        if not changes:
            return
        self.commits += 1
        self.changes += len(changes)
        done = 0
        try:
            for change in changes:
                for call in change.on_commit:
                    call()
                done += 1
        except Exception as error:
            # What is on disk and what is in memory have come apart: end, and read the truth back.
            log.exception("a part failed to take note of a commit")
            self.waiting_changes -= done
            reason = StoreError(f"a part failed to take note of a commit: {error!r}")
            self._end(reason, changes[done:], [])
            return
        self.waiting_changes -= len(changes)
        # Of those that are left the oldest came after the last batch was taken, which was no later than this.
        self._waiting_since_ns = self._clock.now_ns()

    def _note_used(self, used_bytes: int) -> None:
        self._used_bytes = used_bytes

    def _failed(self, jobs: Sequence[_Write | _Read], error: StoreError) -> None:
        changes = [change for job in jobs if isinstance(job, _Write) for change in job.changes]
        self._end(error, changes, [job for job in jobs if isinstance(job, _Read)])

    def _end(self, error: StoreError, changes: list[Change], reads: list[_Read]) -> None:
        """The store has failed, at these; nobody is told of success any more."""
        is_first = self._failure is None
        if is_first:
            self._failure = error
            log.critical("store failed, nothing more is accepted: %s", error)
        self.waiting_changes -= len(changes)
        if is_first:
            self._on_failure(error)
        for read in reads:
            if not read.future.done():
                read.future.set_exception(error)
        for change in changes:
            _tell_failure(change, error)

    # -- on the store's thread

    def _run(self) -> None:
        is_open = True
        while is_open:
            jobs: list[_Write | _Read] = []
            size = 0
            job = self._next_job()
            while job is not None:
                jobs.append(job)
                size += len(job.changes) if isinstance(job, _Write) else 1
                if size >= BATCH_MAX:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            is_open = job is not None
            self._perform(jobs)
        self._file.close()
        if isinstance(self._defect, StoreCorruptError):
            log.critical("%s", self._file.set_aside(self._defect))

    def _next_job(self) -> _Write | _Read | None:
        """The next to do. What the log has waits for company, and is checked in when none comes."""
        left_ns = self._next_commit_ns - self._clock.now_ns()
        if 0 < left_ns <= SPACING_NS:
            time.sleep(left_ns / NS_PER_S)
        if self._file.logged_bytes and self._defect is None:
            try:
                return self._jobs.get(timeout=CHECK_IN_S)
            except queue.Empty:
                self._check_in(is_idle=True)
        return self._jobs.get()

    def _perform(self, jobs: list[_Write | _Read]) -> None:
        """Commit the writes, then do the reads, which see them."""
        writes = [job for job in jobs if isinstance(job, _Write)]
        reads = [job for job in jobs if isinstance(job, _Read)]
        if writes:
            self._commit(writes)
        if reads or self._file.logged_bytes >= CHECK_IN_BYTES:
            self._check_in()
        for at, read in enumerate(reads):
            if self._defect is not None:
                self._wake(self._failed, reads[at:], self._defect)
                return
            try:
                result = read.call(self._file)
            except (sqlite3.Error, OSError, StoreError) as error:
                self._fail("could not be read", error, reads[at:])
                return
            except Exception as error:
                log.exception("a question to the store is wrong in itself")
                self._wake(_refuse, read.future, error)
                continue
            self._wake(_resolve, read.future, result)

    def _commit(self, writes: list[_Write]) -> None:
        if self._defect is not None:
            self._wake(self._failed, writes, self._defect)
            return
        try:
            self._file.log([write.encoded for write in writes], self._clock.wall_ms())
            if any(write.touches_parked for write in writes):
                self._file.check_in()  # dead letters are looked at from outside
            used_bytes = self._file.used_bytes()
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence leaves everyone waiting
            self._fail("could not write", error, writes)
        else:
            self._wake(self._committed, writes, used_bytes)
            if sum(len(write.changes) for write in writes) < CROWD:
                self._next_commit_ns = self._clock.now_ns() + SPACING_NS

    def _check_in(self, *, is_idle: bool = False) -> None:
        if self._defect is None:
            try:
                self._file.check_in()
                if is_idle:
                    self._file.trim()
                used_bytes = self._file.used_bytes()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail("could not write", error, [])
            else:
                # A full store takes nothing: no commit would ever tell that it has room again.
                self._wake(self._note_used, used_bytes)

    def _fail(self, what: str, error: Exception, jobs: Sequence[_Write | _Read]) -> None:
        """The store has failed, at `jobs`."""
        self._defect = self._file.failure(what, error)
        self._wake(self._failed, jobs, self._defect)

    def _wake(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and what is on disk stays there.
            log.warning("the store finished a batch after the loop was closed")


def _tell_failure(change: Change, error: StoreError) -> None:
    for call in change.on_failure:
        try:
            call(error)
        except Exception:  # the others wait for the same news, and the process ends of the first failure
            log.exception("a part failed to take note of a failure")


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)

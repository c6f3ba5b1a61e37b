"""Group commit: the loop puts changes together, threads store them, and a whole batch shares one fsync.

A commit is one frame of the redo log; the tables get what it says later, many commits at once, or before anything is read.
What is put while the loop looks at all that has come is one entry of it, in the form that it has then. `sqlite_thread.py` is
the threads' side.

When a commit has failed everything in the batch and everything after it fails with StoreError, and the process must end.
That holds for a full disk too, though SQLite rolls that back: what the parts have in memory by then is not undone.
"""

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast

from gateway._fast.gathering import Gathering
from gateway._fast.histogram import LatencyHistogram
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
    Place,
    Recovered,
    SendStatus,
    StoredKey,
    Sync,
    awaited,
)
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_thread import BATCH_MAX, CHECK_IN_BYTES, CHECK_IN_S, Read, StoreThread, Write

log = logging.getLogger(__name__)
T = TypeVar("T")

COMPANY_S: Final = 0.05
"""What need not be on disk at once waits so long for the commit of something that must: at twenty events a second two
thirds of the ends share one, and cost no commit of their own. After a crash what was delivered meanwhile goes once more."""

_SURVIVES_NO: Final = {
    Sync.OS: "power cut and no crash of the machine",
    Sync.OFF: "end of the process: all of it is kept in memory alone",
}

SWITCH_INTERVAL_S: Final = 0.0005
"""How long the loop keeps the GIL while the thread wants it for the tables, row by row. With the default of 5 ms
each row of a page that is read back may wait as long."""


class SqliteStore(Gathering):
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
        self.next_seq: Callable[[], int] = itertools.count(self.recovered.next_seq).__next__
        self._pages_bytes = self._file.pages_bytes()
        self._used_bytes = self._file.used_bytes()
        self.commits = 0
        self._is_volatile = sync is Sync.OFF
        super().__init__(self._loop, clock, 0.0 if self._is_volatile else COMPANY_S, BATCH_MAX)
        self._kept: list[Write] = []
        """Where nothing is to survive: stored, and not with the thread yet."""
        self._kept_bytes = 0
        self._kept_timer: asyncio.TimerHandle | None = None
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = self._make_thread()
        self._thread.start()

    def _make_thread(self) -> StoreThread:
        return StoreThread(self._file, self, self._clock, self._loop)

    def _recover(self, now_ms: int, recent_ms: int) -> Recovered:
        try:
            return self._file.recover(now_ms, recent_ms)
        except StoreError as error:
            self._file.close()
            if isinstance(error, StoreCorruptError):
                raise self._file.set_aside(error) from error
            raise

    # -- on the loop

    def send_id(self, seq: int) -> str:
        """The id given to the send with this sequence number."""
        return self._file.send_id(seq)

    def _refuse(self, change: Change) -> None:
        """Nothing is stored any more."""
        self._loop.call_soon(_tell_failure, change, self._failure or StoreError("the store is closed"))

    def _tell_unmade(self, error: Exception) -> None:
        """What a part has in memory is not put: it must be read back."""
        log.error("a gathered change could not be made", exc_info=error)
        self._end(StoreError(f"a gathered change could not be made: {error!r}"), [], [])

    def _take(self, gathered: list[Change]) -> None:
        """Store what was put together."""
        if self._failure is not None:
            self._end(self._failure, gathered, [])
            return
        try:
            write = Write(gathered)
        except Exception as error:  # noqa: BLE001 - whoever waits for it must not wait for ever
            self._end(self._file.failure("could not write", error), gathered, [])
            return
        if self._is_volatile:
            self._keep(write)
        else:
            self._thread.put(write)

    def _keep(self, write: Write) -> None:
        """What is to survive nothing is stored as soon as it is put; the thread is woken for many at once."""
        self._kept.append(write)
        self._kept_bytes += len(write.encoded)
        if self._kept_timer is None:
            self._kept_timer = self._loop.call_later(CHECK_IN_S, self._hand_over_kept)
        self._used_bytes += len(write.encoded)
        self.commits += 1
        self._tell_changes(write.changes)
        write.changes = []
        if self._kept_bytes >= CHECK_IN_BYTES or write.touches_parked:
            self._hand_over_kept()

    def _hand_over_kept(self) -> None:
        if self._kept_timer is not None:
            self._kept_timer.cancel()
            self._kept_timer = None
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for write in kept:
            self._thread.put(write)

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
            self._thread.put(Read(call, future))
        return future

    def used_bytes(self) -> int:
        return self._used_bytes

    def log_bytes(self) -> int:
        """What is committed and not in the tables yet."""
        return self._file.logged_bytes

    def commit_times(self) -> LatencyHistogram:
        """How long it took to write and sync each commit: the disk's part of the wait for an answer."""
        return self._thread.commit_times

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
        return cast("StoreError | None", self._failure)

    async def close(self) -> None:
        """Commit what was submitted, then close the file. Idempotent."""
        if self._is_closed:
            return
        self._hand_over()
        self._hand_over_kept()
        self._is_closed = True
        await self._thread.close()

    # -- told by the thread, on the loop

    def note_stored(self, writes: Sequence[Write]) -> None:
        """These are on disk."""
        self._used_bytes = self._pages_bytes + self._file.logged_bytes
        if self._is_volatile:
            return  # they were told when they were put
        self.commits = self._thread.commits
        changes = [change for write in writes for change in write.changes]
        if self._failure is None:
            self._tell_changes(changes)
        else:
            self._end(self._failure, changes, [])  # a part failed to take note of what came before

    def note_pages(self, used_bytes: int) -> None:
        """What the tables have in use."""
        self._pages_bytes = used_bytes
        self._used_bytes = used_bytes + self._file.logged_bytes

    def note_failed(self, reads: Sequence[Read], error: StoreError) -> None:
        """The store has failed: these questions have no answer, and nothing is stored any more."""
        changes = [change for write in self._thread.take_unstored() for change in write.changes]
        self._end(error, changes, reads)

    def _tell_failed(self, changes: list[Change], error: Exception) -> None:
        """A part failed to take note of a commit: what is on disk and what is in memory have come apart.

        End, and read the truth back. `changes`: those that were not told.
        """
        log.error("a part failed to take note of a commit", exc_info=error)
        self._end(StoreError(f"a part failed to take note of a commit: {error!r}"), changes, [])

    def _end(self, error: StoreError, changes: list[Change], reads: Sequence[Read]) -> None:
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


def _tell_failure(change: Change, error: StoreError) -> None:
    for call in change.on_failure:
        try:
            call(error)
        except Exception:  # the others wait for the same news, and the process ends of the first failure
            log.exception("a part failed to take note of a failure")

"""The two threads of a store: one commits what is put, the other brings the log into the tables and answers questions.

The first needs the interpreter's lock for nothing (`_fast/log_writer.pyx`): the loop gives it entries as bytes, and hears by a
file descriptor how many are on disk. The second takes the lock for what the tables are asked and told, one thing at a time,
and no commit waits for it, unless the log is full.

Timerless for all that somebody waits for: a thread takes what has come while it was busy, commits it at once, and wakes
the loop once. Alone, an item commits at the disk's own speed; under load batches grow by themselves.

A failed commit is never retried on the same handle (after a failed fsync nobody knows what is on disk): it has failed, with
everything after it. A damaged file is set aside when it has been closed, so that the next start does not meet it again.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from gateway._fast.histogram import LatencyHistogram
from gateway._fast.log_writer import CALLED, HELD, IDLE, MUCH, LogWriter
from gateway.clock import NS_PER_MS, NS_PER_S, Clock
from gateway.errors import StoreCorruptError, StoreError
from gateway.store.change_codec import encode, merge
from gateway.store.protocol import Change
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_parked import touches

log = logging.getLogger(__name__)

BATCH_MAX: Final = 512
"""Changes in one commit: bounds what one commit can hold up, and is far beyond where batching pays."""

SPACING_NS: Final = NS_PER_MS
"""Between two small commits. One costs as much as three events (a wake-up of the thread, a sync, a wake-up of the loop), and
a thousand events a second come one by one: so the first of a few goes at once, and the next ones go together, after this time
or when they are a crowd."""

CROWD: Final = 8
"""Changes in a commit that is not small: whoever brings so many at once waits for their answers, and no others come."""

CHECK_IN_BYTES: Final = 1 << 20
"""In the log: more is brought into the tables. What has ended by then never touches them: with a quarter of it an event cost a
tenth more flat out. Questions wait for it, some 40 ms."""

CHECK_IN_S: Final = 0.5
"""Without a commit, until what the log has is brought into the tables: what a start after a crash would do else."""


class Write:
    """Changes that were put together, and what they do."""

    __slots__ = ("changes", "encoded", "size", "touches_parked")

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes
        self.size = sum(change.size for change in changes)
        # As they are now: the records in them go on living.
        entry = merge(changes)
        self.encoded = encode(entry)
        self.touches_parked = touches(entry)


class Read:
    """A question, and who waits for the answer."""

    __slots__ = ("call", "future")

    def __init__(self, call: Callable[[SqliteFile], Any], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.future = future


class Asker(Protocol):
    """Who is told, on the loop."""

    def note_stored(self, writes: Sequence[Write]) -> None:
        """These are on disk, or with the kernel."""

    def note_failed(self, reads: Sequence[Read], error: StoreError) -> None:
        """The store has failed: these questions have no answer, and no write is stored any more."""

    def note_pages(self, used_bytes: int) -> None:
        """What the tables have in use."""


class StoreThread:
    """The thread that has the tables of one file, and the one that commits. `put` and `close` are called on the loop."""

    def __init__(self, file: SqliteFile, asker: Asker, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.file = file
        self._asker = asker
        self._clock = clock
        self._loop = loop
        self._writer = file.writer
        self._submitted: deque[Write] = deque()
        """With the writer, and not known to be stored."""
        self._jobs: queue.SimpleQueue[Write | Read | None] = queue.SimpleQueue()
        self._defect: StoreError | None = None
        self._thread: threading.Thread | None = None
        self._commits_thread: threading.Thread | None = None
        self._told_pages_bytes = 0
        self.commits = 0
        self.commit_times = LatencyHistogram() if self._writer is None else self._writer.writes

    def start(self) -> None:
        """Start the threads."""
        if self._writer is not None:
            self._loop.add_reader(self._writer.fileno(), self.tell_stored)
            rules = (SPACING_NS, CROWD, BATCH_MAX, CHECK_IN_BYTES, int(CHECK_IN_S * NS_PER_S))
            self._commits_thread = threading.Thread(
                target=self._writer.serve, args=rules, name="commits", daemon=True
            )
            self._commits_thread.start()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def put(self, job: Write | Read) -> None:
        """Give it something to do, after all that was put before."""
        if self._writer is not None and isinstance(job, Write):
            self._submitted.append(job)
            self._writer.submit(job.encoded, job.size, self._clock.wall_ms(), holds=job.touches_parked)
        else:
            self._put_job(job)

    def _put_job(self, job: Write | Read | None) -> None:
        self._jobs.put(job)
        if self._writer is not None:
            self._writer.call()

    def tell_stored(self) -> None:
        """Tell of what the writer has stored. The asker is told everything else after that, too: so the order is kept."""
        if self._writer is None:
            return
        count = self._writer.take_told()
        self.commits = self._writer.commits
        if count:
            self._asker.note_stored([self._submitted.popleft() for _ in range(count)])

    def take_unstored(self) -> list[Write]:
        """What was put and can't be stored any more."""
        unstored = [*self._submitted]
        self._submitted.clear()
        return unstored

    async def close(self) -> None:
        """Do what was put, and let go of the file."""
        assert self._thread is not None, "never started"
        self._put_job(None)
        await asyncio.to_thread(self._thread.join)
        if self._writer is not None:
            self._loop.remove_reader(self._writer.fileno())
            self.tell_stored()
            self._writer.close()

    # -- on the thread that has the tables

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            if isinstance(job, Write):
                self.store([job])
            else:
                self.answer(job)
        self._stop_commits()
        self.file.close()
        if isinstance(self._defect, StoreCorruptError):
            log.critical("%s", self.file.set_aside(self._defect))

    def _stop_commits(self) -> None:
        if self._writer is not None and self._commits_thread is not None:
            self._writer.stop()
            self._commits_thread.join()

    def _next_job(self) -> Write | Read | None:
        """The next to do; meanwhile what the log has comes into the tables."""
        while self._writer is not None and self._defect is None:
            if self._writer.take_call():
                return self._jobs.get()
            self._work_for(self._writer)
        if self._defect is None and self.file.logged_bytes:
            try:
                return self._jobs.get(timeout=CHECK_IN_S)
            except queue.Empty:
                self.check_in(is_idle=True)
        return self._jobs.get()

    def _work_for(self, writer: LogWriter) -> None:
        try:
            reason = self.file.wait(writer)
            if reason == CALLED:
                return
            if reason in {IDLE, MUCH}:
                self.check_in(is_idle=reason == IDLE)
                return
            if reason == HELD:
                self.file.check_in()  # dead letters are looked at from outside
                writer.tell()
            elif self.file.try_store_batch(writer):
                writer.tell()
            self._tell_pages()
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence leaves everyone waiting
            self._fail("could not write", error, [])

    def store(self, writes: Sequence[Write]) -> None:
        """Commit what is not for the writer, with one sync."""
        if self._defect is not None:
            return  # it was told when it failed
        touches_parked = any(write.touches_parked for write in writes)
        try:
            self.file.log([write.encoded for write in writes], self._clock.wall_ms())
            if touches_parked:
                self.file.check_in()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail("could not write", error, [])
            return
        self.commits += 1
        self._wake(self._asker.note_stored, writes)
        if touches_parked or self.file.logged_bytes >= CHECK_IN_BYTES:
            self.check_in()

    def answer(self, read: Read) -> None:
        """Answer a question, which sees all that was put before."""
        self.check_in()
        if self._defect is not None:
            self._wake(self._asker.note_failed, [read], self._defect)
            return
        try:
            result = read.call(self.file)
            self._tell_pages()  # some change the tables
        except (sqlite3.Error, OSError, StoreError) as error:
            self._fail("could not be read", error, [read])
        except Exception as error:
            log.exception("a question to the store is wrong in itself")
            self._wake(_refuse, read.future, error)
        else:
            self._wake(_resolve, read.future, result)

    def check_in(self, *, is_idle: bool = False) -> None:
        """Bring what the log has into the tables."""
        if self._defect is not None or not (is_idle or self.file.logged_bytes):
            return
        try:
            self.file.check_in()
            if is_idle:
                self.file.trim()
            self._tell_pages()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail("could not write", error, [])

    def _tell_pages(self) -> None:
        """What the tables have in use, if that has changed: a full store takes nothing, so no commit would ever tell."""
        pages_bytes = self.file.pages_bytes()
        if pages_bytes != self._told_pages_bytes:
            self._told_pages_bytes = pages_bytes
            self._wake(self._asker.note_pages, pages_bytes)

    def _fail(self, what: str, error: Exception, reads: Sequence[Read]) -> None:
        """The store has failed, at `reads` or at what was put before."""
        self._defect = self.file.failure(what, error)
        if self._writer is not None:
            self._writer.stop()
        self._wake(self._asker.note_failed, reads, self._defect)

    def _wake(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, call, *args)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and what is on disk stays there.
            log.warning("the store finished a batch after the loop was closed")

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        self.tell_stored()
        call(*args)


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)

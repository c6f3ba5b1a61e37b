"""Changes of class, and ends from where a record waits: taken out of a backlog wherever it is, given back or dropped."""

from collections.abc import Callable, Collection
from typing import Generic, cast

from gateway._fast.backlog import Places
from gateway.clock import Clock
from gateway.store.record import R
from gateway.store.waiters import Waiters


class Moves(Generic[R]):
    """Works on the places of one backlog. Each call costs a walk over a class: meant for an operator's hand.

    Between `withdraw` and `reinstate` or `drop` a record is in no class, and pages pass it over.
    """

    def __init__(
        self,
        places: Places[R],
        waiters: Waiters,
        leave_lane: Callable[[R], None],
        want_refills: Callable[[], None],
        stamp_ms: Callable[[R], int],
        clock: Clock,
    ) -> None:
        """`leave_lane` lets the next of a record's lane go; `want_refills` reads back what has room now."""
        self._places = places
        self._waiters = waiters
        self._leave_lane = leave_lane
        self._want_refills = want_refills
        self._stamp_ms = stamp_ms
        self._clock = clock

    def room(self, cls: int) -> int:
        """How many records more a class takes from another; what is moved stays in memory."""
        memory = self._places.memory
        return max(0, memory.aside_max - memory.aside[cls]) if memory.bytes < memory.bytes_max else 0

    def announce(self, record: R) -> None:
        """Count a record of which the store has been asked to put it into its class; `reinstate` it when it has.

        Its sequence number may be any: it does not come at the end of its class, as with `push`.
        """
        self._places.count(record, 1)
        self._places.moving[record.seq] = 0

    # -- out

    def withdraw(self, seq: int, cls: int) -> R | None:
        """Take one waiting record out: itself where it is in memory, None where it is on disk only.

        Raises KeyError for one that does not wait in `cls` any more, as `withdraw_all` leaves it out.
        """
        return self.withdraw_all((seq,), cls)[seq]

    def withdraw_all(self, seqs: Collection[int], cls: int) -> dict[int, R | None]:
        """Take waiting records out, whatever is before them, to be given back with `reinstate` or let go with `drop`.

        The records where they are in memory; None for those on disk only. Those that do not wait in `cls` any more are
        left out: someone works on them, they have ended, or are being moved.
        """
        places = self._places
        wanted = {seq for seq in seqs if seq not in places.taken and seq not in places.moving}
        due_ns: dict[int, int] = {}
        # What waits behind others first: then no lane that is left gives one of those that are to go.
        found = self._from_behind(wanted, cls)
        found |= self._from_released(wanted, cls)
        found |= self._from_delays(wanted, cls, due_ns)
        wanted -= places.ahead[cls]  # they were in memory and have ended
        places.ahead[cls] -= found.keys()
        found |= self._from_disk(wanted, cls)
        found |= self._from_ring(wanted, cls)
        for seq in found:
            places.moving[seq] = due_ns.get(seq, 0)
        if found:
            self._want_refills()
        return found

    def _from_behind(self, wanted: set[int], cls: int) -> dict[int, R | None]:
        lanes, memory = self._places.lanes, self._places.memory
        found: dict[int, R | None] = {}
        if lanes is None:
            return found
        for seq in wanted:
            record = lanes.kept(seq)
            if record is not None and record.cls == cls:
                lanes.take_out(record)
                self._take_away(record)
                found[seq] = record
        wanted -= found.keys()
        for seq in lanes.take_out_numbers(cls, wanted):
            if memory.drop_behind(cls):
                self._waiters.wake_all()
            found[seq] = None
        wanted -= found.keys()
        return found

    def _from_released(self, wanted: set[int], cls: int) -> dict[int, R | None]:
        released = self._places.released
        if not any(released):
            return {}
        found = {record.seq: record for record in released[cls] if record.seq in wanted}
        for record in found.values():
            released[cls].remove(record)
            self._leave_lane(record)
            self._take_away(record)
        wanted -= {record.seq for of_class in released for record in of_class}
        wanted -= found.keys()
        return {**found}

    def _from_delays(self, wanted: set[int], cls: int, due_ns: dict[int, int]) -> dict[int, R | None]:
        delays = self._places.delays
        if not delays.count:
            return {}
        where = delays.where(wanted)
        wanted -= where.keys()
        found: dict[int, R | None] = {}
        for at_ns, record in delays.take_out({seq for seq, of_cls in where.items() if of_cls == cls}):
            due_ns[record.seq] = at_ns
            self._leave_lane(record)
            self._take_away(record)
            found[record.seq] = record
        return found

    def _from_disk(self, wanted: set[int], cls: int) -> dict[int, R | None]:
        places = self._places
        found: dict[int, R | None] = {seq: None for seq in wanted if seq > places.tail_seq[cls]}
        if found:
            places.on_disk[cls] -= len(found)
            places.has_shrunk = True
        wanted -= found.keys()
        return found

    def _from_ring(self, wanted: set[int], cls: int) -> dict[int, R | None]:
        rings, memory = self._places.rings, self._places.memory
        found: dict[int, R | None] = {}
        for _ in range(rings.depth(cls) if wanted else 0):
            record = cast("R", rings.pop(1 << cls))
            if record.seq in wanted:
                memory.bytes -= len(record.body)
                found[record.seq] = record
            else:
                rings.push(cls, record, self._stamp_ms(record))
        return found

    def _take_away(self, record: R) -> None:
        if self._places.memory.take_away(record.cls, len(record.body)):
            self._waiters.wake_all()

    # -- and in again, or gone

    def reinstate(self, record: R) -> None:
        """Give back what was withdrawn, in the class it has now: before what is fresh there, and when it was due."""
        places, cls = self._places, record.cls
        due_ns = max(self._clock.now_ns(), places.moving.pop(record.seq))
        if record.seq > places.tail_seq[cls]:
            if places.on_disk[cls] or places.reading == cls:
                places.ahead[cls].add(record.seq)
            else:
                # Nothing of the class is on disk only, and what is pushed later has a higher number.
                places.tail_seq[cls] = record.seq
                places.ahead[cls].clear()
        places.memory.bytes += len(record.body)
        places.memory.put_aside(cls, len(record.body))
        places.delays.add(record, due_ns)
        self._waiters.expect_at(due_ns)
        self._waiters.wake_all()

    def drop(self, record: R) -> None:
        """Let go of a record that was withdrawn: the store has its outcome."""
        places = self._places
        del places.moving[record.seq]
        if places.reading == record.cls and record.seq > places.tail_seq[record.cls]:
            places.ahead[record.cls].add(record.seq)  # a page from before its end may still have it
        places.count(record, -1)

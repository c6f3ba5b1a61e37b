"""The steps of a backlog that every record takes: pushed, taken, settled.

`gateway.store.backlog` says what the states of a record are, and has the rest: what is read back from disk, what waits for
its time, and who waits for records. These steps look only at what is there, and call it where there is something.

Cost: 0.5 us for the three together; as Python they took four times that.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

cimport cython

from .books cimport INBOUND_KINDS, packed_count
from .lane cimport LaneHolders
from .memory cimport Memory
from .ring cimport EVERY_CLASS, PriorityRings


cdef inline int64_t size_of(object record) except -1:
    return PyBytes_GET_SIZE(<bytes?>record.body)


@cython.final
cdef class Places:
    def __cinit__(self, int classes, Py_ssize_t slots, int kinds, Memory memory not None, delays, lanes, released,
                  refill_wanted):
        self.memory = memory
        self.rings = PriorityRings([slots] * classes)
        self.on_disk = [0] * classes
        self.tail_seq = [0] * classes
        self.ahead = [set() for _ in range(classes)]
        self.reading = -1
        self.taken = {}
        self.delays = delays
        self.lanes = lanes
        self.released = released
        self.moving = {}
        self.waiting = [0] * kinds
        self.refill_wanted = refill_wanted

    @classmethod
    def __class_getitem__(cls, _item):
        return cls

    cpdef int count(self, object record, int change) except -1:
        cdef object counts = getattr(record, "counts", None)
        cdef object kind, n
        cdef int inbound_kind
        cdef int64_t events
        if counts is None:  # a send
            for kind, n in record.kind_counts():
                self.waiting[<int?>kind] += change * n
            return 0
        for inbound_kind in range(INBOUND_KINDS):
            events = packed_count(counts, inbound_kind)
            if events:
                self.waiting[inbound_kind] += change * events
        return 0


cdef class Starter:
    cdef int start(self) except -1:
        raise NotImplementedError


cdef class HotBacklog:
    def __init__(self, Places places not None, waiters, stamp_ms, clock):
        self._places = places
        self.memory = places.memory
        self._rings = places.rings
        self._lanes = places.lanes
        self._waiters = waiters
        self._sleepers = waiters.waiting
        self._stamp_ms = stamp_ms
        self._clock = clock

    @classmethod
    def __class_getitem__(cls, _item):
        return cls

    # -- in

    def push(self, record):
        self.enter(record)
        self.kick()

    cdef int enter(self, object record) except -1:
        cdef Places places = self._places
        cdef Memory memory = self.memory
        cdef int cls = record.cls
        cdef object seq = record.seq
        places.count(record, 1)
        # While a page is on its way, which may have this record too, it counts as being on disk.
        if (
            not places.on_disk[cls]
            and memory.bytes < memory.bytes_max
            and places.reading != cls
            and self._rings.put(cls, record, self._stamp_ms(record))
        ):
            assert seq > places.tail_seq[cls], (seq, places.tail_seq[cls])
            places.tail_seq[cls] = seq
            if places.ahead[cls]:
                places.ahead[cls].clear()
            memory.bytes += size_of(record)
            if self.starter is None and self._sleepers:
                self._waiters.wake_one()
        else:
            places.on_disk[cls] += 1
            if self._wants_refill(cls):  # the bytes are another class's, and this one has nothing in memory
                places.refill_wanted.set()
        return 0

    cdef int kick(self) except -1:
        if self.starter is not None:
            self.starter.start()
            if self._sleepers and self.first_fresh(EVERY_CLASS) >= 0:
                self._waiters.wake_one()
        return 0

    # -- out

    def take(self, uint32_t allowed=EVERY_CLASS, *, bint prefers_fresh=False, bint only_fresh=False):
        return self.take_next(allowed, prefers_fresh, only_fresh)

    cdef object take_next(self, uint32_t allowed, bint prefers_fresh, bint only_fresh):
        cdef Places places = self._places
        cdef object record
        cdef int due, cls
        while True:
            due = -1 if only_fresh or not places.delays.count else self.first_due(allowed)
            cls = self.first_fresh(allowed)
            self.took_delayed = due >= 0 and (cls < 0 or (due <= cls and not prefers_fresh))
            if self.took_delayed:
                record = places.delays.pop(due)
            elif cls < 0:
                return None
            else:
                record = self.pop_fresh(cls)
            if self._lanes is None or self._lanes.may_go(record):
                places.taken[record.seq] = record
                return record
            self._leave_behind(self._lanes, record)

    cdef int first_due(self, uint32_t allowed) except? -1:
        """The first allowed class with a delayed record that is due; -1 for none."""
        cdef object now_ns = self._clock.now_ns()
        cdef int due = self._places.delays.first_due(allowed, now_ns)
        if due < 0:
            self._waiters.looked_ns = now_ns
        return due

    cdef int first_fresh(self, uint32_t allowed) except? -1:
        """The first allowed class with a fresh record; -1 for none."""
        cdef int fresh = self._rings.first_class(allowed & ~self.memory.closed)
        cdef list released = self._places.released
        cdef int cls
        for cls in range(len(released)):
            if fresh >= 0 and cls > fresh:
                break
            if allowed >> cls & 1 and released[cls]:
                return cls
        return fresh

    cdef object pop_fresh(self, int cls):
        """The next fresh record of a class whatever its lane; it is aside from here on."""
        cdef Places places = self._places
        cdef object record
        if places.released[cls]:
            return places.released[cls].popleft()
        record = self._rings.take(<uint32_t>1 << cls)
        self.memory.put_aside(cls, size_of(record))
        if places.on_disk[cls] and self._wants_refill(cls):
            places.refill_wanted.set()
        return record

    def has_ready(self, uint32_t allowed=EVERY_CLASS):
        if self.first_fresh(allowed) >= 0:
            return True
        return self._places.delays.count > 0 and self.first_due(allowed) >= 0

    def has_fresh(self, uint32_t allowed=EVERY_CLASS):
        cdef object record
        cdef int cls
        while True:
            cls = self.first_fresh(allowed)
            if cls < 0:
                return False
            if self._lanes is None or self._places.released[cls]:
                return True
            record = self.pop_fresh(cls)
            if self._lanes.may_go(record):
                self._places.released[cls].append(record)
                return True
            self._leave_behind(self._lanes, record)

    # -- behind

    def leave_lane(self, record):
        self.free_lane(record)

    def settle(self, record):
        self.let_go(record)

    cdef int let_go(self, object record) except -1:
        cdef Places places = self._places
        cdef object behind
        del places.taken[record.seq]
        self.free_lane(record)
        if self.memory.take_away(record.cls, size_of(record)):
            self._waiters.wake_all()
        places.count(record, -1)
        for behind in places.on_disk:
            if behind:
                self._want_refills()
                break
        return 0

    cdef int free_lane(self, object record) except -1:
        """A record is no longer of its lane: the next one of it may go."""
        cdef object released
        if self._lanes is None:
            return 0
        released = self._lanes.let_go(record)
        if released is not None:
            self.release(released)
        elif self._lanes.unread:
            self._places.refill_wanted.set()
        return 0

    cdef int release(self, object record) except -1:
        self._places.released[<int?>record.cls].append(record)
        if self._sleepers:
            self._waiters.wake_one()
        return 0

    def _release(self, record):
        self.release(record)

from libc.stdint cimport int64_t, uint32_t

from .lane cimport LaneHolders
from .memory cimport Memory
from .ring cimport PriorityRings


cdef class Places:
    cdef readonly Memory memory
    cdef readonly PriorityRings rings  # fresh ones, in memory
    cdef readonly list on_disk  # records of each class behind its ring, on disk only
    cdef readonly list tail_seq
    cdef readonly list ahead
    cdef public int reading
    cdef public bint has_shrunk
    cdef readonly dict taken
    cdef readonly object delays
    cdef readonly LaneHolders lanes
    cdef readonly list released
    cdef readonly dict moving
    cdef readonly list waiting
    cdef readonly object refill_wanted

    cpdef int count(self, object record, int change) except -1


cdef class Starter:
    # Take what may go, at once; called when something has come.
    cdef int start(self) except -1


cdef class HotBacklog:
    cdef public Starter starter  # or None
    cdef readonly Places _places
    cdef readonly Memory memory
    cdef readonly object _waiters
    cdef readonly object _stamp_ms
    cdef readonly object _clock
    cdef public bint took_delayed

    cdef PriorityRings _rings
    cdef LaneHolders _lanes
    cdef object _sleepers

    # After some, `kick`: where there is a starter, nobody else is woken for what it takes.
    cdef int enter(self, object record) except -1
    cdef int kick(self) except -1
    cdef object take_next(self, uint32_t allowed, bint prefers_fresh, bint only_fresh)
    cdef int let_go(self, object record) except -1
    cdef int free_lane(self, object record) except -1
    cdef int first_fresh(self, uint32_t allowed) except? -1
    cdef int first_due(self, uint32_t allowed) except? -1
    cdef object pop_fresh(self, int cls)
    cdef int release(self, object record) except -1

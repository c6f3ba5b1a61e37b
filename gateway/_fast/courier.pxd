from libc.stdint cimport int64_t

from .backlog cimport HotBacklog, Starter
from .books cimport INBOUND_KINDS, BookTotals
from .endpoint cimport BaseEndpoint
from .exchange cimport Exchange
from .gate cimport GateCore
from .histogram cimport LatencyHistogram
from .limit cimport Passage
from .sieve cimport ReceiptSieve
from .stamps cimport Stamper
from .waits cimport LeastWait


cdef class Courier(Starter):
    cdef readonly set under_way  # errands without an answer
    cdef readonly int64_t settling  # ends that are not on disk yet
    cdef readonly int64_t delivered
    cdef readonly LatencyHistogram latency
    cdef public bint is_draining
    cdef public bint gives_way

    cdef HotBacklog _backlog
    cdef GateCore _gate
    cdef LeastWait _waits  # None: it starts nothing of itself
    cdef ReceiptSieve _sieve  # None: every record goes as it is
    cdef object _left  # a record that was taken and does not, and whether it is a retry
    cdef BaseEndpoint _endpoint  # None: requests go through _post_soon
    cdef object _post_soon
    cdef Stamper _stamper  # None: all lines are written by _lines
    cdef object _lines
    cdef object _clock
    cdef object _gather
    cdef object _hurry
    cdef object _make_change
    cdef object _entry_of
    cdef tuple _kinds
    cdef object _as_delivered
    cdef BookTotals _books
    cdef object _unusual
    cdef object _recovered
    cdef object _ended
    cdef object _failed
    cdef bint _wants_bodies
    cdef Ends _open

    cdef bint _starts(self) except -1
    cdef int go(
        self, list records, bytes body, object parcel, Passage passage, int64_t now_ns, int64_t wall_ms
    ) except -1
    cdef int conclude(self, Errand errand, bint is_plain_success, object answer) except -1
    cdef int deliver(self, Errand errand) except -1
    cdef int settle(self, object record) except -1


cdef class Errand(Exchange):
    cdef readonly list records
    cdef readonly object parcel  # None: the one record, byte for byte
    cdef readonly Passage passage
    cdef Courier _courier
    cdef object _request  # where it did not go through an endpoint

    cdef bint _is_plain(self, int status, const char* body, Py_ssize_t size) noexcept


cdef class Ends:
    cdef readonly list records
    cdef int64_t[INBOUND_KINDS] kinds  # events in them
    cdef Courier _courier
    cdef bint _is_told

    cdef int count(self, bytes counts) except -1

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .books cimport BookTotals
from .ledger cimport ReceiptLedger
from .seen cimport SeenSet
from .usual_webhook cimport Usual
from .waits cimport LeastWait

cdef enum:
    USUAL_KINDS = 5  # a message, and the four statuses that have a name of their own


cdef class Intake:
    cdef readonly int64_t webhooks
    cdef public int64_t pending
    cdef public object on_webhook

    cdef object _take_unusual
    cdef object _plain_kinds
    cdef object _gather
    cdef object _make_change
    cdef object _next_seq
    cdef object _clock
    cdef object _charge
    cdef object _tell
    cdef object _make_record
    cdef object _entry_of
    cdef object _note_receipt
    cdef object _refusal_of
    cdef BookTotals _books
    cdef LeastWait _waits
    cdef object _ok
    cdef tuple _forms
    cdef tuple _kinds
    cdef list _backlogs
    cdef SeenSet _seen
    cdef SeenSet _charged
    cdef ReceiptLedger _ledger
    cdef bytes _secret
    cdef int64_t _pending_max
    cdef Batch _open
    cdef uint32_t _plain  # while a batch is open: a bit for each kind, and one for each kind in groups

    cdef bint take_usual(self, bytes body, object answer, object now_ns) except -1
    cdef Batch _begin(self)
    cdef int _enter(self, Batch batch, uint64_t message, int kind, int64_t wall_ms) except -1


cdef class Batch:
    cdef readonly list records
    cdef readonly list answers
    cdef int64_t[USUAL_KINDS] kinds  # events of each kind
    cdef readonly bytearray fingerprints
    cdef readonly bytearray ledger_items
    cdef readonly object latest_ns  # when the last of them came
    cdef Intake _intake
    cdef Py_ssize_t _answered  # of the answers, or being so
    cdef bint _is_told  # that it is stored: its webhooks are not pending any more

"""Which receipts go as they are, each by itself, so that nobody has to look at them once more when their turn comes.

That is so while nothing gives way and no policy puts receipts together, for a record that is one usual status, not too
old, of a message whose receipts are all wanted, and of no send whose name may be unknown. For all others
`gateway.inbound.compose` and `early` say what becomes of them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

cimport cython

from .ledger cimport Entry, ReceiptLedger
from .siphash cimport require_secret, siphash24
from .usual_webhook cimport Usual, scan


@cython.final
cdef class ReceiptSieve:
    def __cinit__(
        self, ReceiptLedger ledger not None, bytes secret not None, int64_t age_max_ms, forwards_each, may_be_nameless
    ):
        require_secret(secret)
        self._ledger = ledger
        self._secret = secret
        self._age_max_ms = age_max_ms
        self._forwards_each = forwards_each
        self._may_be_nameless = may_be_nameless

    def lets_through(self, record, int64_t wall_ms):
        return self.is_open() and self.passes(record, wall_ms)

    cdef bint is_open(self) except -1:
        return self._forwards_each()

    cdef bint passes(self, object record, int64_t wall_ms) except -1:
        cdef bytes body = record.body
        cdef const char* data = PyBytes_AS_STRING(body)
        cdef Usual found
        cdef const Entry* entry
        if 0 < self._age_max_ms < wall_ms - <int64_t>record.received_ms:
            return False
        if not scan(data, PyBytes_GET_SIZE(body), &found) or found.kind == 0:
            return False
        entry = self._ledger.find(
            siphash24(
                <const unsigned char*>data + found.id.start,
                <size_t>found.id.size,
                <const unsigned char*>PyBytes_AS_STRING(self._secret),
            )
        )
        if entry is not NULL and entry.mask:
            return False
        return not self._may_be_nameless(record.seq)

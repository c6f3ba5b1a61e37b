"""The usual webhook on its way in, in one step: decoded, known to be new, charged, made a record, and put with the others
that come in the same turn of the loop into one change for the store.

Usual is one message or one status (`usual_webhook.pyx`) that is new and about which nothing has to be decided, as
`plain_kinds` says once for a batch: nothing gives way, no policy drops its kind, and the store has room. Everything else is
given to `take_unusual`, which is `gateway.inbound.receive`: it says what the rules are, and does for one webhook what this
does for most. `tests/test_receive_usual.py` compares the two.

Cost: 2.1 us a message in a batch of sixteen, its change, its push and a disk that is a list included
(`bench/hot_paths.py`); each as a change of its own took 7.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cython

from .backlog cimport HotBacklog
from .books cimport BookTotals, book_entries
from .front_connection cimport Connection
from .ledger cimport Entry, LogItem, ReceiptLedger
from .seen cimport SeenSet
from .siphash cimport require_secret, siphash24
from .usual_webhook cimport KEY_MAX, Usual, scan, text_of, write_key
from .waits cimport LeastWait

cdef enum:
    CLASSES = 3
    MARK_BYTES = 8
    MS_PER_S = 1000

cdef double NS_PER_MS = 1e6

assert sizeof(LogItem) == 16


@cython.final
cdef class Intake:
    def __cinit__(
        self,
        *,
        take_unusual,
        plain_kinds,
        gather,
        make_change,
        next_seq,
        clock,
        charge,
        tell,
        make_record,
        entry_of,
        note_receipt,
        refusal_of,
        ok,
        BookTotals books not None,
        LeastWait waits not None,
        tuple forms not None,
        list backlogs not None,
        SeenSet seen not None,
        SeenSet charged not None,
        ReceiptLedger ledger not None,
        bytes secret not None,
        int64_t pending_max,
    ):
        cdef object backlog, form
        require_secret(secret)
        if len(forms) != USUAL_KINDS or len(backlogs) != CLASSES:
            raise ValueError(f"{len(forms)} forms and {len(backlogs)} backlogs, must be {USUAL_KINDS} and {CLASSES}")
        self._take_unusual = take_unusual
        self._plain_kinds = plain_kinds
        self._gather = gather
        self._make_change = make_change
        self._next_seq = next_seq
        self._clock = clock
        self._charge = charge
        self._tell = tell
        self._make_record = make_record
        self._entry_of = entry_of
        self._note_receipt = note_receipt
        self._refusal_of = refusal_of
        self._books = books
        self._waits = waits
        self._ok = ok
        self._forms = forms
        self._kinds = tuple([form[3] for form in forms])
        for backlog in backlogs:
            if not isinstance(backlog, HotBacklog):
                raise TypeError(f"a backlog is a {type(backlog).__name__}")
        self._backlogs = backlogs
        self._seen = seen
        self._charged = charged
        self._ledger = ledger
        self._secret = secret
        self._pending_max = pending_max
        self.on_webhook = None

    def take(self, bytes body not None, answer):
        cdef object now_ns = self._clock.now_ns()
        self.webhooks += 1
        if not self.take_usual(body, answer, now_ns):
            if self.on_webhook is not None:
                self.on_webhook()
            self._take_unusual(body, answer, now_ns)

    cdef bint take_usual(self, bytes body, object answer, object now_ns) except -1:
        cdef const char* data = PyBytes_AS_STRING(body)
        cdef char[KEY_MAX] key
        cdef Usual found
        cdef uint64_t mark, message = 0
        cdef const Entry* entry
        cdef Batch batch
        cdef object wall_ms
        cdef tuple form
        cdef bint is_new
        if self.pending >= self._pending_max or not scan(data, PyBytes_GET_SIZE(body), &found):
            return False
        mark = siphash24(
            <const unsigned char*>key,
            <size_t>write_key(data, &found, key),
            <const unsigned char*>PyBytes_AS_STRING(self._secret),
        )
        if self._seen.has(mark) or (self._charged._held and self._charged.has(mark)):
            return False
        if found.kind:
            message = siphash24(
                <const unsigned char*>data + found.id.start,
                <size_t>found.id.size,
                <const unsigned char*>PyBytes_AS_STRING(self._secret),
            )
            entry = self._ledger.find(message)
            if entry is not NULL and entry.mask:
                return False  # whoever sent the message does not want all receipts of it
        batch = self._open
        is_new = batch is None
        if is_new:
            self._plain = self._plain_kinds()
        if not self._plain >> (2 * found.kind + found.is_group) & 1:
            return False
        if is_new:
            batch = self._begin()
        form = <tuple>self._forms[found.kind]
        wall_ms = self._clock.wall_ms()
        batch.records.append(
            self._make_record(self._next_seq(), form[0], text_of(data, found.lane), body, form[1], wall_ms)
        )
        batch.answers.append(answer)
        batch.kinds[found.kind] += 1
        batch.fingerprints += PyBytes_FromStringAndSize(<char*>&mark, MARK_BYTES)
        batch.latest_ns = now_ns
        # Remembered before it is on disk: if the commit fails the process ends, and this with it.
        self._seen.insert(mark)
        if found.kind:
            self._enter(batch, message, found.kind, wall_ms)
        self.pending += 1
        if is_new:
            self._open = batch
            self._gather(self._close)  # which it may call at once
        # Only now: a part that fails must not keep from the disk what is remembered, and so answered when it is repeated.
        if form[2] is not None:
            self._charge(form[2], 1, now_ns)
            if found.kind:
                self._tell(form[2], text_of(data, found.id), text_of(data, found.participant), now_ns)
        return True

    cdef Batch _begin(self):
        """A new batch."""
        cdef Batch batch = Batch.__new__(Batch)
        batch._intake = self
        batch.records = []
        batch.answers = []
        batch.fingerprints = bytearray()
        batch.ledger_items = bytearray()
        if self.on_webhook is not None:
            self.on_webhook()
        return batch

    cdef int _enter(self, Batch batch, uint64_t message, int kind, int64_t wall_ms) except -1:
        """A receipt is entered in the ledger, and in its log."""
        cdef LogItem item
        cdef int64_t at_s = wall_ms // MS_PER_S
        item.fingerprint = message
        item.at_s = <uint32_t>(at_s if at_s > 1 else 1)
        item.level = <unsigned char>kind
        item.mask = 0
        item.spare = 0
        self._ledger.note(message, kind, item.at_s)
        if not batch.ledger_items:
            # At once: who looks in this turn must know that the ledger has something young.
            self._note_receipt(wall_ms)
        batch.ledger_items += PyBytes_FromStringAndSize(<char*>&item, sizeof(LogItem))
        return 0

    def _close(self):
        """The change of the open batch. What comes now begins another one."""
        cdef Batch batch = self._open
        self._open = None
        return self._make_change(
            inbound=batch.records,
            fingerprints=bytes(batch.fingerprints),
            books=book_entries(self._entry_of, self._kinds, None, batch.kinds),
            ledger_items=bytes(batch.ledger_items),
            on_commit=[batch.stored],
            on_failure=[batch.failed],
            size=len(batch.records),
        )


@cython.final
@cython.nonecheck(True)
cdef class Batch:
    def stored(self):
        cdef Intake intake = self._intake
        cdef object record, answer, ok, backlog
        cdef int cls, kind
        for kind in range(USUAL_KINDS):
            intake._books.accept(kind, self.kinds[kind])
        # In the order in which they came, and each to the queue of its kind.
        for record in self.records:
            cls = record.cls
            (<HotBacklog>intake._backlogs[cls]).enter(record)
        intake.pending -= len(self.answers)
        self._is_told = True
        intake._waits.put((<int64_t>intake._clock.now_ns() - <int64_t>self.latest_ns) / NS_PER_MS)
        ok = intake._ok
        for answer in self.answers:
            self._answered += 1
            if type(answer) is Connection:
                (<Connection>answer).answer_ok()
            else:
                answer(ok)
        for backlog in intake._backlogs:
            (<HotBacklog>backlog).kick()

    def failed(self, error):
        cdef object refusal = self._intake._refusal_of(error)
        cdef object problem = None
        if not self._is_told:
            self._intake.pending -= len(self.answers)
        # Also after `stored` got as far as some of them, and whatever one of them does: the others wait.
        while self._answered < len(self.answers):
            self._answered += 1
            try:
                self.answers[self._answered - 1](refusal)
            except Exception as trouble:
                problem = trouble
        if problem is not None:
            raise problem

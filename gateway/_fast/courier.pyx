"""From the queue to the backend and to the end on disk, in one step each: the usual record of the usual destination.

`start` takes what may go, as long as it may, and posts it; the answer that says 2xx and no more settles the record, and
starts the next. Ends of one turn of the loop are one change for the store. Everything else is `gateway.inbound.forward`,
which says what the rules are: receipts put together, what an answer means that is no success, replies, breaker, drain.

Who holds what: the courier its errands while they are under way; an errand its record, which stays taken.

Cost: 3.0 us from the push to the end on a disk that is a list, sixteen in a turn, with the HTTP client and without what
transports do (`bench/hot_paths.py`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

cimport cython

from .backlog cimport HotBacklog, Starter
from .books cimport INBOUND_KINDS, BookTotals, book_entries, packed_count
from .endpoint cimport BaseEndpoint
from .exchange cimport Exchange
from .gate cimport GateCore
from .histogram cimport LatencyHistogram
from .limit cimport Passage
from .response cimport Response, whole_response
from .ring cimport EVERY_CLASS
from .sieve cimport ReceiptSieve
from .stamps cimport Stamper
from .waits cimport LeastWait

cdef enum:
    NS_PER_MS = 1_000_000
    # Ends that wait for the commit of something else: more go by themselves, for their records are in hand until then. So
    # do fewer while that closes a class of the backlog.
    CROWD = 64


cdef inline bint is_silent(const char* body, Py_ssize_t size) noexcept nogil:
    """Whether an answer's body asks for nothing: it is empty, or an empty object."""
    return size == 0 or (size == 2 and body[0] == b"{" and body[1] == b"}")


@cython.final
cdef class Courier(Starter):
    def __cinit__(
        self,
        *,
        HotBacklog backlog not None,
        GateCore gate not None,
        LeastWait waits,
        ReceiptSieve sieve,
        BaseEndpoint endpoint,
        post_soon,
        Stamper stamper,
        lines not None,
        clock not None,
        gather not None,
        hurry not None,
        make_change not None,
        entry_of not None,
        tuple kinds not None,
        delivered not None,
        BookTotals books not None,
        unusual not None,
        recovered not None,
        ended not None,
        failed not None,
    ):
        if len(kinds) != INBOUND_KINDS:
            raise ValueError(f"{len(kinds)} kinds, must be {INBOUND_KINDS}")
        self.under_way = set()
        self.latency = LatencyHistogram()
        self._backlog = backlog
        self._gate = gate
        self._waits = waits
        self._sieve = sieve
        self._endpoint = endpoint
        self._post_soon = post_soon
        self._stamper = stamper
        self._lines = lines
        self._clock = clock
        self._gather = gather
        self._hurry = hurry
        self._make_change = make_change
        self._entry_of = entry_of
        self._kinds = kinds
        self._as_delivered = delivered
        self._books = books
        self._unusual = unusual
        self._recovered = recovered
        self._ended = ended
        self._failed = failed

    def want_bodies(self):
        self._wants_bodies = True

    # -- what goes next

    def start_ready(self):
        self.start()
        return self._starts()

    def take_left(self):
        cdef object left = self._left
        self._left = None
        return left

    cdef bint _starts(self) except -1:
        """Whether it starts what is ready, as things are."""
        if self._waits is None or self.is_draining or self.gives_way or self._left is not None:
            return False
        return self._sieve is None or self._sieve.is_open()

    cdef int start(self) except -1:
        cdef GateCore gate = self._gate
        cdef HotBacklog backlog = self._backlog
        cdef int64_t now_ns, wall_ms
        cdef object record
        if not self._starts():
            return 0
        while True:
            now_ns = self._clock.now_ns()
            if gate.opens_at(now_ns) > now_ns:
                return 0
            record = backlog.take_next(EVERY_CLASS, gate.wants_fresh(), not gate.takes_retry())
            if record is None:
                return 0
            wall_ms = self._clock.wall_ms()
            # A probe of a destination in trouble has got nowhere yet, so its wait is not over.
            if not backlog.took_delayed and gate.breaker.is_well():
                self._waits.put(wall_ms - <int64_t>record.received_ms)
            if self._sieve is not None and not self._sieve.passes(record, wall_ms):
                self._left = (record, backlog.took_delayed)
                backlog.wake_all()
                return 0
            self.go([record], record.body, None, gate.pass_through(now_ns, backlog.took_delayed), now_ns, wall_ms)

    def carry(self, list records not None, bytes body not None, parcel, Passage passage not None):
        self.go(records, body, parcel, passage, self._clock.now_ns(), self._clock.wall_ms())

    cdef int go(
        self, list records, bytes body, object parcel, Passage passage, int64_t now_ns, int64_t wall_ms
    ) except -1:
        cdef Errand errand = Errand.__new__(Errand)
        cdef object first
        cdef bytes lines
        errand._courier = self
        errand.records = records
        errand.parcel = parcel
        errand.passage = passage
        if self._stamper is not None and len(records) == 1:
            first = records[0]
            lines = self._stamper.lines(first.seq, first.received_ms, first.attempts, wall_ms)
        else:
            lines = self._lines(records, body, wall_ms)
        self.under_way.add(errand)
        if self._endpoint is not None:
            self._endpoint.begin(errand, body, lines, now_ns)
        else:
            errand._request = self._post_soon(body, lines, errand)
        return 0

    def cancel(self):
        cdef Errand errand
        for errand in self.under_way:
            if errand._request is not None:
                errand._request.cancel()
            else:
                errand.cancel()

    # -- what the answer means

    cdef int conclude(self, Errand errand, bint is_plain_success, object answer) except -1:
        """An errand is over; `answer` is for who judges what is no plain success."""
        self.under_way.discard(errand)
        try:
            if is_plain_success:
                self.deliver(errand)
            else:
                self._unusual(errand, answer)
        except Exception as error:
            self._failed(error)
        if self.is_draining:
            self._ended()
        return 0

    cdef int deliver(self, Errand errand) except -1:
        cdef GateCore gate = self._gate
        cdef HotBacklog backlog = self._backlog
        cdef object record = errand.records[0]
        cdef bint had_room = gate.takes_retry()
        cdef int64_t age_ms = <int64_t>self._clock.wall_ms() - <int64_t>record.received_ms
        self.delivered += 1
        if gate.well_untold(errand.passage, self._clock.now_ns()):
            self._recovered()
        self.latency.put(age_ms * NS_PER_MS if age_ms > 0 else 0, 1)
        self.settle(record)
        self.start()
        gate.tell_left()
        if not had_room and gate.takes_retry():
            # Retries may have held all their places, and then what waits was not looked at.
            backlog.wake_all()
        return 0

    cdef int settle(self, object record) except -1:
        """A record has been delivered: that goes to disk, and the next of its contact need not wait for it."""
        cdef Ends ends = self._open
        cdef bint is_new = ends is None
        if is_new:
            ends = Ends.__new__(Ends)
            ends._courier = self
            ends.records = []
        ends.records.append(record)
        ends.count(record.counts)
        self.settling += 1
        self._backlog.free_lane(record)
        if is_new:
            self._open = ends
            self._gather(self._close)  # which it may call at once
        if len(ends.records) == CROWD or self._backlog.memory.closed:
            self._hurry()
        return 0

    def _close(self):
        """The change of the open ends. What ends now begins another one."""
        cdef Ends ends = self._open
        self._open = None
        return self._make_change(
            inbound_done=ends.records,
            books=book_entries(self._entry_of, self._kinds, self._as_delivered, ends.kinds),
            on_commit=[ends.stored],
            on_failure=[ends.failed],
            size=len(ends.records),
        )


@cython.final
@cython.nonecheck(True)
cdef class Errand(Exchange):
    cpdef void answered(self, int status, bytes whole, Py_ssize_t body_at) except *:
        cdef bint is_plain = self._is_plain(
            status, PyBytes_AS_STRING(whole) + body_at, PyBytes_GET_SIZE(whole) - body_at
        )
        self._courier.conclude(self, is_plain, None if is_plain else whole_response(status, whole, body_at))

    cpdef void settled(self, Response response) except *:
        self(response)

    def __call__(self, answer not None):
        cdef int status = 0 if answer.status is None else answer.status
        cdef bytes body = answer.body
        cdef bint is_plain = self._is_plain(status, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        self._request = None  # which may have us as what it calls
        self._courier.conclude(self, is_plain, answer)

    cdef bint _is_plain(self, int status, const char* body, Py_ssize_t size) noexcept:  # looks at numbers and bytes
        """Whether an answer, 0 for none, is a success that says no more."""
        if not 200 <= status < 300 or self.parcel is not None:
            return False
        return not self._courier._wants_bodies or is_silent(body, size)


@cython.final
@cython.nonecheck(True)
cdef class Ends:
    def stored(self):
        cdef Courier courier = self._courier
        cdef object record
        cdef int kind
        for kind in range(INBOUND_KINDS):
            courier._books.end(kind, courier._as_delivered, self.kinds[kind])
        for record in self.records:
            courier._backlog.let_go(record)
        courier.settling -= len(self.records)
        self._is_told = True
        if courier.is_draining:
            courier._ended()

    cdef int count(self, bytes counts) except -1:
        cdef int kind
        for kind in range(INBOUND_KINDS):
            self.kinds[kind] += packed_count(counts, kind)
        return 0

    def failed(self, error):
        # The records stay taken and on disk; the process is about to end. Also after `stored` got as far as some of them.
        if not self._is_told:
            self._is_told = True
            self._courier.settling -= len(self.records)
        self._courier._ended()

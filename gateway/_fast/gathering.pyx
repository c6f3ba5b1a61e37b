"""What is put into the store, until a thread takes it: the steps that each change goes through on the loop.

What comes while the loop looks at all that has come goes together, at the end of that turn; what can wait goes with it, or
after a while by itself. `gateway.store.sqlite_store` has the rest, and says what a commit is.
"""

from libc.stdint cimport int64_t


cdef class Gathering:
    def __init__(self, loop not None, clock not None, double company_s, Py_ssize_t batch_max):
        self._loop = loop
        self._clock = clock
        self._company_s = company_s
        self._batch_max = batch_max
        self._gathered = []
        self._makers = []

    def put(self, change not None, *, bint can_wait=False):
        if self._failure is not None or self._is_closed:
            self._refuse(change)
            return
        if self._makers:
            self.make()
        self._gathered.append(change)
        self.expect(can_wait)

    def gather(self, make not None, *, bint can_wait=False):
        if self._failure is not None or self._is_closed:
            self._refuse(make())
            return
        self._makers.append(make)
        self.expect(can_wait)

    def hurry(self):
        if not self._is_handed_soon:
            self._is_handed_soon = True
            self._loop.call_soon(self._hand_over)

    cdef int make(self) except -1:
        """Make the changes that are gathered: what is put after this comes after them."""
        cdef list makers = self._makers
        cdef object make
        self._makers = []
        for make in makers:
            try:
                self._gathered.append(make())
            except Exception as error:
                self.waiting_changes -= 1
                self._tell_unmade(error)  # and the others are made, for somebody waits for each
        return 0

    cdef int expect(self, bint can_wait) except -1:
        """One more is put."""
        if self.waiting_changes == 0:
            self._waiting_since_ns = self._clock.now_ns()
        self.waiting_changes += 1
        if len(self._gathered) >= self._batch_max:
            self._hand_over()
        elif not can_wait or self._company_s == 0:
            self.hurry()
        elif not self._is_handed_soon and self._timer is None:
            self._timer = self._loop.call_later(self._company_s, self._hand_over)
        return 0

    def _hand_over(self):
        """To the thread, what was put while the loop looked at all that had come: what comes together shares a commit."""
        cdef list gathered
        self._is_handed_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._makers:
            self.make()
        if self._gathered:
            gathered = self._gathered
            self._gathered = []
            self._take(gathered)

    def _tell_changes(self, list changes not None):
        """These are stored: tell who put them."""
        cdef object change, call
        cdef Py_ssize_t done = 0
        for change in changes:
            self.changes += <int64_t>change.size
        try:
            for change in changes:
                for call in change.on_commit:
                    call()
                done += 1
        except Exception as error:
            self.waiting_changes -= done
            self._tell_failed(changes[done:], error)
            return
        self.waiting_changes -= done
        # Of those that are left the oldest came after the last batch was taken, which was no later than this.
        self._waiting_since_ns = self._clock.now_ns()

"""One request on its way, and the answer it waits for.

What a request costs is that of its objects, so this one is all there is: it is made, written by a connection, and
called with what came back. In C it is meant to be subclassed: `answered` gets the bytes as they were received, and
neither a Response nor a call of Python lies between them and who reads them.

Not done: a second use. An exchange is over once, and for good.
"""

cimport cython

from .response cimport Response, whole_response


@cython.freelist(16)
cdef class Exchange:
    def held_by(self, holder):
        self.holder = holder

    def settle(self, Response response not None):
        self._end()
        self.settled(response)

    def cancel(self):
        cdef object holder = self.holder
        self.holder = self.done = None
        self.is_over = True
        if holder is not None:
            holder.abandon(self)

    cdef int settle_whole(self, int status, bytes whole, Py_ssize_t body_at) except -1:
        self._end()
        self.answered(status, whole, body_at)
        return 0

    cpdef void answered(self, int status, bytes whole, Py_ssize_t body_at) except *:
        self.settled(whole_response(status, whole, body_at))

    cpdef void settled(self, Response response) except *:
        cdef object done = self.done
        self.done = None
        assert done is not None, "nobody to tell"
        done(response)

    cdef int _end(self) except -1:
        assert not self.is_over, "answered twice"
        self.is_over = True
        self.holder = None
        return 0

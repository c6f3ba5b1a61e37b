"""What a request of ours came to.

An answer that came whole is kept as it came. Most callers look at its status alone, so head and body are cut out of it
when they are asked for: making a Response costs one object, and none where the freelist has one.

Not done: headers that come more than once as a list. Whoever asks for one wants one.
"""

cimport cython


@cython.final
@cython.no_gc  # nothing in it refers to anything but bytes and text
@cython.freelist(16)
cdef class Response:
    def __init__(
        self,
        status,
        headers not None,
        bytes body not None,
        str error not None = "",
        *,
        bint was_sent = True,
    ):
        self.status = status
        self._headers = headers
        self._body = body
        self.error = error
        self.was_sent = was_sent

    @property
    def headers(self):
        if self._headers is None:
            self._headers = self._whole[: self._body_at]
        if isinstance(self._headers, bytes):
            self._headers = read_head(self._headers)
        return self._headers

    @property
    def body(self):
        if self._body is None:
            self._body = self._whole[self._body_at :]
        return self._body


cdef Response whole_response(int status, bytes whole, Py_ssize_t body_at):
    cdef Response response = Response.__new__(Response)
    response.status = status
    response.error = ""
    response.was_sent = True
    response._whole = whole
    response._body_at = body_at
    return response


cpdef Response unsent(str error):
    return Response(None, {}, b"", error, was_sent=False)


cpdef Response unanswered(str error):
    return Response(None, {}, b"", error)


def add_header(dict headers not None, bytes name not None, bytes value not None):
    put_header(headers, name, value)


cdef int put_header(dict headers, bytes name, bytes value) except -1:
    cdef str key = name.decode("latin-1").lower()
    cdef str text = value.strip(b" \t").decode("latin-1")
    headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return 0


cdef dict read_head(bytes head):
    cdef dict headers = {}
    cdef bytes line, name, colon, value
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            put_header(headers, name, value)
    return headers

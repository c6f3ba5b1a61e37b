cdef class Response:
    cdef readonly object status  # an int; None: there was no answer
    cdef readonly str error
    cdef readonly bint was_sent
    # Of a whole answer as it came, head and body are cut out when they are asked for.
    cdef bytes _whole
    cdef Py_ssize_t _body_at
    cdef object _headers  # a dict; bytes, a head that was not read yet; None: it is still in _whole
    cdef bytes _body  # None: it is still in _whole


cdef Response whole_response(int status, bytes whole, Py_ssize_t body_at)

# No answer, as nothing was sent; and none to what was sent, at least in part.
cpdef Response unsent(str error)
cpdef Response unanswered(str error)
